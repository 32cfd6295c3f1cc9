"""Routing rules of a tenant: checked, saved, shown. What their fields mean is in model.rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from admin import tenants
from admin.lookup import find_channel, pick
from model.alert import printable
from model.database import connection, transaction, utcnow
from model.problems import InvalidInput, Problem, path, problems_of
from model.rulebook import SPEC_FIELDS
from model.rules import RuleSpec
from model.states import EventType
from model.tables import Channel, RoutingRule

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class RuleGiven:
    """A checked rule, and its channel as it was written: a name, or an id."""

    spec: RuleSpec
    channel: str | int
    channel_field: str


def check_rule(data: Any, *, prefix: str = "") -> RuleGiven:
    """Check a rule as it was given. Whether its channel is there, is another question.

    Args:
        data: the rule, decoded.
        prefix: its place in the whole input, such as "rules[2]".

    Raises:
        InvalidInput: names each field and the rule that it breaks.
    """
    if not isinstance(data, dict):
        raise InvalidInput([Problem(prefix, "a rule must be an object with name and channel")])
    rest = {name: value for name, value in data.items() if name not in ("channel", "channel_id")}
    problems: list[Problem] = []
    channel, field = _channel_of(data, prefix, problems)
    spec = None
    try:
        spec = RuleSpec.model_validate(rest)
    except ValidationError as error:
        problems += problems_of(error, prefix=prefix, known=[*RuleSpec.model_fields, "channel", "channel_id"])
    if problems or spec is None or channel is None:
        raise InvalidInput(problems)
    return RuleGiven(spec, channel, field)


def _channel_of(
    data: Mapping[str, Any], prefix: str, problems: list[Problem]
) -> tuple[str | int | None, str]:
    given = [name for name in ("channel", "channel_id") if data.get(name) is not None]
    if not given:
        problems.append(Problem(path(["channel"], prefix), "required: the name or id of a channel"))
        return None, "channel"
    where, value = path([given[0]], prefix), data[given[0]]
    if len(given) > 1:
        problems.append(Problem(path(["channel_id"], prefix), "give channel or channel_id, not both"))
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        problems.append(Problem(where, "must be the name or id of a channel"))
        return None, where
    try:
        printable(str(value))  # PostgreSQL could not even look for it
    except ValueError as error:
        problems.append(Problem(where, str(error)))
    return value, where


def warnings_of(spec: RuleSpec, *, prefix: str = "") -> list[str]:
    """What is allowed, and probably not meant."""
    if spec.throttle_minutes and EventType.CLOSED in spec.deliver_on and len(spec.deliver_on) > 1:
        where = path(["throttle_minutes"], prefix)
        return [f"{where}: a CLOSED within that time is held back too; give CLOSED a rule of its own"]
    return []


def list_rules(tenant_id: str) -> list[dict[str, Any]]:
    """A tenant's rules in the order in which they are asked, as `rule_document` shows them."""
    with connection():
        query = (
            RoutingRule.select(RoutingRule, Channel.id, Channel.name)
            .join(Channel)
            .where(RoutingRule.tenant == tenant_id)
            .order_by(RoutingRule.priority, RoutingRule.id)
        )
        return [rule_document(rule) for rule in query]


def find_rule(tenant_id: str, reference: str | int) -> RoutingRule:
    """A rule by its name or id.

    Raises:
        LookupError: this tenant has none; another tenant's id gets the same words.
    """
    found: RoutingRule | None = pick(
        RoutingRule.select().where(RoutingRule.tenant == tenant_id), RoutingRule, reference
    )
    if found is None:
        raise LookupError(f"there is no rule {reference!r} in tenant {tenant_id!r}")
    return found


def create_rule(tenant_id: str, data: Mapping[str, Any]) -> RoutingRule:
    """Save a new rule.

    Raises:
        InvalidInput: something is wrong with it, its name is taken, or the tenant has no such channel.
        LookupError: there is no such tenant.
    """
    given = check_rule(data)
    with transaction():
        tenants.lock(tenant_id)
        channel = channel_for(tenant_id, given)
        _require_free(tenant_id, given.spec.name)
        return insert(tenant_id, given.spec, channel.id)


def update_rule(
    tenant_id: str, reference: str | int, data: Mapping[str, Any], *, partial: bool = True
) -> RoutingRule:
    """Change a rule.

    Args:
        tenant_id: whose.
        reference: its name or id.
        data: the fields to change, or the whole rule.
        partial: which of the two.

    Raises:
        InvalidInput, LookupError: as above.
    """
    with transaction():
        tenants.lock(tenant_id)
        rule = find_rule(tenant_id, reference)
        present: dict[str, Any] = {name: getattr(rule, name) for name in SPEC_FIELDS} if partial else {}
        if partial and not {"channel", "channel_id"} & set(data):
            present["channel_id"] = rule.channel_id
        given = check_rule({**present, **data})
        channel = channel_for(tenant_id, given)
        if given.spec.name != rule.name:
            _require_free(tenant_id, given.spec.name)
        save(rule, given.spec, channel.id)
        return rule


def delete_rule(tenant_id: str, reference: str | int) -> None:
    """Delete a rule. Jobs that it caused remain on record.

    Raises:
        LookupError: as above.
    """
    with transaction():
        tenants.lock(tenant_id)
        find_rule(tenant_id, reference).delete_instance()


def channel_for(tenant_id: str, given: RuleGiven) -> Channel:
    """The channel that a rule names.

    Raises:
        InvalidInput: this tenant has none; another tenant's id gets the same words.
    """
    try:
        return find_channel(tenant_id, given.channel)
    except LookupError as error:
        raise InvalidInput([Problem(given.channel_field, str(error))]) from None


def insert(tenant_id: str, spec: RuleSpec, channel_id: int) -> RoutingRule:
    """Write a new rule. Within a transaction of the caller's."""
    return RoutingRule.create(tenant=tenant_id, channel=channel_id, **spec.model_dump(mode="json"))


def changed_fields(rule: RoutingRule, spec: RuleSpec, channel_id: int | None) -> list[str]:
    """Which fields of a stored rule differ."""
    wanted = spec.model_dump(mode="json")
    moved = ["channel"] if rule.channel_id != channel_id else []
    return moved + [name for name in SPEC_FIELDS if getattr(rule, name) != wanted[name]]


def save(rule: RoutingRule, spec: RuleSpec, channel_id: int) -> list[str]:
    """Write what differs, if anything does. Within a transaction of the caller's."""
    changed = changed_fields(rule, spec, channel_id)
    if changed:
        for name, value in spec.model_dump(mode="json").items():
            setattr(rule, name, value)
        rule.channel_id = channel_id
        rule.updated_at = tenants.advance(rule.updated_at, utcnow())
        rule.save()
    return changed


def rule_document(rule: RoutingRule) -> dict[str, Any]:
    """A rule as the API and the CLI show it."""
    return {
        "id": rule.id,
        "channel_id": rule.channel_id,
        "channel": rule.channel.name,
        **{name: getattr(rule, name) for name in SPEC_FIELDS},
        "created_at": rule.created_at.isoformat(),
        "updated_at": rule.updated_at.isoformat(),
    }


def _require_free(tenant_id: str, name: str) -> None:
    if RoutingRule.select().where((RoutingRule.tenant == tenant_id) & (RoutingRule.name == name)).exists():
        raise InvalidInput([Problem("name", f"tenant {tenant_id!r} has a rule {name!r} already")])

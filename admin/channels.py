"""Channels of a tenant: checked, saved, shown without their secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, StrictBool, ValidationError, field_validator
from pydantic.types import JsonValue  # pydantic evaluates annotations

from admin import tenants
from admin.lookup import find_channel
from admin.secrets import mask, reveal, unmask
from model.alert import Identifier  # as above
from model.database import Unreadable, connection, transaction, utcnow
from model.problems import InvalidInput, Problem, problems_of
from model.tables import Channel, RoutingRule
from senders.registry import ALIASES, CHANNEL_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from senders.base import ChannelConfig

#: The push channel in whose name users are notified without a rule (actors.intake.DIRECT). It may be
#: configured, for credentials of its own, and is never pruned.
RESERVED = "direct"


class _Given(BaseModel):
    """A channel as people write it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Identifier
    channel_type: str
    config: dict[str, JsonValue] = {}
    is_enabled: StrictBool = True

    @field_validator("channel_type")
    @classmethod
    def _known(cls, value: str) -> str:
        kind = ALIASES.get(value, value)
        if kind not in CHANNEL_TYPES:
            raise ValueError(f"must be one of {', '.join(sorted({*CHANNEL_TYPES, *ALIASES}))}")
        return kind


class _Users(BaseModel):
    """Whom a push channel names, as no database could look for others (senders.push.PushConfig knows of none).

    Asked when a channel is saved, and not when it is read: of one that was saved earlier the other users are reached.
    """

    user_ids: tuple[Identifier, ...] = ()


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """A checked channel.

    Attributes:
        config: as it is stored, secrets in the clear.
    """

    name: str
    channel_type: str
    is_enabled: bool
    config: dict[str, Any] = field(repr=False)


FIELDS = ("name", "channel_type", "config", "is_enabled")


def check_channel(data: Any, *, prefix: str = "", stored: Channel | None = None) -> ChannelSpec:
    """Check a channel as it was given.

    Args:
        data: the channel, decoded.
        prefix: its place in the whole input, such as "channels[2]".
        stored: the channel that it replaces, whose secrets it may keep by giving their masks.

    Raises:
        InvalidInput: names each field and the rule that it breaks, never a value.
    """
    if not isinstance(data, dict):
        raise InvalidInput(
            [Problem(prefix, "a channel must be an object with name, channel_type and config")]
        )
    problems: list[Problem] = []
    try:
        given = _Given.model_validate(data)
    except ValidationError as error:
        problems = problems_of(error, prefix=prefix, known=_Given.model_fields)
        given = None
    kind = data.get("channel_type")
    kind = ALIASES.get(kind, kind) if isinstance(kind, str) else None
    config = data.get("config", {})
    where = f"{prefix}.config" if prefix else "config"
    checked: ChannelConfig | None = None
    if isinstance(config, Unreadable):
        # A change of other fields would keep it, and there is nothing to keep.
        problems.append(Problem(where, Unreadable.WHY))
    elif kind in CHANNEL_TYPES and isinstance(config, dict):
        # Also when the rest is wrong: all problems at once.
        same = stored is not None and stored.channel_type == kind
        config, masks = unmask(config, stored.config if same and stored is not None else {}, prefix=where)
        problems += masks
        if not masks:
            checked, wrong = _check_config(CHANNEL_TYPES[kind], config, where)
            problems += wrong
    if given is not None and given.name == RESERVED and given.channel_type != "push":
        problems.append(
            Problem(f"{prefix}.name".lstrip("."), f"{RESERVED!r} is reserved for a channel of type push")
        )
    if problems or given is None or checked is None:
        raise InvalidInput(problems)
    return ChannelSpec(given.name, given.channel_type, given.is_enabled, reveal(checked))


def _check_config(
    kind: type[ChannelConfig], config: Mapping[str, Any], where: str
) -> tuple[ChannelConfig | None, list[Problem]]:
    try:
        checked = kind.model_validate(config)
        _Users.model_validate(config)
    except ValidationError as error:
        return None, problems_of(error, prefix=where, known=_names(kind))
    return checked, []


def _names(kind: type[BaseModel]) -> set[str]:
    """The names of a config's fields, and of those within them: what a typo may have meant."""
    names = set(kind.model_fields)
    for each in kind.model_fields.values():
        for part in (each.annotation, *getattr(each.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                names |= _names(part)
    return names


def list_channels(tenant_id: str) -> list[dict[str, Any]]:
    """A tenant's channels by name, as `channel_document` shows them."""
    with connection():
        query = Channel.select().where(Channel.tenant == tenant_id).order_by(Channel.name)
        return [channel_document(channel) for channel in query]


def create_channel(tenant_id: str, data: Mapping[str, Any]) -> Channel:
    """Save a new channel.

    Raises:
        InvalidInput: something is wrong with it, or the name is taken.
        LookupError: there is no such tenant.
    """
    spec = check_channel(data)
    with transaction():
        tenants.lock(tenant_id)
        _require_free(tenant_id, spec.name)
        return insert(tenant_id, spec)


def update_channel(
    tenant_id: str, reference: str | int, data: Mapping[str, Any], *, partial: bool = True
) -> Channel:
    """Change a channel.

    Args:
        tenant_id: whose.
        reference: its name or id.
        data: the fields to change (`config` is one field, replaced whole), or the whole channel.
        partial: which of the two.

    Raises:
        InvalidInput, LookupError: as above.
    """
    with transaction():
        tenants.lock(tenant_id)
        channel = find_channel(tenant_id, reference)
        given = {**(_written(channel) if partial else {}), **data}
        spec = check_channel(given, stored=channel)
        if channel.name == RESERVED != spec.name:
            raise InvalidInput([Problem("name", f"{RESERVED!r} is reserved, and cannot be renamed")])
        if spec.name != channel.name:
            _require_free(tenant_id, spec.name)
        save(channel, spec)
        return channel


def _written(channel: Channel) -> dict[str, Any]:
    return {name: getattr(channel, name) for name in FIELDS}


def delete_channel(tenant_id: str, reference: str | int) -> int:
    """Delete a channel and the rules that lead to it; how many rules those were. Its jobs remain on record.

    Raises:
        LookupError: as above.
    """
    with transaction():
        tenants.lock(tenant_id)
        channel = find_channel(tenant_id, reference)
        rules: int = RoutingRule.select().where(RoutingRule.channel == channel.id).count()
        channel.delete_instance()
        return rules


def insert(tenant_id: str, spec: ChannelSpec) -> Channel:
    """Write a new channel. Within a transaction of the caller's."""
    return Channel.create(tenant=tenant_id, **{name: getattr(spec, name) for name in FIELDS})


def changed_fields(channel: Channel, spec: ChannelSpec) -> list[str]:
    """Which fields of a stored channel differ; `config.url` for a member of the config, never its value."""
    changed = [name for name in FIELDS if name != "config" and getattr(channel, name) != getattr(spec, name)]
    before, after = channel.config, spec.config
    if isinstance(before, Unreadable):
        return [*changed, "config"]
    names = sorted({*before, *after})
    return changed + [f"config.{name}" for name in names if before.get(name, ...) != after.get(name, ...)]


def save(channel: Channel, spec: ChannelSpec) -> list[str]:
    """Write what differs, if anything does. Within a transaction of the caller's."""
    changed = changed_fields(channel, spec)
    if changed:
        for name in FIELDS:
            setattr(channel, name, getattr(spec, name))
        # What is known of its health was said of another destination.
        channel.health, channel.health_detail, channel.health_at = "unknown", None, None
        channel.updated_at = tenants.advance(channel.updated_at, utcnow())
        channel.save()
    return changed


def public_config(channel: Channel) -> dict[str, Any]:
    """A channel's config with a mask in place of each secret."""
    return mask(CHANNEL_TYPES.get(channel.channel_type), channel.config)


def channel_document(channel: Channel) -> dict[str, Any]:
    """A channel as the API and the CLI show it."""
    is_lost = isinstance(channel.config, Unreadable)
    return {
        "id": channel.id,
        "name": channel.name,
        "channel_type": channel.channel_type,
        "config": public_config(channel),
        "is_enabled": channel.is_enabled,
        "health": "misconfigured" if is_lost else channel.health,
        "health_detail": f"unreadable config: {Unreadable.WHY}" if is_lost else channel.health_detail,
        "health_at": channel.health_at.isoformat() if channel.health_at else None,
        "created_at": channel.created_at.isoformat(),
        "updated_at": channel.updated_at.isoformat(),
    }


def _require_free(tenant_id: str, name: str) -> None:
    if Channel.select().where((Channel.tenant == tenant_id) & (Channel.name == name)).exists():
        raise InvalidInput([Problem("name", f"tenant {tenant_id!r} has a channel {name!r} already")])


def names_unique(names: Iterable[tuple[str, str]]) -> list[Problem]:
    """A problem for each (path, name) whose name came before."""
    seen: dict[str, str] = {}
    problems = []
    for where, name in names:
        first = seen.setdefault(name, where)
        if first != where:
            problems.append(Problem(f"{where}.name", f"{first} is called {name!r} already"))
    return problems

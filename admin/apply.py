"""Make a tenant's configuration what a document says, in one transaction, and tell what that changes.

A dry run is the same work, rolled back: what it tells is what would happen. An entry that is as it should be
is not touched, so that applying a document twice changes nothing, no version and no time of change.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from admin import channels, rules, tenants, users
from admin.desired import check, tenant_named
from model.database import transaction
from model.problems import InvalidInput, Problem
from model.tables import Channel, Device, PreferenceRow, RoutingRule, Tenant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from admin.desired import Desired, UserSpec
    from admin.users import DeviceSpec
    from config.settings import Network

ADDED, CHANGED, REMOVED, UNCHANGED = "added", "changed", "removed", "unchanged"


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one thing.

    Attributes:
        kind: tenant, channel, rule, device or preferences.
        action: added, changed, removed or unchanged.
        fields: the names of the fields that change; values are not told, for some of them are secrets.
    """

    kind: str
    name: str
    action: str
    fields: tuple[str, ...] = ()


@dataclass(slots=True)
class Diff:
    """What an apply changes, or would change."""

    tenant_id: str
    dry_run: bool
    changes: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def of(self, action: str) -> list[Change]:
        """The changes of one kind."""
        return [change for change in self.changes if change.action == action]

    def document(self) -> dict[str, Any]:
        """The diff as `tocsin apply --json` shows it."""

        def shown(action: str) -> list[dict[str, Any]]:
            return [
                {"kind": change.kind, "name": change.name}
                | ({"fields": list(change.fields)} if change.fields else {})
                for change in self.of(action)
            ]

        return {
            "tenant": self.tenant_id,
            "dry_run": self.dry_run,
            ADDED: shown(ADDED),
            CHANGED: shown(CHANGED),
            REMOVED: shown(REMOVED),
            UNCHANGED: len(self.of(UNCHANGED)),
            "warnings": self.warnings,
        }


def apply(
    document: Any,
    *,
    tenant_id: str | None = None,
    prune: bool = False,
    dry_run: bool = False,
    allowed_networks: Sequence[Network] = (),
) -> Diff:
    """Make a tenant what a document says.

    Args:
        document: what `tocsin apply` reads; see `admin.desired`.
        tenant_id: the tenant, if the document names none. It is made if it is not there.
        prune: remove what the document's lists lack. A list that is missing altogether is let alone.
        dry_run: change nothing.
        allowed_networks: TOCSIN_ALLOWED_NETWORKS; a push service may be there.

    Raises:
        InvalidInput: all that is wrong with the document; nothing was changed.
        LookupError: it names no tenant, and there are several.
    """
    named = tenant_named(document)
    if named is not None and tenant_id not in (None, named):
        raise InvalidInput([Problem("tenant", f"is {named!r} here and {tenant_id!r} on the command line")])
    with suppress(_DryRunError), transaction():
        target = named or tenant_id or tenants.resolve(None)
        diff = Diff(target, dry_run)
        is_new = not Tenant.select().where(Tenant.tenant_id == target).exists()
        if tenants.ensure(target):
            diff.changes.append(Change("tenant", target, ADDED))
        if not is_new:
            tenants.lock(target)
        stored = {channel.name: channel for channel in Channel.select().where(Channel.tenant == target)}
        desired = check(document, stored, allowed_networks)
        diff.warnings += desired.warnings
        _Apply(target, diff, prune=prune).run(desired, stored)
        if dry_run:
            raise _DryRunError
    return diff


class _DryRunError(Exception):
    """Ends the transaction of a dry run, so that it is rolled back."""


class _Apply:
    """One apply, within its transaction."""

    def __init__(self, tenant_id: str, diff: Diff, *, prune: bool) -> None:
        self.tenant_id = tenant_id
        self.diff = diff
        self.prune = prune

    def run(self, desired: Desired, stored: dict[str, Channel]) -> None:
        """Channels before the rules that name them, rules before the channels that go."""
        now_there = self._channels(desired, stored)
        obsolete = []
        if self.prune and desired.channels is not None:
            named = {spec.name for _, spec in desired.channels} | {channels.RESERVED}
            obsolete = [channel for name, channel in stored.items() if name not in named]
        self._rules(desired, now_there, {channel.id for channel in obsolete})
        for channel in sorted(obsolete, key=lambda each: each.name):
            self._orphans(channel)
            channel.delete_instance()
            self._tell("channel", channel.name, REMOVED)
        self._users(desired)

    def _tell(self, kind: str, name: str, action: str, fields: Sequence[str] = ()) -> None:
        self.diff.changes.append(Change(kind, name, action, tuple(fields)))

    def _channels(self, desired: Desired, stored: dict[str, Channel]) -> dict[str, Channel]:
        there = dict(stored)
        for _, spec in desired.channels or ():
            channel = stored.get(spec.name)
            if channel is None:
                there[spec.name] = channels.insert(self.tenant_id, spec)
                self._tell("channel", spec.name, ADDED)
            else:
                changed = channels.save(channel, spec)
                self._tell("channel", spec.name, CHANGED if changed else UNCHANGED, changed)
        return there

    def _rules(self, desired: Desired, there: dict[str, Channel], obsolete: set[int]) -> None:
        if desired.rules is None:
            return
        stored = {
            rule.name: rule for rule in RoutingRule.select().where(RoutingRule.tenant == self.tenant_id)
        }
        by_id = {channel.id: channel for channel in there.values()}
        problems = []
        for _, given in desired.rules:
            reference = given.channel
            channel = there.get(reference) if isinstance(reference, str) else None
            if channel is None and str(reference).isascii() and str(reference).isdigit():
                channel = by_id.get(int(reference))
            if channel is None or channel.id in obsolete:
                why = f"there is no channel {reference!r} in tenant {self.tenant_id!r}"
                problems.append(
                    Problem(given.channel_field, why if channel is None else f"{why} any more: it is pruned")
                )
                continue
            rule = stored.get(given.spec.name)
            if rule is None:
                rules.insert(self.tenant_id, given.spec, channel.id)
                self._tell("rule", given.spec.name, ADDED)
            else:
                changed = rules.save(rule, given.spec, channel.id)
                self._tell("rule", given.spec.name, CHANGED if changed else UNCHANGED, changed)
        if problems:
            raise InvalidInput(problems)
        if self.prune:
            named = {given.spec.name for _, given in desired.rules}
            for name in sorted(set(stored) - named):
                stored[name].delete_instance()
                self._tell("rule", name, REMOVED)

    def _orphans(self, channel: Channel) -> None:
        """Rules that go with their channel, where the document's rules were not asked."""
        for rule in RoutingRule.select().where(RoutingRule.channel == channel.id).order_by(RoutingRule.name):
            self._tell("rule", rule.name, REMOVED)

    def _users(self, desired: Desired) -> None:
        if desired.users is None:
            return
        mine = Device.tenant == self.tenant_id
        stored = {
            (each.platform, each.app_id, each.address_hash): each for each in Device.select().where(mine)
        }
        preferences = {
            row.user_id: row.preferences
            for row in PreferenceRow.select().where(PreferenceRow.tenant == self.tenant_id)
        }
        for _, user in desired.users:
            for where, device in user.devices or ():
                self._device(user.user_id, where, device, stored.get(device.key))
            self._preferences(user, preferences.get(user.user_id))
        if self.prune:
            self._prune_users(desired.users, stored, preferences)

    def _device(self, user_id: str, where: str, spec: DeviceSpec, stored: Device | None) -> None:
        name = f"{user_id}: {spec.label}"
        if stored is None:
            users.save_device(self.tenant_id, user_id, spec)
            self._tell("device", name, ADDED)
            return
        if stored.disabled_at is not None:
            # A file that is applied every hour must not wake a token every hour that its push service
            # declared dead.
            self.diff.warnings.append(
                f"{where}: disabled ({stored.disabled_reason or 'no reason given'}), and remains so; "
                "the app enables it by registering it anew"
            )
        changed = []
        if stored.user_id != user_id:
            changed.append("user_id")
        if spec.name is not None and stored.name != spec.name:
            changed.append("name")
        if stored.subscription != spec.subscription:
            changed.append("subscription")
        if changed:
            stored.user_id, stored.subscription = user_id, spec.subscription
            stored.name = stored.name if spec.name is None else spec.name
            stored.save()
        self._tell("device", name, CHANGED if changed else UNCHANGED, changed)

    def _preferences(self, user: UserSpec, stored: dict[str, Any] | None) -> None:
        if user.preferences is None:
            return
        if stored == user.preferences:
            self._tell("preferences", user.user_id, UNCHANGED)
            return
        users.save_preferences(self.tenant_id, user.user_id, user.preferences)
        before = stored if isinstance(stored, dict) else {}  # a hand may have written anything
        names = sorted({*before, *user.preferences})
        changed = [name for name in names if before.get(name, ...) != user.preferences.get(name, ...)]
        self._tell(
            "preferences",
            user.user_id,
            ADDED if stored is None else CHANGED,
            () if stored is None else changed,
        )

    def _prune_users(
        self,
        desired: Sequence[tuple[str, UserSpec]],
        stored: dict[tuple[str, str, str], Device],
        preferences: dict[str, dict[str, Any]],
    ) -> None:
        by_id = {user.user_id: user for _, user in desired}
        kept = {device.key for _, user in desired for _, device in user.devices or ()}
        for key, device in stored.items():
            user = by_id.get(device.user_id)
            if key not in kept and (user is None or user.devices is not None):
                device.delete_instance()
                label = f"{device.user_id}: {device.platform} {device.name or device.address_hash[:8]}"
                self._tell("device", label, REMOVED)
        for user_id in sorted(set(preferences) - set(by_id)):
            mine = (PreferenceRow.tenant == self.tenant_id) & (PreferenceRow.user_id == user_id)
            PreferenceRow.delete().where(mine).execute()
            self._tell("preferences", user_id, REMOVED)

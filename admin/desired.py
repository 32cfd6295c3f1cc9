"""What `apply` reads: a tenant's channels, rules and users as one document, checked whole.

A list that is missing says nothing about what is there; an empty one says that nothing should be.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from admin import tenants
from admin.channels import ChannelSpec, check_channel, names_unique
from admin.rules import RuleGiven, check_rule, warnings_of
from admin.users import DeviceSpec, check_device_given, check_preferences, check_user_id
from model.problems import InvalidInput, Problem, path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from config.settings import Network
    from model.tables import Channel

KEYS = ("tenant", "channels", "rules", "users")
USER_KEYS = ("user_id", "devices", "preferences")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class UserSpec:
    """A checked user. None: the document says nothing of it."""

    user_id: str
    devices: list[tuple[str, DeviceSpec]] | None
    preferences: dict[str, Any] | None


@dataclass(slots=True)
class Desired:
    """A checked document. Each entry comes with its path; None: the document says nothing of it."""

    tenant_id: str | None = None
    channels: list[tuple[str, ChannelSpec]] | None = None
    rules: list[tuple[str, RuleGiven]] | None = None
    users: list[tuple[str, UserSpec]] | None = None
    warnings: list[str] = field(default_factory=list)


def tenant_named(document: Any) -> str | None:
    """The tenant that a document names, if it does.

    Raises:
        InvalidInput: it is no document of ours, or no tenant can have this name.
    """
    if not isinstance(document, dict):
        raise InvalidInput([Problem("", f"must be a mapping with some of {', '.join(KEYS)}")])
    tenant_id = document.get("tenant")
    if tenant_id is None:
        return None
    if not isinstance(tenant_id, str):
        raise InvalidInput([Problem("tenant", "must be a string; put it in quotes")])
    tenants.check_name(tenant_id)
    return tenant_id


def check(document: Any, stored: Mapping[str, Channel], allowed_networks: Sequence[Network]) -> Desired:
    """Check a whole document.

    Args:
        document: what the YAML holds.
        stored: the tenant's present channels by name, whose secrets may be kept by giving their masks.
        allowed_networks: TOCSIN_ALLOWED_NETWORKS; a push service may be there.

    Raises:
        InvalidInput: all that is wrong with it, at once.
    """
    desired = Desired(tenant_named(document))
    problems = _unknown(document, KEYS, "")

    def each(name: str, check_one: Callable[[Any, str], T]) -> list[tuple[str, T]] | None:
        entries = _list(document, name, "", problems)
        return None if entries is None else _checked(entries, check_one, problems)

    def channel(data: Any, prefix: str) -> ChannelSpec:
        name = data.get("name") if isinstance(data, dict) else None
        return check_channel(data, prefix=prefix, stored=stored.get(name) if isinstance(name, str) else None)

    desired.channels = each("channels", channel)
    desired.rules = each("rules", lambda data, prefix: check_rule(data, prefix=prefix))
    desired.users = each("users", lambda data, prefix: _user(data, prefix, allowed_networks))
    problems += names_unique((where, spec.name) for where, spec in desired.channels or ())
    problems += names_unique((where, given.spec.name) for where, given in desired.rules or ())
    problems += _users_unique(desired.users or ())
    if problems:
        raise InvalidInput(problems)
    for where, given in desired.rules or ():
        desired.warnings += warnings_of(given.spec, prefix=where)
    return desired


def _user(data: Any, prefix: str, allowed_networks: Sequence[Network]) -> UserSpec:
    if not isinstance(data, dict):
        raise InvalidInput([Problem(prefix, "a user must be a mapping with user_id")])
    problems = _unknown(data, USER_KEYS, prefix)
    user_id, preferences = "", None
    try:
        user_id = check_user_id(data.get("user_id"), field=path(["user_id"], prefix))
    except InvalidInput as error:
        problems += error.problems
    entries = _list(data, "devices", prefix, problems)
    devices = None
    if entries is not None:
        devices = _checked(
            entries,
            lambda device, where: check_device_given(device, allowed_networks, prefix=where),
            problems,
        )
    if data.get("preferences") is not None:
        try:
            preferences = check_preferences(data["preferences"], prefix=path(["preferences"], prefix))
        except InvalidInput as error:
            problems += error.problems
    if problems:
        raise InvalidInput(problems)
    return UserSpec(user_id, devices, preferences)


def _users_unique(users: Sequence[tuple[str, UserSpec]]) -> list[Problem]:
    """No user and no device stands in the document twice."""
    problems = []
    seen: dict[Any, str] = {}
    for where, user in users:
        if seen.setdefault(user.user_id, where) != where:
            problems.append(Problem(f"{where}.user_id", f"{seen[user.user_id]} is {user.user_id!r} already"))
        for device_at, device in user.devices or ():
            first = seen.setdefault(device.key, device_at)
            if first != device_at:
                problems.append(Problem(device_at, f"{first} is the same device: a device has one user"))
    return problems


def _list(
    data: Mapping[str, Any], name: str, prefix: str, problems: list[Problem]
) -> list[tuple[str, Any]] | None:
    """The entries under a key with their paths; None where the key is missing."""
    where = path([name], prefix)
    if name not in data:
        return None
    entries = data[name]
    if entries is None:  # `rules:` with nothing behind it, as after commenting all of them out
        return []
    if not isinstance(entries, list):
        problems.append(Problem(where, "must be a list"))
        return None
    return [(f"{where}[{index}]", entry) for index, entry in enumerate(entries)]


def _checked(
    entries: Sequence[tuple[str, Any]], check_one: Callable[[Any, str], T], problems: list[Problem]
) -> list[tuple[str, T]]:
    found = []
    for where, entry in entries:
        try:
            found.append((where, check_one(entry, where)))
        except InvalidInput as error:
            problems += error.problems
    return found


def _unknown(data: Mapping[Any, Any], keys: Sequence[str], prefix: str) -> list[Problem]:
    problems = []
    for key in data:
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, n=1)
            guess = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(keys)}"
            problems.append(Problem(path([str(key)], prefix), "no such field" + guess))
    return problems

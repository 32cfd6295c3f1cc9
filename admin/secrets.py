"""A channel's secrets are written and never read back: what is shown in their place.

Which fields are secrets is said by the config's type, where they are `SecretStr`; so a new provider cannot
forget it here. A mask that comes back in an update keeps what is stored, unless the destination changes with
it: whoever may write a channel could else send a secret that he may not read to an address of his own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretStr, ValidationError

from model.database import Unreadable
from model.problems import Problem, path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MASK = "********"

#: Fields of configs that say where a message goes.
DESTINATIONS = frozenset({"endpoint", "host", "port", "smtp_url", "url", "webhook_url"})

_NOTHING = object()


def reveal(config: BaseModel) -> dict[str, Any]:
    """A validated config as it is stored: what was given, secrets in the clear, plain JSON types."""
    stored: dict[str, Any] = _plain(config.model_dump(exclude_unset=True), SecretStr.get_secret_value)
    return stored


def mask(kind: type[BaseModel] | None, stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config as it may be shown.

    Args:
        kind: the config's type; None where it is not known any more, and nothing is shown.
        stored: the config.
    """
    try:
        config = kind.model_validate(stored) if kind is not None else None
    except ValidationError:
        config = None  # saved by another version: which of it is secret, nobody can say
    if config is None:
        return dict.fromkeys(stored, MASK)
    shown: dict[str, Any] = _plain(config.model_dump(exclude_unset=True), lambda _: MASK)
    return shown


def unmask(
    given: Mapping[str, Any], stored: Mapping[str, Any], *, prefix: str
) -> tuple[dict[str, Any], list[Problem]]:
    """A config with the stored secrets in place of their masks, and what is wrong with the masks that remain.

    Args:
        given: the new config as its writer sent it.
        stored: the present one, in the clear; empty for a new channel.
        prefix: the place of the config within the whole input.
    """
    masked = list(_masks(given))
    if not masked:
        return dict(given), []
    moved = [
        name
        for name in sorted(DESTINATIONS)
        if given.get(name, _NOTHING) not in (MASK, stored.get(name, _NOTHING))
    ]
    whole = _copy(given)
    problems = []
    for parts in masked:
        found = _at(stored, parts)
        where = path(parts, prefix)
        if not isinstance(found, str):
            why = "none that can be read" if isinstance(stored, Unreadable) else "none"
            problems.append(
                Problem(where, f"{MASK} stands for a stored secret, and there is {why}; give the secret")
            )
        elif moved:
            problems.append(
                Problem(where, f"give the secret again: {moved[0]} changes, and it would go there")
            )
        else:
            _at(whole, parts[:-1])[parts[-1]] = found
    return whole, problems


def _plain(value: Any, secret: Callable[[SecretStr], str]) -> Any:
    if isinstance(value, SecretStr):
        return secret(value)
    if isinstance(value, dict):
        return {name: _plain(item, secret) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, secret) for item in value]
    return value


def _members(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _masks(value: Any, parts: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all masks."""
    for name, item in _members(value):
        if item == MASK:
            yield (*parts, name)
        else:
            yield from _masks(item, (*parts, name))


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(item) for name, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _at(value: Any, parts: tuple[Any, ...]) -> Any:
    for part in parts:
        value = dict(_members(value)).get(part)
    return value

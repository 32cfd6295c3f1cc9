"""Bad input, said so that a person can mend it: each problem names the field and the rule it breaks."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import ValidationError


#: Problems of one object for which names are guessed.
MAX_GUESSES = 20

#: pydantic's names for a length that is wrong: the word for it, and the bound's name in the error's context.
_LENGTHS = {
    "too_short": ("least", "min_length"), "string_too_short": ("least", "min_length"),
    "too_long": ("most", "max_length"), "string_too_long": ("most", "max_length"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the input.

    Attributes:
        field: the path to it, such as `channels[2].config.url`; "" for the whole.
        rule: what it must be.
    """

    field: str
    rule: str

    def __str__(self) -> str:
        return f"{self.field}: {self.rule}" if self.field else self.rule


class InvalidInput(ValueError):  # noqa: N818  # a refusal, and the name that callers know
    """Input was refused, whole. Nothing of it was stored."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


def path(parts: Sequence[Any], prefix: str = "") -> str:
    """Join keys and indexes: ("channels", 2, "config") -> channels[2].config."""
    joined = prefix
    for part in parts:
        joined += f"[{part}]" if isinstance(part, int) else (f".{part}" if joined else str(part))
    return joined


def problems_of(error: ValidationError, *, prefix: str = "", known: Iterable[str] = ()) -> list[Problem]:
    """Translate pydantic's errors. The offending value is never quoted: it may be a secret.

    Args:
        error: what pydantic raised.
        prefix: the path of the validated object within the whole input.
        known: the names of its fields, to guess what a typo meant.
    """
    items = error.errors(include_url=False)
    # pydantic counts the items that are right: a list is not too short for an item that has a problem of its own.
    holders = {item["loc"][:depth] for item in items for depth in range(len(item["loc"]))}
    items = [item for item in items if item["type"] != "too_short" or item["loc"] not in holders]
    # A guess is for the typos of a person: an object of ten thousand unknown names has none, and each costs time.
    guesses = list(known) if len(items) <= MAX_GUESSES else []
    return [Problem(path(item["loc"], prefix), rule_of(item, guesses)) for item in items]


def rule_of(item: Any, known: Sequence[str] = ()) -> str:
    """What an item of pydantic's errors says must be.

    Args:
        item: of `errors()`; of its input the type is looked at.
        known: names to guess from.
    """
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(item["loc"][-1])[:255], known, n=1)
        return "no such field" + (f"; did you mean {near[0]}?" if near else "")
    if item["type"] == "missing":
        return "required"
    if item["type"] in _LENGTHS:
        word, bound = _LENGTHS[item["type"]]
        unit = "item" if isinstance(item["input"], (list, tuple, set, frozenset, dict)) else "character"
        number = item["ctx"][bound]
        return f"must have at {word} {number} {unit}{'s' * (number != 1)}"
    message: str = item["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def no_name_twice(pairs: Sequence[tuple[str, Any]]) -> None:
    """Refuse an object of JSON in which a name stands twice: RFC 8259, section 4, leaves open which one counts.

    Raises:
        ValueError: one does.
    """
    if len(pairs) > 1 and len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice in one object")

"""Small shared checks of JSON documents against a vendor's published limits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Collection

# RFC 3339, section 5.6.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def parse_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in `body`; None if it holds none. NaN, lone surrogates and bad UTF-8 are no JSON."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def is_rfc3339(value: Any) -> bool:
    """Whether `value` is a time as in RFC 3339, with its zone."""
    return isinstance(value, str) and _TIME.fullmatch(value) is not None


def is_media_type(header: str, expected: str) -> bool:
    """Whether a Content-Type header names the expected type, parameters aside."""
    return header.partition(";")[0].strip().lower() == expected


class Findings:
    """Collects what is wrong with a document. Lengths are in characters, as the vendors count them.

    Attributes:
        problems: one line each, beginning with where it is.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []

    def note(self, where: str, what: str) -> None:
        """Add a problem."""
        self.problems.append(f"{where}: {what}")

    def text(self, where: str, value: Any, longest: int | None = None, *, required: bool = True) -> bool:
        """Require a text, neither empty nor too long; where it is not required it may be absent."""
        if value is None and not required:
            return True
        if value is None or value == "":
            self.note(where, "missing")
        elif not isinstance(value, str):
            self.note(where, "must be a string")
        elif longest is not None and len(value) > longest:
            self.note(where, f"{len(value)} characters, at most {longest}")
        else:
            return True
        return False

    def one_of(self, where: str, value: Any, allowed: Collection[str], *, required: bool = True) -> bool:
        """Require one of the allowed words."""
        if value is None and not required:
            return True
        if isinstance(value, str) and value in allowed:
            return True
        self.note(where, f"must be one of {', '.join(sorted(allowed))}")
        return False

    def array(self, where: str, value: Any, most: int | None = None, *, required: bool = True) -> list[Any]:
        """Require a list that is not too long, and give it (empty where there is none)."""
        if value is None and not required:
            return []
        if not isinstance(value, list) or (required and not value):
            self.note(where, "must be a list" if value else "missing")
            return []
        if most is not None and len(value) > most:
            self.note(where, f"{len(value)} entries, at most {most}")
        return value

    def record(self, where: str, value: Any, known: Collection[str] | None = None) -> dict[str, Any] | None:
        """Require an object, with no key but the known ones, and give it."""
        if not isinstance(value, dict):
            self.note(where, "must be an object")
            return None
        if known is not None:
            for key in value:
                if key not in known:
                    self.note(f"{where}.{key}", "no such field")
        return value

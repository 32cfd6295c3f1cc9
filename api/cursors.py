"""Cursors: where a page ended, so that the next begins behind it however many rows were added meanwhile.

They are opaque to callers and checked when they return. They are not signed: a cursor says a position and nothing else,
and every query names the caller's tenant whatever the cursor says.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

import orjson
from fastapi import Query

from model.alert import MAX_INTEGER
from model.problems import InvalidInput, Problem

_FORM = re.compile(r"[A-Za-z0-9_-]{1,200}")

#: Rows of one page.
DEFAULT_LIMIT, LARGEST_LIMIT = 50, 500

Limit = Annotated[int, Query(ge=1, le=LARGEST_LIMIT, description="Rows of a page.")]
Cursor = Annotated[str | None, Query(description="`next` of the page before.", max_length=200)]


def encode(name: str, position: tuple[int, ...]) -> str:
    """The cursor of a position in a list."""
    return base64.urlsafe_b64encode(orjson.dumps([name, *position])).decode().rstrip("=")


def decode(name: str, cursor: str | None, *, width: int) -> tuple[int, ...] | None:
    """The position that a cursor says, or None for the beginning.

    Args:
        name: the list's; a cursor of another list is refused.
        width: numbers of a position.

    Raises:
        InvalidInput: it is no cursor of this list.
    """
    if cursor is None:
        return None
    found: object = None
    if _FORM.fullmatch(cursor):
        try:
            found = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        except (binascii.Error, orjson.JSONDecodeError):
            found = None
    if isinstance(found, list) and len(found) == width + 1 and found[0] == name:
        numbers = found[1:]
        position = tuple(number for number in numbers if type(number) is int and abs(number) <= MAX_INTEGER)
        if len(position) == width and encode(name, position) == cursor:
            return position
    raise InvalidInput([Problem("cursor", "must be `next` of a page of this list")])

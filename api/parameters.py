"""Parameters of paths and queries that several calls have."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator
from starlette.convertors import Convertor, register_url_convertor

from model.alert import MAX_INTEGER


class _Rest(Convertor[str]):
    """Whatever follows: slashes, as in Starlette's `path`, and line breaks, which that one loses or does not match."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


register_url_convertor("rest", _Rest())


def _storable(value: str) -> str:
    """PostgreSQL has no NUL in text, and nobody has half a character."""
    if "\0" in value:
        raise ValueError("must not contain NUL characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode") from None
    return value


_Word = Annotated[str, AfterValidator(_storable)]

#: The id of a channel or rule (32 bit), and of a job, device or log entry (64 bit).
ShortId = Annotated[int, Path(ge=1, lt=2**31)]
LongId = Annotated[int, Path(ge=1, le=MAX_INTEGER)]
UserId = Annotated[_Word, Path(min_length=1, max_length=255, examples=["alice"])]
AlertId = Annotated[_Word, Path(min_length=1, max_length=255, examples=["door-7"])]
QueryWord = Annotated[_Word | None, Query(min_length=1, max_length=255)]
QueryShortId = Annotated[int | None, Query(ge=1, lt=2**31)]
QueryLongId = Annotated[int | None, Query(ge=1, le=MAX_INTEGER)]

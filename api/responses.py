"""Answers in JSON, by orjson."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import JSONResponse


class Json(JSONResponse):
    """A document as JSON. Datetimes become RFC 3339; NaN cannot occur, orjson writes null."""

    def render(self, content: Any) -> bytes:
        """Encode."""
        return orjson.dumps(content)


class IndentedJson(Json):
    """The same for eyes: a line a member."""

    def render(self, content: Any) -> bytes:
        """Encode."""
        return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

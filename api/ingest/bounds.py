"""What systems send that cannot mend their call: made bearable, for one bad alert must not cost the whole group.

What fits and is sound stays as it is. What was cut ends in an ellipsis, and `details.truncated` says so.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from model.alert import MAX_ALERT_BYTES

#: What PostgreSQL's text or JSON cannot hold: NUL, and surrogates, which in a text of Python's are always lone ones.
_UNBEARABLE = re.compile("[\0\ud800-\udfff]")

ELLIPSIS = "…"

#: How an alert that is too large is cut, mildest first, until it fits: bytes that a text has as JSON, and members of an
#: object. The last fits always: an alert has three objects, and few texts beside them.
_STEPS = ((16 * 1024, 1000), (4 * 1024, 300), (1024, 100), (256, 50))


def bearable(value: Any) -> Any:
    """A text with U+FFFD for each character that could not be stored; anything else as it is."""
    return _UNBEARABLE.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else value


def shortened(text: str, characters: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= characters else text[: characters - 1] + ELLIPSIS


def fitted(alert: dict[str, Any]) -> dict[str, Any]:
    """An alert as large as one may be: its message and details are cut where it is larger."""
    if _size(alert) <= MAX_ALERT_BYTES:
        return alert
    found = alert
    for size, members in _STEPS:
        details = _cut(alert["details"], size, members) | {"truncated": True}
        found = alert | {"message": _cut(alert["message"], size, members), "details": details}
        if _size(found) <= MAX_ALERT_BYTES:
            break
    return found


def _size(value: Any) -> int:
    return len(orjson.dumps(value))


def _cut(value: Any, size: int, members: int) -> Any:
    """The same with shorter texts and smaller objects. Of an object the first members stay."""
    if isinstance(value, dict):
        kept = list(value.items())[:members]
        return {_cut(key, size, members): _cut(item, size, members) for key, item in kept}
    if not isinstance(value, str) or _size(value) <= size:
        return value
    # As JSON a character has up to six bytes (\u0001), so how many fit is found by trying.
    text = value[:size]
    while _size(text) > size - len(ELLIPSIS.encode()):
        text = text[: len(text) * 3 // 4]
    return text + ELLIPSIS

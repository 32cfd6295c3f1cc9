"""What far sides say, without the secrets that they may echo.

A receiver that refuses a message may quote the request: its URL, its headers, or the login of a connection. What
it says is kept and shown to people, and the secrets in it are not.
"""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from senders.text import clip, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

EXCERPT: Final = 200
"""Characters of what a far side said that are quoted to people."""

MAX_REDACTED: Final = 4096
"""Characters in which secrets are looked for, each of them on its own, on the event loop."""

_MIN_SECRET: Final = 4
_URL_SAFE: Final = str.maketrans("+/", "-_")


def excerpt(said: str, secrets: Iterable[str] = ()) -> str:
    """The start of what a far side said as one line for people, without the secrets that it may echo."""
    return clip(one_line(redact(said, secrets, MAX_REDACTED)), EXCERPT)


def url_secrets(url: str) -> tuple[str, ...]:
    """The parts of a URL that may be credentials: path segments, query and fragment, whole and by value."""
    parts = urlsplit(url)
    found = [url, parts.path, parts.query, parts.fragment]
    found += [segment for segment in parts.path.split("/") if len(segment) >= 2 * _MIN_SECRET]
    found += [value for _, value in parse_qsl(parts.query, keep_blank_values=True)]
    return tuple(found)


def redact(text: str, secrets: Iterable[str], limit: int | None = None) -> str:
    """The text with every secret replaced, also where it comes back in base64 or escaped for URL, JSON, HTML or Python.

    Args:
        text: what a far side said.
        secrets: those shorter than four characters are not looked for.
        limit: characters of the text that are kept; what they have of a secret that ends behind them is replaced, too.
    """
    kept = text[:limit]
    # Nearly all of thousands of spellings are told to be absent by their first letters, without a search.
    beginnings = {kept[start : start + _MIN_SECRET] for start in range(len(kept))}
    found: list[tuple[int, int]] = []
    for spelling in _spellings(secrets):
        start = kept.find(spelling) if spelling[:_MIN_SECRET] in beginnings else -1
        while start >= 0:
            found.append((start, start + len(spelling)))
            start = kept.find(spelling, start + len(spelling))
        if len(kept) < len(text) and (start := _cut_off(kept, spelling)) < len(kept):
            found.append((start, len(kept)))
    parts: list[str] = []
    shown = 0
    for start, end in sorted(found):
        if start >= shown:
            parts += (kept[shown:start], "***")
        shown = max(shown, end)
    return "".join(parts) + kept[shown:]


def _cut_off(text: str, spelling: str) -> int:
    """Where the spelling begins that the text's end cuts in two; the text's length if there is none."""
    start = text.find(spelling[0], max(len(text) - len(spelling) + 1, 0))
    while start >= 0 and not spelling.startswith(text[start:]):
        start = text.find(spelling[0], start + 1)
    return len(text) if start < 0 else start


def _spellings(secrets: Iterable[str]) -> set[str]:
    """Each secret as it may come back: as it is, escaped, quoted in JSON or by Python's repr, and in base64."""
    found: set[str] = set()
    for secret in {secret for secret in secrets if len(secret.encode()) >= _MIN_SECRET}:
        plain = unquote(secret)
        known = {secret, plain, quote(plain), quote(plain, safe=""), quote_plus(plain)}
        for each in {secret, plain}:
            known |= _base64_spellings(each)
            if not (each.isascii() and each.isalnum()):
                literals = json.dumps(each), json.dumps(each, ensure_ascii=False), repr(each)
                known |= {literal[1:-1] for literal in literals}
        for spelling in known:
            found |= {spelling, spelling.replace("/", "\\/"), html.escape(spelling)}
    return {spelling for spelling in found if len(spelling) >= _MIN_SECRET}


def _base64_spellings(plain: str) -> set[str]:
    """The secret in base64 (RFC 4648, 4 and 5) alone, and what never changes where it stands in longer data.

    So it comes back from a server that quotes AUTH LOGIN, AUTH PLAIN or Basic credentials: three bytes make
    four characters, hence a secret looks different behind 0, 1 and 2 bytes, and the same but for its ends.
    """
    data = plain.encode()
    if len(data) < _MIN_SECRET:
        return set()
    found = {base64.b64encode(data).decode()}
    for before, first in ((0, 0), (1, 2), (2, 3)):
        end = (before + len(data)) * 8 // 6
        found.add(base64.b64encode(bytes(before) + data).decode()[first:end])
    return found | {spelling.translate(_URL_SAFE) for spelling in found}

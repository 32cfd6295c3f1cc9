"""What far sides say, without the secrets that they may echo.

A receiver that refuses a message may quote the request: its URL, its headers, or the login of a connection. What
it says is kept and shown to people, and the secrets in it are not.
"""

from __future__ import annotations

import base64
import html
import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from senders.text import clean, clip, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

EXCERPT: Final = 200
"""Characters of what a far side said that are quoted to people."""

MAX_REDACTED: Final = 4096
"""Characters in which secrets are looked for, each of them on its own, on the event loop."""

_MIN_SECRET: Final = 4
_URL_SAFE: Final = str.maketrans("+/", "-_")

# Of URLs, of JSON and programming languages, of HTML. Which characters are escaped, and in what case, differs.
_ESCAPE: Final = re.compile(
    r"%[0-7][0-9A-Fa-f]|%[C-Fc-f][0-9A-Fa-f](?:%[89ABab][0-9A-Fa-f]){1,3}|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\.|&#?\w{1,31};",
    re.DOTALL,
)
_HALF_ESCAPE: Final = re.compile(
    r"(?:(?:%[C-Fc-f][0-9A-Fa-f](?:%[89ABab][0-9A-Fa-f]){0,2})?%[0-9A-Fa-f]?|%[C-Fc-f][0-9A-Fa-f]|\\(?:u\w{0,3}|x\w?)?|&#?\w{0,31})\Z"
)
MAX_LAYERS: Final = 3
"""Of escapes upon escapes, such as a URL's within HTML within JSON."""


def excerpt(said: str, secrets: Iterable[str] = ()) -> str:
    """The start of what a far side said as one line for people, without the secrets that it may echo."""
    # Cleaned first: what lies between the letters of a secret, such as the zeros of UTF-16, is not shown.
    return clip(one_line(redact(clean(said), secrets, MAX_REDACTED)), EXCERPT)


def url_secrets(url: str) -> tuple[str, ...]:
    """The parts of a URL that may be credentials: path segments, query and fragment, whole and by value."""
    parts = urlsplit(url)
    found = [url, parts.path, parts.query, parts.fragment]
    found += [segment for segment in parts.path.split("/") if len(segment) >= 2 * _MIN_SECRET]
    found += [value for _, value in parse_qsl(parts.query, keep_blank_values=True)]
    return tuple(found)


class _View(NamedTuple):
    """What a text says once escapes are read, and from where to where in the text each of its characters is."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def read(self) -> _View:
        """The same with one layer of escapes less."""
        pieces: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        done = 0
        for escape in _ESCAPE.finditer(self.text):
            start, end = escape.span()
            meant = _meaning(escape.group())
            pieces += (self.text[done:start], meant)
            starts += (*self.starts[done:start], *[self.starts[start]] * len(meant))
            ends += (*self.ends[done:start], *[self.ends[end - 1]] * len(meant))
            done = end
        pieces.append(self.text[done:])
        starts += self.starts[done:]
        ends += self.ends[done:]
        return _View("".join(pieces), starts, ends)


def _views(text: str, *, is_cut: bool) -> Iterator[_View]:
    """The text, and what it says if its escapes are read, layer by layer; of one that is cut without half an escape."""
    view = _View(text, range(len(text)), range(1, len(text) + 1))
    yield view
    for _ in range(MAX_LAYERS):
        half = _HALF_ESCAPE.search(view.text) if is_cut else None
        end = half.start() if half else len(view.text)
        seen = view.text[:end]
        view = _View(seen, view.starts[:end], view.ends[:end]).read()
        if view.text == seen and half is None:
            return
        yield view


def _meaning(escape: str) -> str:
    if escape.startswith("%"):
        return unquote(escape)
    if escape.startswith("&"):
        return html.unescape(escape)
    digits = escape[len("\\u") :]
    return chr(int(digits, 16)) if digits else escape[1:]


def redact(text: str, secrets: Iterable[str], limit: int | None = None) -> str:
    """The text with every secret replaced, also where it comes back in base64 or escaped for URL, JSON, HTML or Python.

    Args:
        text: what a far side said.
        secrets: those shorter than four characters are not looked for.
        limit: characters of the text that are kept; what they have of a secret that ends behind them is replaced, too.
    """
    kept = text[:limit]
    is_cut = len(kept) < len(text)
    spellings = _spellings(secrets)
    found: list[tuple[int, int]] = []
    for view in _views(kept, is_cut=is_cut):
        said = view.text
        # Nearly all of thousands of spellings are told to be absent by their first letters, without a search.
        beginnings = {said[start : start + _MIN_SECRET] for start in range(len(said))}
        for spelling in spellings:
            start = said.find(spelling) if spelling[:_MIN_SECRET] in beginnings else -1
            while start >= 0:
                end = start + len(spelling)
                found.append((view.starts[start], view.ends[end - 1]))
                start = said.find(spelling, end)
            if is_cut and (start := _cut_off(said, spelling)) < len(said):
                found.append((view.starts[start], len(kept)))
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

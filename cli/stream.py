"""Alerts from a file of any size: one JSON object, an array of them, or one a line (NDJSON).

The text is read in pieces and decoded value by value, so that a file of gigabytes takes the memory of one
piece. What
each alert is called in an error says where to look: a line, or an index of the array.
"""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any, NoReturn

from model.problems import InvalidInput, Problem, no_name_twice

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

#: Bytes that are read at a time.
PIECE = 256 * 1024
#: Characters of one alert as text: four times what an alert may have as compact JSON
#: (model.alert.MAX_ALERT_BYTES).
LONGEST = 1024 * 1024

_SPACE = " \t\r\n"


def alerts(source: BinaryIO) -> Iterator[tuple[str, Any]]:
    """Each decoded value with its name: "line 3", "[2]", or "" where it is the only one.

    Raises:
        InvalidInput: the text is no JSON from some point on, which is named.
    """
    text = _Text(source)
    if text.peek() == "[":
        yield from _array(text)
        return
    first = None
    while text.peek():
        line = text.line
        value = text.value(f"line {line}")
        if first is not None:
            yield first
        elif not text.peek():
            yield "", value
            return
        first = (f"line {line}", value)
    if first is not None:
        yield first


def _array(text: _Text) -> Iterator[tuple[str, Any]]:
    text.take("[")
    index = 0
    while text.peek() != "]" or index:
        yield f"[{index}]", text.value(f"[{index}]")
        index += 1
        if text.peek() == "]":
            break
        if text.peek() != ",":
            text.wrong(f"[{index - 1}]", "a comma or ] must follow it")
        text.take(",")
    text.take("]")
    if text.peek():
        text.wrong("", "nothing may follow the array")


class _Text:
    """A text that is read as far as needed.

    Attributes:
        line: the line, from 1, of the next character.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=_unique)
        self._rest = ""
        self._at = 0
        self._ended = False
        self.line = 1

    def peek(self) -> str:
        """The next character that is no space, or "" at the end."""
        while True:
            begin = self._at
            end = len(self._rest)
            while self._at < end and self._rest[self._at] in _SPACE:
                self._at += 1
            self.line += self._rest.count("\n", begin, self._at)
            if self._at < end:
                return self._rest[self._at]
            if not self._more():
                return ""

    def take(self, character: str) -> None:
        """Go past the character that `peek` gave."""
        assert self.peek() == character  # noqa: S101  # callers have looked
        self._at += 1

    def value(self, name: str) -> Any:
        """Decode the value that begins here, and go past it."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._rest, self._at)
            except json.JSONDecodeError as error:
                # Perhaps only its end is still to be read. What lies far behind the error cannot mend it.
                if len(self._rest) - self._at <= LONGEST and self._more():
                    continue
                is_cut = error.msg.startswith("Unterminated") or error.pos >= len(self._rest) - 1
                if is_cut and len(self._rest) - self._at > LONGEST:
                    self.wrong(name, f"must not have more than {LONGEST:,} characters")
                self.wrong(
                    name, f"is no JSON: {error.msg.lower()}, at character {error.pos - self._at + 1} of it"
                )
            except ValueError as error:  # NaN, an integer of thousands of digits, or a name that stands twice
                self.wrong(name, f"is no JSON that others read: {str(error).split(';')[0].lower()}")
            except RecursionError:
                self.wrong(name, "is nested too deep")
            if end == len(self._rest) and self._more():
                continue  # a number may go on
            self.line += self._rest.count("\n", self._at, end)
            self._at = end
            return value

    def wrong(self, name: str, rule: str) -> NoReturn:
        """Refuse the text from here on."""
        raise InvalidInput([Problem(name, rule)])

    def _more(self) -> bool:
        """Read a piece; whether there was one."""
        if self._ended:
            return False
        piece = self._source.read(PIECE)
        self._ended = not piece
        try:
            text = self._decode.decode(piece, final=self._ended)
        except UnicodeDecodeError:
            self.wrong("", f"must be UTF-8; what follows line {self.line} is not")
        self._rest, self._at = self._rest[self._at :] + text, 0
        return bool(text) or not self._ended


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    no_name_twice(pairs)
    return dict(pairs)

"""YAML as configuration deserves it: no surprise types, no key twice, no bomb.

Implicit types are those of YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema): `22:00` and
`no` are text here, where YAML 1.1 makes 1320 and false of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from model.problems import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Hashable

#: Bytes of one file.
MAX_BYTES = 16 * 1024 * 1024
#: Values of one document once every alias is written out. A few aliases of aliases make billions of a
#: kilobyte.
MAX_VALUES = 2_000_000

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]  # one of two classes, by whether libyaml is there
    """Safe types only, by YAML 1.2's rules, duplicate keys refused."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's own name and shape

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002  # PyYAML's signature
        """Build a mapping.

        Raises:
            ConstructorError: a key stands in it twice.
        """
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = (
                self.construct_object(key_node, deep=True)
                if key_node.tag != "tag:yaml.org,2002:merge"
                else None
            )
            if key is not None and isinstance(key, (str, int, float)):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is there twice", key_node.start_mark
                    )
                seen.add(key)
        found: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return found


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    # No leading zero: 007 is a name. No more digits than any reader of ours can bear.
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,18})", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


def load(text: str | bytes) -> Any:
    """The one document of a YAML text, as dicts, lists, strings, numbers, booleans and None.

    Raises:
        InvalidInput: it is no YAML, too large, or has a key twice; the text names line and column.
    """
    if len(text) > MAX_BYTES:
        raise InvalidInput([Problem("", f"must not exceed {MAX_BYTES:,} bytes")])
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader, see above
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidInput([Problem(where, f"is no valid YAML: {error.problem or error.context}")]) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InvalidInput([Problem("", "is no valid YAML: it holds characters that no text has")]) from None
    except (RecursionError, ValueError, TypeError):
        raise InvalidInput(
            [Problem("", "is no configuration: nested too deep, or keys that are no words")]
        ) from None
    _bound(document)
    return document


def _bound(document: Any) -> None:
    """Count values as a reader would meet them, aliases written out, and stop at the limit."""
    number, waiting = 0, [document]
    while waiting:
        value = waiting.pop()
        number += 1
        if number + len(waiting) > MAX_VALUES:
            raise InvalidInput(
                [Problem("", f"must not hold more than {MAX_VALUES:,} values, aliases written out")]
            )
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)

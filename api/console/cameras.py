"""A user's cameras as lines of a form, and back: what the form did not change stays what it was. Pure.

Text fields cannot carry everything that is stored: a browser takes line breaks out of them, kinds are separated by
commas, and space at an end is seldom meant. So each line brings along what it was drawn from, and only a field that
differs from that is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import orjson

from model.preferences import Camera

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Line:
    """One camera's fields.

    Attributes:
        name: empty for a line to fill in.
        wants: "all", "some" (only the kinds) or "off".
        kinds: separated by commas.
        was: name and camera from which the line was drawn, as JSON; empty for a line to fill in.
    """

    name: str
    wants: str
    kinds: str
    was: str

    @classmethod
    def of(cls, name: str, camera: Mapping[str, Any]) -> Self:
        """The line that shows a camera, checked or not."""
        kinds = camera["smart_detection_types"]
        return cls(
            _in_a_field(name),
            "off" if not camera["enabled"] else "all" if kinds is None else "some",
            _in_a_field(", ".join(kinds or ())),
            orjson.dumps([name, camera]).decode(),
        )


def _in_a_field(text: str) -> str:
    """As a browser sends it back; HTML, "value sanitization algorithm" of text fields."""
    return text.replace("\r", "").replace("\n", "")


def lines(cameras: Mapping[str, Any], *, spare: int) -> list[Line]:
    """The lines of stored or given cameras, and so many to fill in."""
    return [Line.of(name, camera) for name, camera in cameras.items()] + [Line("", "all", "", "")] * spare


def cameras_of(sent: Iterable[Line]) -> dict[str, Any]:
    """What the lines of a form say, unchecked. A line whose name was cleared is no camera."""
    found: dict[str, Any] = {}
    for line in sent:
        name = line.name.strip()
        kinds = [each.strip() for each in line.kinds.split(",") if each.strip()] or None
        if was := _was(line.was):
            drawn = Line.of(*was)
            name = was[0] if line.name == drawn.name else name
            kinds = was[1]["smart_detection_types"] if line.kinds == drawn.kinds else kinds
        if name:
            found[name] = {
                "enabled": line.wants != "off",
                # One that is off keeps its kinds for when it is on again.
                "smart_detection_types": {"all": None, "some": kinds or []}.get(line.wants, kinds),
            }
    return found


def _was(text: str) -> tuple[str, dict[str, Any]] | None:
    """What a line was drawn from; None for what was not, or what no page of ours sends."""
    try:
        name, camera = orjson.loads(text)
        return str(name), Camera.model_validate(camera).model_dump()
    except (TypeError, ValueError):  # pydantic's and orjson's are ValueErrors
        return None

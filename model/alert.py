"""What an alert producer hands us, checked before anything of it is stored."""

from __future__ import annotations

import math
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
)

from model.moments import Time  # pydantic reads it at run time
from model.problems import InvalidInput, Problem, path, problems_of
from model.states import EventType

#: One alert, as JSON. Beyond this an alert is a document, and documents have better homes.
MAX_ALERT_BYTES = 256 * 1024
#: Nesting of `details`. orjson itself gives up at 254; no receiver shows a person more than a few levels.
MAX_DEPTH = 32
#: What a JSON integer may be for every reader of our payloads (RFC 8259 section 6 warns beyond 2**53;
#: orjson's is 64 bit).
MAX_INTEGER = 2**63 - 1
#: A severity is a small number; the column is 32 bit.
MAX_SEVERITY = 1_000_000


def printable(value: str) -> str:
    """The text, if every database and every receiver can hold it.

    Raises:
        ValueError: it has a NUL character, or half of one.
    """
    if "\0" in value:
        raise ValueError("must not contain NUL characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode, without lone surrogates") from None
    return value


Text = Annotated[StrictStr, AfterValidator(printable)]
Identifier = Annotated[Text, Field(min_length=1, max_length=255)]


def _alert_id(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and 1 <= len(value) <= 255:  # noqa: PLR2004  # the column's width, said in the text
        return value
    raise ValueError("must be an integer or a string of 1 to 255 characters")


#: What we read ourselves in `details`: its types, and how to say so. Null is as good as absent.
_DETAILS: dict[str, tuple[tuple[type, ...], str]] = {
    "device_tags": ((dict,), "an object"),
    "is_critical": ((bool,), "true or false"),
    "camera_id": ((str, int), "a string or an integer"),
    "smart_detection_type": ((str, int), "a string or an integer"),
}


class AlertEvent(BaseModel):
    """One event of one alert (docs/api.md, "An alert"). Build it by `parse_alert`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    alert_id: Annotated[int | str, BeforeValidator(_alert_id)]
    event_type: EventType = EventType.OPEN
    # Not `Text`: `_foreign` has seen each text, and without a validator of ours pydantic measures it in its own code.
    alert_type: Annotated[StrictStr, Field(max_length=255)] | None = None
    severity: Annotated[StrictInt, Field(ge=0, le=MAX_SEVERITY)] | None = None
    device_id: Annotated[StrictStr, Field(max_length=255)] | None = None
    site_id: Annotated[StrictStr, Field(max_length=255)] | None = None
    message: Annotated[StrictStr, Field(max_length=64 * 1024)] | None = None
    details: dict[str, Any] | None = None
    triggered_at: Time | None = None

    @field_validator("details")
    @classmethod
    def _known_details(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for name, (kinds, rule) in _DETAILS.items():
            given = (value or {}).get(name)
            if given is not None and type(given) not in kinds:
                raise ValueError(f"{name} must be {rule}")
        return value

    @property
    def key(self) -> str:
        """The alert's id as text. 7 and "7" are one: whoever goes through a URL loses the difference."""
        return str(self.alert_id)

    @cached_property
    def snapshot(self) -> dict[str, Any]:
        """The alert as accepted, ready for JSON, without event_type: what was not given is not there."""
        return self.model_dump(mode="json", exclude_unset=True, exclude={"event_type"})


#: Where something stands within a value, outermost first, and the rule that it breaks.
_Finding = tuple[tuple[Any, ...], str]


def _foreign(value: Any, depth: int = 0) -> _Finding | None:
    """The first part of a value that JSON, PostgreSQL or a receiver could not bear."""
    if isinstance(value, (list, tuple, dict)):
        if depth >= MAX_DEPTH:
            return (), f"must not be nested more than {MAX_DEPTH} deep"
        return _foreign_member(value, depth)
    rule = _foreign_scalar(value)
    return None if rule is None else ((), rule)


def _foreign_member(value: list[Any] | tuple[Any, ...] | dict[Any, Any], depth: int) -> _Finding | None:
    # What nearly all are, text of ASCII alone, is passed over where it stands: two calls for each would cost more.
    if isinstance(value, dict):
        for key in value:
            if type(key) is str and key.isascii() and "\0" not in key:
                continue
            rule = _foreign_scalar(key) if isinstance(key, str) else "keys must be strings"
            if rule is not None:
                return (), rule  # the key stays out of the path: a person could not read it
    places = value.items() if isinstance(value, dict) else enumerate(value)
    for place, item in places:
        if type(item) is str and item.isascii() and "\0" not in item:
            continue
        if (found := _foreign(item, depth + 1)) is not None:
            parts, rule = found
            return (place, *parts), rule
    return None


def _foreign_scalar(value: Any) -> str | None:
    """The rule that a value breaks which holds no others."""
    rule = None
    if isinstance(value, str):
        try:
            printable(value)
        except ValueError as error:
            rule = str(error)
    elif isinstance(value, int):
        rule = None if abs(value) <= MAX_INTEGER else "must fit into 64 bits"
    elif isinstance(value, float):
        rule = None if math.isfinite(value) else "must be a finite number"
    elif value is not None and not isinstance(value, datetime):
        rule = f"must be JSON, not {type(value).__name__}"
    return rule


def parse_alert(data: Any, *, prefix: str = "") -> AlertEvent:
    """Check one alert as a producer gave it.

    Args:
        data: the decoded JSON object, or the same from Python.
        prefix: its place in the whole input, such as "[3]".

    Raises:
        InvalidInput: names each field and the rule that it breaks.
    """
    if isinstance(data, AlertEvent):
        return data
    if not isinstance(data, dict):
        raise InvalidInput([Problem(prefix, "an alert must be an object")])
    if (found := _foreign(data)) is not None:
        parts, rule = found
        raise InvalidInput([Problem(path(parts, prefix), rule)])
    try:
        alert = AlertEvent.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(problems_of(error, prefix=prefix, known=AlertEvent.model_fields)) from None
    if len(orjson.dumps(alert.snapshot)) > MAX_ALERT_BYTES:
        raise InvalidInput([Problem(prefix, f"an alert must not exceed {MAX_ALERT_BYTES:,} bytes of JSON")])
    return alert

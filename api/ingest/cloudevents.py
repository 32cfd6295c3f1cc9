"""CloudEvents 1.0 into alerts of ours: one event or a batch. Binary mode becomes structured mode in api.ingest.binary.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md and .../formats/json-format.md

An event is an alert of its own by `source` and `id`, which together are unique (section 3.1.1), so that a
redelivery is a duplicate. Events that belong to one alert say so by the extension attribute `alertid`, or by
`alert_id` in their data.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictStr, ValidationError

from api.ingest.mapping import MESSAGE, Mapping, canonical, identifier, name
from model.problems import InvalidInput, Problem, path, problems_of
from model.states import EventType

SOURCE = "cloudevents"

#: What the last word of an event's type says about the alert: com.example.disk.resolved closes com.example.disk.
EVENTS = {
    "firing": EventType.OPEN, "triggered": EventType.OPEN, "opened": EventType.OPEN,
    "resolved": EventType.CLOSED, "closed": EventType.CLOSED, "cleared": EventType.CLOSED,
    "recovered": EventType.CLOSED, "acknowledged": EventType.ACKNOWLEDGED, "escalated": EventType.ESCALATED,
}  # fmt: skip

#: What `data.event_type` may say besides our own words, in any case. What it says is never guessed at: an end that is
#: taken for a beginning raises an alert and leaves one open.
SAID = EVENTS | {
    "trigger": EventType.OPEN, "resolve": EventType.CLOSED, "close": EventType.CLOSED,
    "acknowledge": EventType.ACKNOWLEDGED, "escalate": EventType.ESCALATED,
} | {kind.lower(): kind for kind in EventType}  # fmt: skip

#: Members of `data` that are fields of an alert, and are taken for it when they are text.
FIELDS = ("alert_type", "device_id", "site_id")
TEXTS = ("message", "summary", "description")

_Word = Annotated[StrictStr, Field(min_length=1)]


class Event(BaseModel):
    """A CloudEvent; what is not named here is an extension attribute."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    specversion: Literal["1.0"]
    id: _Word
    source: _Word
    type: _Word
    subject: StrictStr | None = None
    time: AwareDatetime | None = None
    datacontenttype: StrictStr | None = None
    dataschema: StrictStr | None = None
    data: Any = None
    data_base64: StrictStr | None = None

    @property
    def extensions(self) -> dict[str, Any]:
        """Extension attributes that are as the specification has them (section 3.1): booleans, integers, strings."""
        extra = self.model_extra or {}
        return {key: value for key, value in extra.items() if isinstance(value, (str, int, bool))}


def from_cloudevents(document: Any, mapping: Mapping, *, batched: bool | None = None) -> list[dict[str, Any]]:
    """The alerts of an event or a batch.

    Args:
        batched: whether the media type says that it is a batch; None where it does not say.

    Raises:
        InvalidInput: names each field and the rule that it breaks.
    """
    is_batch = isinstance(document, list)
    if batched is not None and batched != is_batch:
        raise InvalidInput([Problem("", "must be an array of events" if batched else "must be one event")])
    problems: list[Problem] = []
    found = []
    for index, event in enumerate(document if is_batch else [document]):
        prefix = f"[{index}]" if is_batch else ""
        try:
            found.append(translate(Event.model_validate(event), mapping, prefix=prefix))
        except ValidationError as error:
            problems += problems_of(error, prefix=prefix)
        except InvalidInput as error:
            problems += error.problems
    if problems:
        raise InvalidInput(problems)
    return found


def translate(event: Event, mapping: Mapping, *, prefix: str = "") -> dict[str, Any]:
    """One event as an alert (docs/api.md, "An alert").

    Args:
        prefix: its place in the whole input, such as "[3]".

    Raises:
        InvalidInput: `data.event_type` is no event that we know.
    """
    data: dict[str, Any] = event.data if isinstance(event.data, dict) else {}
    extensions = event.extensions
    given_id = extensions.get("alertid", data.get("alert_id"))
    alert_id = given_id if isinstance(given_id, (str, int)) and not isinstance(given_id, bool) else ""
    texts = {each: data[each] for each in FIELDS if isinstance(data.get(each), str)}
    message = next((data[each] for each in TEXTS if isinstance(data.get(each), str)), None)
    default = " ".join(filter(None, (event.type, event.subject)))
    severity = extensions.get(mapping.severity_label, data.get("severity"))
    if isinstance(severity, float) and severity.is_integer():  # JSON has one kind of number: 4.0 is 4
        severity = int(severity)
    event_type, alert_type = _types(event, data, prefix)
    found: dict[str, Any] = {
        "alert_id": identifier(str(alert_id) or _identity(event)),
        "event_type": event_type,
        "alert_type": name(texts.get("alert_type", alert_type)),
        "severity": mapping.severity(severity if isinstance(severity, (str, int)) else None),
        "device_id": name(texts.get("device_id", extensions.get(mapping.device_label, event.subject))),
        "site_id": name(texts.get("site_id", extensions.get(mapping.site_label))),
        "message": (message or default)[:MESSAGE],
        "triggered_at": canonical(event.time) if event.time else None,
        "details": {
            "source": SOURCE,
            "event": {"id": event.id, "source": event.source, "type": event.type, "subject": event.subject},
            "labels": extensions,
            "device_tags": mapping.device_tags(extensions),
            "data": event.data if event.data is not None else event.data_base64,
        },
    }
    return {key: value for key, value in found.items() if value is not None}


def _identity(event: Event) -> str:
    """Another text for every other pair of source and id: the id, which follows the last `#`, has none of its own."""
    escaped = event.id.replace("%", "%25").replace("#", "%23")
    return f"{event.source}#{escaped}"


def _types(event: Event, data: dict[str, Any], prefix: str) -> tuple[str, str]:
    """Which event of the alert it is, and the alert's type: without such a word, since it is the same for all events.

    Also where the data say which: whether a producer's types change with the event or not, the alert has one.
    """
    rest, _, word = event.type.rpartition(".")
    named = EVENTS.get(word.lower())
    kind = _said(data, prefix) or named or EventType.OPEN
    return kind.value, rest if rest and named else event.type


def _said(data: dict[str, Any], prefix: str) -> EventType | None:
    said = data.get("event_type")
    if said is None:
        return None
    kind = SAID.get(said.strip().lower()) if isinstance(said, str) else None
    if kind is None:
        rule = f"must be {', '.join(EventType)}, or a word for one of them, such as firing or resolved"
        raise InvalidInput([Problem(path(("data", "event_type"), prefix), rule)])
    return kind

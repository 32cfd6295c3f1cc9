"""What a notification says, and how it is made to fit. Pure; every sender takes its words from here.

Limits are kept at grapheme clusters (UAX 29), so that no emoji, accent or flag is ever cut in two; and they
are measured on the raw text, by what each cluster costs once it is encoded or escaped, so that no escape is
cut either.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson
import regex

from senders.template import TemplateFailedError, render

if TYPE_CHECKING:
    from collections.abc import Callable

    from senders.base import Notification

ELLIPSIS: Final = "…"

TEMPLATES: Final = ("title_template", "body_template")
"""Fields of a channel's config."""

_CLUSTER: Final = regex.compile(r"\X")
_LINE_BREAK: Final = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# Controls but for tab and newline; bidirectional overrides, with which a text can lie about its own order.
_CONTROL: Final = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

_EVENT_LEADS: Final = {"ACKNOWLEDGED": "Acknowledged", "ESCALATED": "Escalated", "CLOSED": "Resolved"}
_EVENT_SYMBOLS: Final = {"ACKNOWLEDGED": "👀", "ESCALATED": "⏫", "CLOSED": "✅"}
_LEVEL_SYMBOLS: Final = {"info": "🔵", "warning": "🟡", "error": "🟠", "critical": "🔴"}
# Details that have a row of their own, or are title, link and image.
_SHOWN_ELSEWHERE: Final = frozenset(
    {"camera_id", "device_tags", "image_url", "is_critical", "smart_detection_type", "title", "url"}
)
_SEVERITY_WORDS: Final = ("info", "info", "warning", "error", "critical")


def utf8_length(text: str) -> int:
    """Bytes in UTF-8."""
    return len(text.encode())


def json_length(text: str) -> int:
    """Bytes inside a JSON string, without its quotes, as orjson writes it."""
    return len(orjson.dumps(text)) - 2


def clip(text: str, limit: int, measure: Callable[[str], int] = len) -> str:
    """The longest beginning that fits, with an ellipsis if something is missing.

    Args:
        text: cleaned text; it is escaped or encoded after this, not before.
        limit: the greatest allowed `measure`, of at least 0.
        measure: what a piece of text costs; it adds up over pieces. len counts characters; also utf8_length,
            json_length, or the length after the escape of the format in hand.
    """
    if measure(text) <= limit:
        return text
    room = limit - measure(ELLIPSIS)
    if room < 0:
        return ""
    end = 0
    for cluster in _CLUSTER.finditer(text):
        room -= measure(cluster.group())
        if room < 0:
            break
        end = cluster.end()
    return text[:end].rstrip() + ELLIPSIS


def clean(value: object) -> str:
    """Any value as text that every provider takes: valid Unicode, of controls only tab and newline."""
    text = value if isinstance(value, str) else _plain(value)
    text = _CONTROL.sub("", _LINE_BREAK.sub("\n", text))
    return _SURROGATE.sub("\ufffd", text).strip()


def one_line(value: object) -> str:
    """Cleaned, with every run of white space as one space: for titles, subjects and headers."""
    return " ".join(clean(value).split())


def _plain(value: object) -> str:
    """JSON values as JSON says them (true, null), strings inside them readable."""
    return to_json(value).decode()


def to_json(value: Any) -> bytes:
    """Serialise once, compactly, as UTF-8.

    orjson refuses integers beyond 64 bits, which the standard library can write, and lone surrogates. Those
    become U+FFFD: strict parsers would refuse the whole body for them.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        text = json.dumps(value, separators=(",", ":"), default=str, ensure_ascii=False)
        return _SURROGATE.sub("\ufffd", text).encode()


@lru_cache(maxsize=1024)  # many deliveries have their alert's, or their message's
def rfc3339(moment: datetime) -> str:
    """The moment in UTC, such as 2026-11-03T20:26:10.344Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def severity_word(severity: int) -> str:
    """One of info (0, 1), warning (2), error (3), critical (4 and up)."""
    return _SEVERITY_WORDS[max(0, min(severity, len(_SEVERITY_WORDS) - 1))]


def level(notification: Notification[Any]) -> str:
    """The severity's word, and critical whatever its number if the alert is declared so."""
    return "critical" if notification.is_critical else severity_word(notification.severity)


def lead(notification: Notification[Any]) -> str:
    """What happened, in one word: the level of an open alert, else Acknowledged, Escalated or Resolved."""
    return _EVENT_LEADS.get(notification.event) or level(notification).capitalize()


def symbol(notification: Notification[Any]) -> str:
    """An emoji that tells the events, and the levels of an open alert, apart at a glance."""
    return _EVENT_SYMBOLS.get(notification.event) or _LEVEL_SYMBOLS[level(notification)]


def title(notification: Notification[Any]) -> str:
    """One line: the channel's title_template, else the alert's own or standard title. Never empty, not clipped."""
    return one_line(_templated("title_template", notification)) or _title(notification)


def body(notification: Notification[Any]) -> str:
    """The channel's body_template, else the alert's message; cleaned, never empty, not clipped."""
    return clean(_templated("body_template", notification)) or _body(notification)


def template_notes(notification: Notification[Any]) -> list[str]:
    """Which of the channel's templates could not be used for this alert, and why."""
    notes = []
    for name in TEMPLATES:
        source = getattr(notification.config, name)
        if source is not None:
            try:
                empty = not clean(render(source, words(notification)))
            except TemplateFailedError as error:
                notes.append(f"{name} failed ({error}), the standard text was sent")
            else:
                notes += [f"{name} made no text, the standard one was sent"] * empty
    return notes


def _templated(name: str, notification: Notification[Any]) -> str:
    source = getattr(notification.config, name)
    if source is None:
        return ""
    try:
        return render(source, words(notification))
    except TemplateFailedError:
        return ""  # template_notes tells


def words(notification: Notification[Any]) -> dict[str, Any]:
    """What a template may name: title, body and facts are the standard words; alert has the alert's fields."""
    return {
        "alert": notification.alert,
        "body": _body(notification),
        "event": notification.event,
        "facts": "\n".join(f"{name}: {value}" for name, value in facts(notification)),
        "job_id": notification.job_id,
        "lead": lead(notification),
        "level": level(notification),
        "severity": notification.severity,
        "symbol": symbol(notification),
        "tenant_id": notification.tenant_id,
        "title": _title(notification),
    }


def _title(notification: Notification[Any]) -> str:
    """Such as "Critical: smoke detected at cam-3, berlin"; or `details.title`, with what happened since."""
    alert = notification.alert
    own = (alert.get("details") or {}).get("title")
    if isinstance(own, str) and (own := one_line(own)):
        return f"{_EVENT_LEADS[notification.event]}: {own}" if notification.event in _EVENT_LEADS else own
    what = one_line(clean(alert.get("alert_type") or "").replace("_", " "))
    if not what:
        what = clip(one_line(_body(notification).splitlines()[0]), 100)
    where = ", ".join(filter(None, (one_line(alert.get(key) or "") for key in ("device_id", "site_id"))))
    return f"{lead(notification)}: {what}" + (f" at {where}" if where else "")


def _body(notification: Notification[Any]) -> str:
    """The alert's message; without one, what there is to say. Never empty."""
    alert = notification.alert
    named = f"{alert.get('alert_type') or 'Alert'} {alert.get('alert_id')}".replace("_", " ")
    return clean(alert.get("message") or "") or one_line(named) or "Alert"


def facts(notification: Notification[Any]) -> list[tuple[str, str]]:
    """Names and values for a table, one line each, most important first. Not clipped."""
    alert = notification.alert
    details = alert.get("details") or {}
    rows: list[tuple[str, object]] = [
        ("Severity", f"{level(notification)} ({notification.severity})"),
        ("Type", alert.get("alert_type")),
        ("Device", alert.get("device_id")),
        ("Site", alert.get("site_id")),
        ("Triggered", alert.get("triggered_at") or rfc3339(notification.accepted_at)),
        ("Alert", alert.get("alert_id")),
        ("Camera", details.get("camera_id")),
        ("Detection", details.get("smart_detection_type")),
    ]
    rows += [(one_line(name), value) for name, value in (details.get("device_tags") or {}).items()]
    rows += [(one_line(name), value) for name, value in details.items() if name not in _SHOWN_ELSEWHERE]
    return [(name, one_line(value)) for name, value in rows if name and value not in (None, "", {}, [])]

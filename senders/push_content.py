"""What a push says beside its text, and how it is made to fit. Pure; for APNs, FCM and Web Push."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from senders.notes import Notes, links
from senders.outcomes import Rejected
from senders.text import body, clip, json_length, one_line, title

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from senders.base import Notification

TITLE_LIMIT: Final = 200
"""Characters; no platform shows more in a title."""

MIN_BODY: Final = 400
"""Bytes of the body that are kept while there is data to leave out instead."""


def rings(notification: Notification[Any]) -> bool:
    """Whether it is to break through silence: a critical alert that is not over."""
    return notification.is_critical and notification.event != "CLOSED"


def is_urgent(notification: Notification[Any]) -> bool:
    """Whether the phone should be woken for it: a warning (2) or worse."""
    return notification.is_critical or notification.severity >= 2  # noqa: PLR2004  # CONTRACT: 2 is warning


def data(notification: Notification[Any], notes: Notes) -> dict[str, str | int]:
    """What the app gets: alert_id, event, severity, job_id, and the alert's url and image_url if fit."""
    alert_id = notification.alert.get("alert_id", "")
    return {
        "alert_id": alert_id if isinstance(alert_id, int) else one_line(alert_id),
        "event": notification.event,
        "severity": notification.severity,
        "job_id": notification.job_id,
        **links(notification, notes),
    }


def fit(
    notification: Notification[Any],
    render: Callable[[str, str, Mapping[str, str | int]], bytes],
    limit: int,
) -> tuple[bytes, str | None]:
    """The message as large as the provider takes it, without data beside which MIN_BODY of the body has no room.

    Args:
        notification: gives title, body and data.
        render: makes the bytes that are sent, of title, body and data.
        limit: their greatest length.

    Returns:
        The bytes, and what is missing from them, for the receipt.

    Raises:
        Rejected: it does not even fit without body and data.
    """
    notes = Notes(notification)
    heading = notes.clip("title", title(notification), TITLE_LIMIT)
    words, extra = body(notification), data(notification, notes)
    content = render(heading, words, extra)
    if len(content) <= limit:
        return content, notes.detail
    # What the body can give. It is cut when the data that stay are known, by what it must give beside them.
    spare = json_length(words) - json_length(clip(words, MIN_BODY, json_length))
    left_out: list[str] = []
    for name in sorted(extra, key=lambda name: -len(str(extra[name]))):
        if len(content) - spare <= limit:
            break
        left_out.append(name)
        del extra[name]
        content = render(heading, words, extra)
    if len(content) > limit:
        room = max(0, json_length(words) - (len(content) - limit))
        words = notes.clip("message", words, room, json_length)
        content = render(heading, words, extra)
    if len(content) > limit:
        raise Rejected(
            "payload too large", f"{len(content)} bytes without body and data, of {limit} that are taken"
        )
    if left_out:
        notes.add(f"left out: {', '.join(left_out)}")
    return content, notes.detail

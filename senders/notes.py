"""What a person should know of a message that could not be sent as it was meant; and links fit to be followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from senders.guard import check_url
from senders.text import clip, template_notes

if TYPE_CHECKING:
    from collections.abc import Callable

    from senders.base import Notification


class Notes:
    """Collects what was clipped or left out, for the receipt's detail.

    Args:
        notification: whose channel's templates are looked at first: one that failed is a note, too.
    """

    def __init__(self, notification: Notification[Any]) -> None:
        self._found = template_notes(notification)
        self._clipped: dict[str, None] = {}

    def add(self, note: str) -> None:
        """Remember one clause."""
        self._found.append(note)

    def clip(self, name: str, text: str, limit: int, measure: Callable[[str], int] = len) -> str:
        """`senders.text.clip`, and remember the name of a text that did not fit."""
        clipped = clip(text, limit, measure)
        if clipped != text:
            self._clipped[name] = None
        return clipped

    @property
    def detail(self) -> str | None:
        """All of it as one line; None where nothing is missing."""
        clipped = [f"clipped: {', '.join(self._clipped)}"] if self._clipped else []
        return "; ".join([*self._found, *clipped]) or None


def links(notification: Notification[Any], notes: Notes) -> dict[str, str]:
    """The alert's `url` (to open) and `image_url` (to show), from its details, those of them that are fit.

    One that is not, such as `javascript:` or one with a user name in it, is left out and noted: a message is
    worth more than its link.
    """
    details = notification.alert.get("details") or {}
    found: dict[str, str] = {}
    for name in ("url", "image_url"):
        value = details.get(name)
        if value in (None, ""):
            continue
        try:
            found[name] = check_url(value if isinstance(value, str) else "")
        except ValueError as error:
            notes.add(f"details.{name} left out: it {error}")
    return found

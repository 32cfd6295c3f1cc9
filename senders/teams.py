"""Microsoft Teams, by a Workflows webhook and an Adaptive Card.

Set up:
    1. In Teams: the channel's menu, "Workflows", the template "Send webhook alerts to a channel"
       (https://support.microsoft.com/office/8ae491c7-0394-4861-ba59-055e33f75498).
    2. Give the URL that it shows to the channel as `webhook_url`. Its `sig` is a credential.

202 says that the flow was triggered, not that the card was shown; its run history is in Power Automate. The
webhooks of the retired Office 365 connectors do not take Adaptive Cards.

Facts: https://learn.microsoft.com/power-automate/teams/send-a-message-in-teams,
https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using,
https://adaptivecards.io/explorer
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, SecretStr

from senders.base import ChannelConfig, Notification, Sender
from senders.guard import check_secret_url
from senders.http import Answer, classify
from senders.notes import Notes, links
from senders.redaction import url_secrets
from senders.text import body, facts, json_length, level, one_line, symbol, title, to_json

if TYPE_CHECKING:
    from senders.outcomes import Receipt

CARD_TYPE: Final = "application/vnd.microsoft.card.adaptive"

MAX_BODY: Final = 28_000
"""Bytes of a message, Teams' 28 KB read the careful way."""

MAX_TITLE: Final = 200
MAX_FACT: Final = 300
MAX_FACTS: Final = 8_000
"""Bytes of all facts, so that most of the card is left for the message."""

_MISCONFIGURED: Final = frozenset({401, 403, 404, 410})
_EVENT_STYLES: Final = {"ACKNOWLEDGED": "emphasis", "CLOSED": "good"}
_LEVEL_STYLES: Final = {"info": "accent", "warning": "warning", "error": "warning", "critical": "attention"}
_WORD: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)
_MARKDOWN: Final = re.compile(r"[\\`*_\[\]]")


class TeamsConfig(ChannelConfig):
    """The Workflows webhook of one Teams channel or chat."""

    webhook_url: Annotated[SecretStr, AfterValidator(check_secret_url)]


class TeamsSender(Sender[TeamsConfig]):
    """Posts a card to a Teams channel."""

    name: ClassVar[str] = "teams"
    Config: ClassVar[type[ChannelConfig]] = TeamsConfig

    async def send(self, notification: Notification[TeamsConfig]) -> Receipt:
        """Trigger the flow with the event as a card.

        Raises:
            Transient: 429, 5xx.
            Misconfigured: 401, 403, 404, 410: the flow was switched off, deleted, or its signature is wrong.
            Rejected: other 4xx, such as 400 and 413.
        """
        content, note = _message(notification)
        url = notification.config.webhook_url.get_secret_value()
        answer = await self.http.post(url, content=content, headers={"content-type": "application/json"})
        if answer.ok:
            return classify(answer, note=note)
        detail = answer.excerpt(url_secrets(url))
        return classify(answer, code=_code(answer), detail=detail, misconfigured=_MISCONFIGURED)


def _code(answer: Answer) -> str:
    """Power Automate's own word where it gives one, as in {"error": {"code": "TriggerDisabled"}}."""
    parsed = answer.json()
    error = parsed.get("error") if isinstance(parsed, dict) else None
    word = error.get("code") if isinstance(error, dict) else None
    return f"{answer.status} {word}" if isinstance(word, str) and _WORD.fullmatch(word) else answer.code


def _run(text: str, **style: str) -> dict[str, Any]:
    """One paragraph. A text run shows what it is given, where a TextBlock would read it as Markdown."""
    inlines = [{"type": "TextRun", "text": text, **style}]
    return {"type": "RichTextBlock", "spacing": "Small", "inlines": inlines}


def _message(notification: Notification[TeamsConfig]) -> tuple[bytes, str | None]:
    """The serialised message, and a note on what was left out."""
    notes = Notes(notification)
    said = body(notification)
    card = _card(notification, notes)
    room = MAX_BODY - len(to_json(_envelope(card)))
    per_line = len(to_json(_run(""))) + 1

    def cost(piece: str) -> int:
        return json_length(piece) + piece.count("\n") * (per_line - json_length("\n"))

    shown = notes.clip("message", said, room - per_line, cost)
    card["body"][1:1] = [_run(line) for line in shown.split("\n") if line.strip()]
    return to_json(_envelope(card)), notes.detail


def _fact(text: str) -> str:
    """Text that stays text in a fact, which is read as Markdown: a link could say one thing and go to another.

    Title and value alike: https://learn.microsoft.com/adaptive-cards/authoring-cards/text-features. What the card
    has besides are text runs, which need no escape.
    """
    return _MARKDOWN.sub(r"\\\g<0>", text)


def _rows(notification: Notification[TeamsConfig], notes: Notes) -> list[dict[str, str]]:
    """The facts that fit."""
    found = facts(notification)
    rows: list[dict[str, str]] = []
    room = MAX_FACTS
    for name, value in found:
        row = {
            "title": _fact(notes.clip("details", name, MAX_FACT)),
            "value": _fact(notes.clip("details", value, MAX_FACT)),
        }
        room -= len(to_json(row)) + 1
        if room < 0:
            notes.add(f"{len(found) - len(rows)} details left out")
            break
        rows.append(row)
    return rows


def _card(notification: Notification[TeamsConfig], notes: Notes) -> dict[str, Any]:
    """The card, but for the message, whose place is after the first element."""
    heading = f"{symbol(notification)} {notes.clip('title', title(notification), MAX_TITLE)}"
    style = _EVENT_STYLES.get(notification.event) or _LEVEL_STYLES[level(notification)]
    source = f"{notification.event} · {one_line(notification.tenant_id)} · job {notification.job_id}"
    found = links(notification, notes)
    image = found.get("image_url", "")
    if image.startswith("http://"):
        notes.add("details.image_url left out: Teams shows only https:// images")
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": heading,
        "msteams": {"width": "Full"},
        "body": [
            {
                "type": "Container",
                "style": style,
                "bleed": True,
                "items": [_run(heading, weight="Bolder", size="Large")],
            },
            *([{"type": "Image", "url": image, "altText": "image"}] * image.startswith("https://")),
            {"type": "FactSet", "facts": _rows(notification, notes)},
            _run(notes.clip("tenant", source, MAX_FACT), size="Small", color="Default"),
        ],
    }
    if "url" in found:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open", "url": found["url"]}]
    return card


def _envelope(card: dict[str, Any]) -> dict[str, Any]:
    attachment = {"contentType": CARD_TYPE, "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}

"""Slack, and what takes Slack's incoming webhooks, in Block Kit.

Set up:
    1. Create an app at https://api.slack.com/apps, switch on "Incoming Webhooks", add one to a channel.
    2. Give its URL to the channel as `webhook_url`. Whoever knows the URL can post: it is kept as a secret.

A webhook posts to one Slack channel, about one message a second, and gives no id back.

Facts: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks,
https://docs.slack.dev/reference/block-kit/blocks, https://docs.slack.dev/messaging/formatting-message-text
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, SecretStr
from slack_sdk.models.blocks import (
    Block,
    ContextBlock,
    HeaderBlock,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)

from senders.base import ChannelConfig, Notification, Sender
from senders.guard import check_secret_url
from senders.http import Answer, classify, url_secrets
from senders.outcomes import Misconfigured, Receipt
from senders.text import body, clip, facts, one_line, symbol, title, to_json

MAX_HEADER: Final = HeaderBlock.text_max_length
MAX_SECTION: Final = SectionBlock.text_max_length
MAX_FIELDS: Final = SectionBlock.fields_max_length
MAX_NAME: Final = 100
MAX_VALUE: Final = 300
"""Characters of a field's two parts; Slack takes 2,000, which nobody reads in half a column."""

_MISCONFIGURED: Final = frozenset({403, 404, 410})
_CHANNEL_WORDS: Final = frozenset({
    "action_prohibited", "channel_is_archived", "channel_not_found", "invalid_token", "no_active_hooks",
    "no_service", "no_team", "posting_to_general_channel_denied", "team_disabled", "user_not_found",
})  # fmt: skip
_WORD: Final = re.compile(r"[a-z_]{2,64}")


class SlackConfig(ChannelConfig):
    """The incoming webhook of one Slack channel."""

    webhook_url: Annotated[SecretStr, AfterValidator(check_secret_url)]


class SlackSender(Sender[SlackConfig]):
    """Posts to a Slack channel."""

    name: ClassVar[str] = "slack"
    Config: ClassVar[type[ChannelConfig]] = SlackConfig

    async def send(self, notification: Notification[SlackConfig]) -> Receipt:
        """Post the event as blocks.

        Raises:
            Transient: 429, about one message a second; 5xx.
            Misconfigured: 403, 404 and 410: the webhook, its channel or its workspace is gone or forbids it.
            Rejected: other 4xx, such as invalid_payload.
        """
        message, note = _message(notification)
        url = notification.config.webhook_url.get_secret_value()
        headers = {"content-type": "application/json"}
        answer = await self.http.post(url, content=to_json(message), headers=headers)
        return _outcome(answer, url, note)


def _outcome(answer: Answer, url: str, note: str | None) -> Receipt:
    word = answer.text.strip()
    code = f"{answer.status} {word}" if _WORD.fullmatch(word) else answer.code
    if answer.ok:
        return classify(answer, code=code, note=note)
    detail = answer.excerpt(url_secrets(url))
    if 400 <= answer.status < 500 and word in _CHANNEL_WORDS:  # noqa: PLR2004  # RFC 9110, 15.5
        raise Misconfigured(code, detail)
    return classify(answer, code=code, detail=detail, misconfigured=_MISCONFIGURED)


def escape(text: str) -> str:
    """The three characters that Slack parses, as entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _fit(text: str, limit: int) -> str:
    return escape(clip(text, limit, lambda piece: len(escape(piece))))


def _markdown(text: str) -> MarkdownTextObject:
    # Without `verbatim` Slack turns names in an alert's text into mentions and channel links.
    return MarkdownTextObject(text=text, verbatim=True)


def _message(notification: Notification[SlackConfig]) -> tuple[dict[str, Any], str | None]:
    """The payload, and a note on what was left out."""
    heading = f"{symbol(notification)} {title(notification)}"
    said = body(notification)
    rows = facts(notification)
    fields = [
        _markdown(f"*{_fit(name, MAX_NAME)}*\n{_fit(value, MAX_VALUE)}") for name, value in rows[:MAX_FIELDS]
    ]
    source = f"{notification.event} · {one_line(notification.tenant_id)} · job {notification.job_id}"
    blocks: list[Block] = [
        HeaderBlock(text=PlainTextObject(text=_fit(heading, MAX_HEADER), emoji=True)),
        SectionBlock(text=_markdown(_fit(said, MAX_SECTION))),
        SectionBlock(fields=fields),
        ContextBlock(elements=[_markdown(_fit(source, MAX_VALUE))]),
    ]
    notes = []
    if len(escape(said)) > MAX_SECTION:
        notes.append(f"message clipped to {MAX_SECTION} characters")
    if len(rows) > MAX_FIELDS:
        notes.append(f"{len(rows) - MAX_FIELDS} details left out")
    fallback = _fit(f"{heading}: {said}", MAX_SECTION)
    return {"text": fallback, "blocks": [block.to_dict() for block in blocks]}, "; ".join(notes) or None

"""Slack, and what takes Slack's incoming webhooks, in Block Kit.

Set up:
    1. Create an app at https://api.slack.com/apps, switch on "Incoming Webhooks", add one to a channel.
    2. Give its URL to the channel as `webhook_url`. Whoever knows the URL can post: it is kept as a secret.

A webhook posts to one Slack channel, about one message a second, and gives no id back, so that a later event
is a message of its own. A link is text and no button: Slack marks the button of an app that takes no interactions
with a warning once it is pressed (https://github.com/slackapi/node-slack-sdk/issues/869).

Facts: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks,
https://docs.slack.dev/reference/block-kit/blocks, https://docs.slack.dev/messaging/formatting-message-text
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, SecretStr
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import (
    Block,
    ContextBlock,
    HeaderBlock,
    ImageElement,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)

from senders.base import ChannelConfig, Notification, Sender
from senders.deadline import Deadline
from senders.guard import check_secret_url
from senders.http import Answer, classify
from senders.notes import Notes, links
from senders.outcomes import Misconfigured, Receipt, Rejected, Transient
from senders.redaction import url_secrets
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
        """Post the event as blocks; once more without its image if Slack refuses the message with it.

        Slack fetches an image before it takes the message, and refuses both if it cannot. A refused message
        was not posted, so that the second request is still the same attempt.

        Raises:
            Transient: 429, about one message a second; 5xx.
            Misconfigured: 403, 404 and 410: the webhook, its channel or its workspace is gone or forbids it.
            Rejected: other 4xx, such as invalid_payload; or slack_sdk finds a limit that is not kept.
        """
        try:
            message, notes = _message(notification)
        except SlackObjectFormationError as error:
            raise Rejected("malformed message", str(error)) from None
        url = notification.config.webhook_url.get_secret_value()
        headers = {"content-type": "application/json"}
        deadline = self.settings.send_deadline
        try:
            async with Deadline(deadline):  # over both requests together
                answer = await self.http.post(url, content=to_json(message), headers=headers)
                if answer.status == HTTPStatus.BAD_REQUEST and _drop_image(message):
                    refused = answer.excerpt(url_secrets(url))
                    notes.add(f"image left out: Slack refused the message with it ({refused})")
                    answer = await self.http.post(url, content=to_json(message), headers=headers)
        except TimeoutError:
            raise Transient(
                "timeout", f"no complete answer in {deadline:g} s; it may have been taken all the same"
            ) from None
        return _outcome(answer, url, notes.detail)


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


def _cost(piece: str) -> int:
    return len(escape(piece))


def _markdown(text: str) -> MarkdownTextObject:
    # Without `verbatim` Slack turns names in an alert's text into mentions and channel links.
    return MarkdownTextObject(text=text, verbatim=True)


def _link(url: str) -> str:
    # What would end the link early is written as the URL's own escape.
    return f"<{escape(url.replace('<', '%3C').replace('>', '%3E').replace('|', '%7C'))}|Open>"


def _drop_image(message: dict[str, Any]) -> bool:
    """Whether the message had an image, which it has no more."""
    had = [block.pop("accessory", None) for block in message["blocks"]]
    return any(had)


def _message(notification: Notification[SlackConfig]) -> tuple[dict[str, Any], Notes]:
    """The payload, and what was left out of it."""
    notes = Notes(notification)

    def fit(name: str, text: str, limit: int) -> str:
        return escape(notes.clip(name, text, limit, _cost))

    heading = f"{symbol(notification)} {title(notification)}"
    said = body(notification)
    rows = facts(notification)
    fields = [
        _markdown(f"*{fit('details', name, MAX_NAME)}*\n{fit('details', value, MAX_VALUE)}")
        for name, value in rows[:MAX_FIELDS]
    ]
    if len(rows) > MAX_FIELDS:
        notes.add(f"{len(rows) - MAX_FIELDS} details left out")
    source = f"{notification.event} · {one_line(notification.tenant_id)} · job {notification.job_id}"
    found = links(notification, notes)
    link = _link(found["url"]) if "url" in found else ""
    if len(link) > MAX_SECTION:
        notes.add("details.url left out: it is too long for Slack")
        link = ""
    image = ImageElement(image_url=found["image_url"], alt_text="image") if "image_url" in found else None
    blocks: list[Block] = [
        HeaderBlock(text=PlainTextObject(text=fit("title", heading, MAX_HEADER), emoji=True)),
        SectionBlock(text=_markdown(fit("message", said, MAX_SECTION)), accessory=image),
        SectionBlock(fields=fields),
        *([SectionBlock(text=_markdown(link))] if link else []),
        ContextBlock(elements=[_markdown(fit("tenant", source, MAX_VALUE))]),
    ]
    fallback = escape(clip(f"{heading}: {said}", MAX_SECTION, _cost))
    return {"text": fallback, "blocks": [block.to_dict() for block in blocks]}, notes

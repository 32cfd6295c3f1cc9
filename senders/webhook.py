"""Webhooks after the Standard Webhooks specification: one signed POST an alert event.

Set up:
    1. Give the channel the receiver's `url`. A receiver in a private network needs TOCSIN_ALLOWED_NETWORKS.
    2. Make a secret with `printf whsec_; openssl rand -base64 32`, give it to the channel as `secret`, and
       verify with any library of https://www.standardwebhooks.com. While a secret rotates, put both here, the
       new one first, with a space between them: every request is then signed with each.
    3. Where the receiver wants credentials of its own, put them into `headers`.

The body is `{"type": "alert.open", "timestamp": ..., "data": {the alert, event_type, tenant_id, job_id}}`;
the id in `webhook-id` is the same for every attempt, so that the receiver can drop a repeat. With a
title_template or body_template `data` also has the `title` and `body` that it makes.

Facts: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, Field, SecretStr
from standardwebhooks import Webhook

from senders.base import ChannelConfig, Notification, Sender
from senders.guard import check_secret_url
from senders.http import classify
from senders.notes import Notes
from senders.outcomes import Misconfigured, Receipt
from senders.redaction import url_secrets
from senders.text import body, clean, clip, json_length, one_line, rfc3339, title, to_json

MAX_BODY: Final = 20_000
"""Bytes. The specification: "payload size should be kept to a minimum (ideally less than 20kb)"."""

MAX_TITLE: Final = 1000
MAX_NAMES: Final = 200
MAX_HEADERS: Final = 50
MAX_HEADER_VALUE: Final = 4096
MAX_HEADERS_SIZE: Final = 8192
"""Characters of all names and values: what most servers take, and each word is a secret to look for in answers."""

MAX_SECRETS: Final = 10
SECRET_BYTES: Final = (24, 64)

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_VALUE: Final = re.compile(r"[!-~]([\t -~]*[!-~])?")  # RFC 9110, 5.5, without obs-text
_WORD_BREAK: Final = re.compile(r'[\s"]+')
_SIGNING: Final = "webhook-"
# What frames the message, belongs to the connection, or would contradict the body.
_OURS: Final = frozenset({
    "accept-encoding", "connection", "content-encoding", "content-length", "expect", "host", "keep-alive",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


def _check_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    if len(headers) > MAX_HEADERS:
        raise ValueError(f"must be at most {MAX_HEADERS} headers")
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError("must have names of letters, digits and hyphens")
        if name.lower() in _OURS or name.lower().startswith(_SIGNING):
            raise ValueError(f"must not set {name}: it is ours to set")
        text = value.get_secret_value()
        if len(text) > MAX_HEADER_VALUE or not _VALUE.fullmatch(text):
            raise ValueError(
                f"{name} must be 1 to {MAX_HEADER_VALUE} printable ASCII characters, "
                "without line breaks, NUL or space at either end"
            )
    if sum(len(name) + len(value.get_secret_value()) for name, value in headers.items()) > MAX_HEADERS_SIZE:
        raise ValueError(f"must be at most {MAX_HEADERS_SIZE} characters, names and values together")
    return headers


def _check_secret(secret: SecretStr) -> SecretStr:
    secrets = secret.get_secret_value().split()
    try:
        keys = [base64.b64decode(_padded(one.removeprefix("whsec_")), validate=True) for one in secrets]
    except (binascii.Error, ValueError):
        keys = []
    low, high = SECRET_BYTES
    if (
        not keys
        or not all(one.startswith("whsec_") for one in secrets)
        or not all(low <= len(key) <= high for key in keys)
    ):
        raise ValueError(
            f"must be whsec_ and the base64 of {low} to {high} random bytes, as from "
            "`printf whsec_; openssl rand -base64 32`; several separated by a space while one rotates"
        )
    if len(secrets) > MAX_SECRETS:
        raise ValueError(f"must be at most {MAX_SECRETS} secrets")
    return secret


def _padded(text: str) -> str:
    return text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)


class WebhookConfig(ChannelConfig):
    """Where a webhook goes, and how it proves that it is ours."""

    url: Annotated[SecretStr, AfterValidator(check_secret_url)]
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    headers: Annotated[dict[str, SecretStr], AfterValidator(_check_headers)] = Field(default_factory=dict)
    secret: Annotated[SecretStr, AfterValidator(_check_secret)] | None = None


class WebhookSender(Sender[WebhookConfig]):
    """Delivers to any HTTP receiver."""

    name: ClassVar[str] = "webhook"
    Config: ClassVar[type[ChannelConfig]] = WebhookConfig

    async def send(self, notification: Notification[WebhookConfig]) -> Receipt:
        """POST the event. 2xx is a receipt, 410 means that the receiver was removed; see http.classify.

        Raises:
            Transient, Rejected, Misconfigured: see senders.outcomes.
        """
        config = notification.config
        notes = Notes(notification)
        content = _fit(_payload(notification, notes), notes)
        url = config.url.get_secret_value()
        headers = {
            "content-type": "application/json",
            **{name.lower(): value.get_secret_value() for name, value in config.headers.items()},
            **_signature(notification, content, datetime.now(UTC)),
        }
        answer = await self.http.post(url, content=content, headers=headers, method=config.method)
        if answer.status == 410:  # noqa: PLR2004  # the specification: "disable the endpoint"
            raise Misconfigured(answer.code, "the receiver says that it was removed for good")
        if answer.ok:
            return classify(answer, note=notes.detail)
        return classify(answer, detail=answer.excerpt(_secrets(config)))


def _payload(notification: Notification[WebhookConfig], notes: Notes) -> dict[str, Any]:
    words: dict[str, str] = {}
    if notification.config.title_template is not None:
        words["title"] = notes.clip("title", title(notification), MAX_TITLE)
    if notification.config.body_template is not None:
        words["body"] = body(notification)
    return {
        "type": f"alert.{notification.event.lower()}",
        "timestamp": rfc3339(notification.accepted_at),
        "data": {
            **notification.alert,
            "event_type": notification.event,
            "tenant_id": notification.tenant_id,
            "job_id": notification.job_id,
            **words,
        },
    }


def _signature(notification: Notification[WebhookConfig], content: bytes, now: datetime) -> dict[str, str]:
    """The three webhook-* headers; the signature only where there is a secret to sign with."""
    headers = {"webhook-id": str(notification.id), "webhook-timestamp": str(int(now.timestamp()))}
    if notification.config.secret is not None:
        text = content.decode()
        headers["webhook-signature"] = " ".join(
            Webhook(secret).sign(headers["webhook-id"], now, text)
            for secret in notification.config.secret.get_secret_value().split()
        )
    return headers


def _fit(payload: dict[str, Any], notes: Notes) -> bytes:
    """Serialise, and leave out what makes the body too large: the largest details, then the texts' ends.

    A body that was shortened says so to the receiver with `data.truncated: true`.
    """
    content = to_json(payload)
    if len(content) <= MAX_BODY:
        return content
    notes.add(f"{len(content)} bytes shortened")
    data = {**payload["data"], "truncated": True}

    def excess() -> int:
        return len(to_json({**payload, "data": data})) - MAX_BODY

    details = data.get("details")
    if isinstance(details, Mapping):
        lost = _largest(details, excess())
        data["details"] = {name: value for name, value in details.items() if name not in lost}
        if lost:
            notes.add(f"left out details {clip(', '.join(map(one_line, lost)), MAX_NAMES)}")
    for name in ("message", "body"):
        text = data.get(name)
        if isinstance(text, str) and excess() > 0:
            data[name] = ""
            data[name] = notes.clip(name, clean(text), max(-excess(), 0), json_length)
    return to_json({**payload, "data": data})


def _largest(details: Mapping[str, Any], excess: int) -> dict[str, int]:
    """The fewest entries without which the body is `excess` bytes shorter, and their sizes."""
    sizes = {name: len(to_json({name: value})) - len("{}") + len(",") for name, value in details.items()}
    # One byte more: where nothing remains there was one comma less than entries.
    excess += len(",")
    lost: dict[str, int] = {}
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if excess <= 0:
            break
        excess -= sizes[name]
        lost[name] = sizes[name]
    return lost


def _secrets(config: WebhookConfig) -> tuple[str, ...]:
    """Everything that an answer must not be quoted with, each word of "Bearer TOKEN" and what stands in quotes, too."""
    values = [value.get_secret_value() for value in config.headers.values()]
    signing = config.secret.get_secret_value().split() if config.secret else []
    words = [word for value in values for word in _WORD_BREAK.split(value)]
    quoted = [text.strip() for value in values for text in value.split('"')[1::2]]
    return (*url_secrets(config.url.get_secret_value()), *values, *words, *quoted, *signing)

"""A delivery's message, made again: what was sent is not kept, so the sender's own code makes it once more.

It is the message that would be sent now, of the alert as it was accepted and the channel as it is: the page says so,
and says when the channel was changed since. HTTP senders run whole up to the request, which is taken from them in place
of the network; the others have a function that makes the message. Secrets of the channel are masked wherever they
stand.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel, SecretStr

from actors.attempts import config_of, notification_id, thread_of
from admin.secrets import MASK
from config.logging import get_logger
from model.channels import channels_of
from model.database import utcnow
from model.tables import NO_DEVICE, Channel, Device
from senders import apns, fcm, mqtt, webpush
from senders.base import Device as Target
from senders.base import Notification
from senders.email import EmailSender, sender_address
from senders.mail_message import compose
from senders.notes import Notes
from senders.outcomes import SendError
from senders.pagerduty import PagerDutySender
from senders.push_content import fit
from senders.redaction import url_secrets
from senders.registry import sender_of
from senders.slack import SlackSender
from senders.snmp import SnmpSender
from senders.teams import TeamsSender
from senders.text import body, one_line, title
from senders.webhook import WebhookSender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from config import Settings
    from model.tables import Delivery, Job

#: Schemes in whose URLs a host is a host.
_WITH_HOSTS = frozenset({"http", "https", "smtp", "smtps"})

#: Shorter values are no secrets worth the name, and would mask half of the text.
SHORTEST_SECRET = 6

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shown:
    """A message for people.

    Attributes:
        where: host and method, or what carries it; never more of a URL, which may be a secret.
        headers: of a request or mail, masked.
        text: the content, masked; JSON is indented.
        note: what was left out of it.
        why_not: why there is none; then the rest is empty.
    """

    where: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    text: str = ""
    note: str | None = None
    why_not: str | None = None
    changed_since: bool = False


@dataclass(slots=True)
class _Content:
    """What a sender made, before it is masked."""

    where: str
    content: str
    headers: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None


class _Taken(BaseException):
    """Carries a request out of a sender, past whatever it may catch."""

    def __init__(self, content: _Content) -> None:
        self.content = content


class _Taker:
    """In the place of the HTTP client: takes the request."""

    async def post(
        self, url: str, *, content: bytes, headers: Mapping[str, str], method: str = "POST", **_: Any
    ) -> None:
        """Answer nothing: the sender ends here."""
        raise _Taken(_Content(f"{method} to {urlsplit(url).hostname}", content.decode(), headers))


def message_of(settings: Settings, job: Job, delivery: Delivery) -> Shown:
    """A delivery's message. Within a connection of the caller's."""
    channel = channels_of([job.channel_id]).get(job.channel_id)
    if channel is None or channel.tenant_id != job.tenant_id:
        return Shown(why_not="the channel was deleted, and with it how its messages are made")
    target = None
    if delivery.device_id != NO_DEVICE:
        mine = (Device.tenant == job.tenant_id) & (Device.user_id == delivery.user_id)
        device = Device.get_or_none(mine & (Device.id == delivery.device_id))
        if device is None:
            return Shown(why_not="the device was deleted, or is another user's now")
        # Its address is a secret too: nothing of the message depends on it but FCM's token, which is masked so.
        target = Target(device.id, device.user_id, device.platform, MASK, {})
    if sender_of(channel.channel_type, target.platform if target else None) != delivery.sender:
        return Shown(why_not="the channel has become one of another type")
    try:
        config = config_of(channel)
        hidden = sorted({*_secrets(config)}, key=len, reverse=True)
        made = _make(settings, delivery.sender, _notification(job, delivery, config, target))
    except SendError as error:
        return Shown(why_not=str(error))
    except Exception:  # what no sender foresaw takes the message away, and not the page
        log.exception("message_not_made", job=job.id, delivery=delivery.id)
        return Shown(why_not="the sender cannot make it, and the server's log says why")
    sent = delivery.finished_at or delivery.created_at
    changed = Channel.select(Channel.updated_at).where(Channel.id == job.channel_id).get().updated_at
    return Shown(
        where=_masked_text(made.where, hidden),
        headers=tuple((name, _header(name, value, hidden)) for name, value in made.headers.items()),
        text=_masked(made.content, hidden),
        note=made.note,
        changed_since=changed > sent,
    )


def _notification(job: Job, delivery: Delivery, config: Any, device: Target | None) -> Notification[Any]:
    """The delivery as its sender sees it; see actors.attempts.notification_of, which works on claims."""
    return Notification(
        id=notification_id(job.id, job.accepted_at, delivery.device_id),
        tenant_id=job.tenant_id,
        job_id=job.id,
        alert=job.payload,
        event=job.deliver_on_event,
        severity=job.severity,
        is_critical=job.is_critical,
        thread=thread_of(job.tenant_id, job.alert_id),
        accepted_at=job.accepted_at,
        expires_at=delivery.expires_at,
        config=config,
        device=device,
    )


def _make(settings: Settings, sender: str, notification: Notification[Any]) -> _Content:
    """The message, by the code that sends it.

    Raises:
        SendError: it cannot be made.
    """
    if sender in _HTTP:
        try:
            # A loop of its own, in this thread: a sender may want to know the time.
            asyncio.run(_HTTP[sender](settings, _Taker()).send(notification))
        except _Taken as taken:
            return taken.content
    return _MAKERS.get(sender, _plain)(settings, notification)


_HTTP: dict[str, Any] = {
    each.name: each for each in (WebhookSender, SlackSender, TeamsSender, PagerDutySender)
}


def _apns(_settings: Settings, notification: Notification[Any]) -> _Content:
    content, note = fit(notification, lambda *parts: apns.payload(notification, *parts), apns.MAX_PAYLOAD)
    return _Content("APNs", content.decode(), note=note)


def _fcm(_settings: Settings, notification: Notification[Any]) -> _Content:
    now = utcnow()
    content, note = fit(
        notification, lambda *parts: fcm.message(notification, *parts, now=now), fcm.MAX_MESSAGE
    )
    return _Content("FCM", content.decode(), note=note)


def _webpush(_settings: Settings, notification: Notification[Any]) -> _Content:
    content, note = fit(
        notification, lambda *parts: webpush.payload(notification, *parts), webpush.MAX_PLAINTEXT
    )
    return _Content("Web Push, before it is encrypted for the browser", content.decode(), note=note)


def _mqtt(_settings: Settings, notification: Notification[Any]) -> _Content:
    content, note = mqtt._payload(notification)  # noqa: SLF001  # the one function that makes it
    return _Content(f"MQTT, topic {notification.config.topic}", content.decode(), note=note)


def _email(settings: Settings, notification: Notification[Any]) -> _Content:
    config = notification.config
    mail, note = compose(
        notification,
        sender=sender_address(settings, config),
        recipients=config.to,
        subject_template=config.subject_template,
    )
    part = mail.get_body(("plain",))
    headers = {
        name: str(value) for name, value in mail.items() if name not in {"MIME-Version", "Content-Type"}
    }
    return _Content("mail, its plain text", part.get_content() if part else "", headers, note)


def _snmp(_settings: Settings, notification: Notification[Any]) -> _Content:
    from senders.snmp_engine import variables  # noqa: PLC0415  # pysnmp takes half a second to import

    config = notification.config
    notes = Notes(notification)
    lines = [f"{oid} = {value.prettyPrint()}" for oid, value in variables(notification, notes)]
    return _Content(f"SNMP {config.notification}, version {config.version}", "\n".join(lines))


def _plain(_settings: Settings, notification: Notification[Any]) -> _Content:
    """What Apprise is given; how it dresses that for each service is its own."""
    return _Content("title and body", f"{one_line(title(notification))}\n\n{body(notification)}")


_MAKERS: dict[str, Callable[[Settings, Notification[Any]], _Content]] = {
    apns.ApnsSender.name: _apns,
    fcm.FcmSender.name: _fcm,
    webpush.WebPushSender.name: _webpush,
    mqtt.MqttSender.name: _mqtt,
    SnmpSender.name: _snmp,
    EmailSender.name: _email,
}


def _secrets(value: Any) -> Iterable[str]:
    """Every secret of a config, URLs by their parts too, and each word of "Bearer TOKEN"."""
    if isinstance(value, SecretStr):
        plain = value.get_secret_value()
        parts = {plain, *plain.split()}
        if "://" in plain:
            url = urlsplit(plain)
            parts |= {*url_secrets(plain), url.username or "", url.password or ""}
            if url.scheme not in _WITH_HOSTS:
                parts |= set(url.netloc.replace("@", ":").split(":"))  # where Apprise keeps tokens
        yield from (part for part in parts if len(part) >= SHORTEST_SECRET)
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from _secrets(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _secrets(item)


def _masked(content: str, hidden: list[str]) -> str:
    """The content without secrets: JSON string by string, since an escape could hide one from a plain search."""
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError:
        return _masked_text(content, hidden)
    if not isinstance(parsed, (dict, list)):
        return _masked_text(content, hidden)
    return orjson.dumps(_masked_values(parsed, hidden), option=orjson.OPT_INDENT_2).decode()


def _masked_values(value: Any, hidden: list[str]) -> Any:
    if isinstance(value, str):
        return _masked_text(value, hidden)
    if isinstance(value, dict):
        return {_masked_text(name, hidden): _masked_values(item, hidden) for name, item in value.items()}
    return [_masked_values(item, hidden) for item in value] if isinstance(value, list) else value


def _masked_text(text: str, hidden: list[str]) -> str:
    for secret in hidden:
        text = text.replace(secret, MASK)
    return text


def _header(name: str, value: str, hidden: list[str]) -> str:
    if name in {"webhook-signature", "webhook-timestamp"}:
        return "made anew at each attempt"
    return _masked_text(value, hidden)

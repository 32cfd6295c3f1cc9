"""Every sender and every channel type, in a list that one reads. A new provider is one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from senders.apns import ApnsSender
from senders.apprise import AppriseSender
from senders.email import EmailSender
from senders.fcm import FcmSender
from senders.mqtt import MqttSender
from senders.pagerduty import PagerDutySender
from senders.push import PushConfig
from senders.slack import SlackSender
from senders.snmp import SnmpSender
from senders.teams import TeamsSender
from senders.webhook import WebhookSender
from senders.webpush import WebPushSender

if TYPE_CHECKING:
    from collections.abc import Iterable

    from senders.base import ChannelConfig, Sender

ALL: tuple[type[Sender[Any]], ...] = (
    WebhookSender,
    SlackSender,
    TeamsSender,
    PagerDutySender,
    EmailSender,
    SnmpSender,
    MqttSender,
    AppriseSender,
    ApnsSender,
    FcmSender,
    WebPushSender,
)


def _by_name(senders: Iterable[type[Sender[Any]]]) -> dict[str, type[Sender[Any]]]:
    found: dict[str, type[Sender[Any]]] = {}
    for sender in senders:
        if sender.name in found:
            raise RuntimeError(f"two senders are called {sender.name}")
        found[sender.name] = sender
    return found


SENDERS = _by_name(ALL)

#: The push senders, by the platform of the device.
PLATFORMS = {"ios": ApnsSender.name, "android": FcmSender.name, "web": WebPushSender.name}

#: Names that people also use for a channel type.
ALIASES = {"http": WebhookSender.name}

#: What a channel may be, and the shape of its config.
CHANNEL_TYPES: dict[str, type[ChannelConfig]] = {
    "push": PushConfig,
    **{name: sender.Config for name, sender in SENDERS.items() if name not in PLATFORMS.values()},
}


def channel_type_of(sender: str) -> str:
    """The type of the channels for which a sender delivers: `push` for every push service."""
    return "push" if sender in PLATFORMS.values() else sender


def sender_of(channel_type: str, platform: str | None) -> str | None:
    """Who delivers for a channel of this type, to a device of this platform or to the channel itself.

    Returns:
        A name in SENDERS; None where such a channel has no such targets.
    """
    if channel_type == "push":
        return None if platform is None else PLATFORMS.get(platform)
    return ALIASES.get(channel_type, channel_type) if platform is None else None

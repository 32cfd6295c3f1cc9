"""For every sender: how to start its far side, and configs with a canary in every secret field.

A sender that joins the registry needs an adapter here; test_contract.py insists on it.
"""

from __future__ import annotations

import base64
import re
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args
from uuid import uuid4

from pydantic import BaseModel, SecretStr

from receivers.keys import new_p256, pem, write_tls_files
from senders.apns import ApnsSender
from senders.apprise import AppriseConfig, AppriseSender
from senders.base import Device
from senders.email import EmailSender
from senders.fcm import FcmSender
from senders.mqtt import MqttSender
from senders.pagerduty import PagerDutySender
from senders.slack import SlackSender
from senders.snmp import SnmpSender
from senders.teams import TeamsSender
from senders.webhook import WebhookSender
from senders.webpush import WebPushSender
from tests.unit.senders.push_support import (
    ANDROID_TOKEN,
    IOS_TOKEN,
    LocalFcm,
    faulty_apns,
    local_fcm,
    rsa_key,
    trust,
)
from tests.unit.senders.servers_support import broker, mail_server, trap_daemon
from tests.unit.senders.support import client, loopback_settings, notification, receiving
from tests.unit.senders.test_webpush import Browser

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from senders.base import ChannelConfig, Notification, Sender

CANARY = "CANARY9f8e7d6c"


@dataclass
class Subject:
    """A sender, and what its notifications have in common."""

    sender: Sender[Any]
    config: ChannelConfig
    device: Device | None = None

    def make(
        self, event: str = "OPEN", *, alert: Mapping[str, Any] | None = None, **more: Any
    ) -> Notification[Any]:
        """A notification with an id of its own that is not expired."""
        fields = {"id": uuid4(), "expires_at": datetime.now(UTC) + timedelta(hours=1), "device": self.device}
        return notification(self.config, event, alert=alert, **{**fields, **more})


class Adapter(ABC):
    """What the contract suite must know of one sender."""

    def __init__(self, sender: type[Sender[Any]]) -> None:
        self.sender = sender

    @abstractmethod
    def configs(self, port: int) -> list[Any]:
        """Configs that go to a port of this machine; together they fill every secret field with a canary."""

    @abstractmethod
    def working(self, directory: Path) -> Any:
        """An async context manager of a Subject whose far side takes everything."""

    def device(self, port: int) -> Device | None:  # most have no device
        """The target of a push to a port of this machine."""
        del port
        return None

    def settings(self, port: int, directory: Path) -> dict[str, Any]:  # most need none
        """The settings that lead to a port of this machine."""
        del port, directory
        return {}

    @asynccontextmanager
    async def at(
        self, port: int, directory: Path, config: Any = None, **settings: Any
    ) -> AsyncIterator[Subject]:
        """A sender for whatever listens on a port."""
        made = loopback_settings(**self.settings(port, directory), **settings)
        async with client(made, ssl_context=trust()) as http:
            sender = self.sender(made, http)
            try:
                yield Subject(sender, config or self.configs(port)[0], self.device(port))
            finally:
                await sender.aclose()

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A far side that refuses, and says back all that it was told: as HTTP, unless it speaks otherwise."""
        heard = await reader.read(65_536)
        body = heard + b" " + heard.hex().encode()
        head = f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()


class HttpAdapter(Adapter):
    """A sender that posts to the URL of its channel."""

    def __init__(self, sender: type[Sender[Any]], fields: Mapping[str, Any]) -> None:
        super().__init__(sender)
        self.fields = fields

    def configs(self, port: int) -> list[Any]:
        url = f"http://127.0.0.1:{port}"
        fields = {
            name: value.replace("URL", url) if isinstance(value, str) else value
            for name, value in self.fields.items()
        }
        return [self.sender.Config.model_validate(fields)]

    @asynccontextmanager
    async def working(self, directory: Path) -> AsyncIterator[Subject]:
        async with (
            receiving() as receiver,
            self.at(int(receiver.url.rpartition(":")[2]), directory) as subject,
        ):
            yield subject


class PushAdapter(Adapter):
    """APNs, FCM and Web Push share a config; each channel here has credentials of its own for all three."""

    def configs(self, port: int) -> list[Any]:
        fcm = LocalFcm(url=f"http://127.0.0.1:{port}", key=rsa_key())
        fields = {
            "all_users": True,
            "apns": {
                "key": pem(new_p256()).decode(),
                "key_id": "KEY1234567",
                "team_id": "TEAM123456",
                "topic": "org.example.app",
            },
            "fcm": {"service_account": fcm.document()},
            "webpush": {"private_key": pem(new_p256()).decode(), "subject": "mailto:ops@example.org"},
        }
        return [self.sender.Config.model_validate(fields)]


class ApnsAdapter(PushAdapter):
    def device(self, port: int) -> Device:
        del port
        return Device(7, "alice", "ios", IOS_TOKEN)

    def settings(self, port: int, directory: Path) -> dict[str, Any]:
        ca_file = directory / "ca.pem"
        if not ca_file.exists():
            ca_file.write_bytes(write_tls_files(directory)[0].read_bytes())
        return {"apns_host": "127.0.0.1", "apns_port": port, "apns_ca_file": ca_file}

    @asynccontextmanager
    async def working(self, directory: Path) -> AsyncIterator[Subject]:
        async with faulty_apns(directory) as apns:
            (directory / "ca.pem").write_bytes(apns.ca_file.read_bytes())
            async with self.at(apns.port, directory) as subject:
                yield subject


class FcmAdapter(PushAdapter):
    def device(self, port: int) -> Device:
        del port
        return Device(8, "alice", "android", ANDROID_TOKEN)

    def settings(self, port: int, directory: Path) -> dict[str, Any]:
        del directory
        return {"fcm_url": f"http://127.0.0.1:{port}"}

    @asynccontextmanager
    async def working(self, directory: Path) -> AsyncIterator[Subject]:
        async with local_fcm() as fcm, self.at(int(fcm.url.rpartition(":")[2]), directory) as subject:
            yield subject


class WebPushAdapter(PushAdapter):
    def device(self, port: int) -> Device:
        return Browser().device(f"http://127.0.0.1:{port}")

    @asynccontextmanager
    async def working(self, directory: Path) -> AsyncIterator[Subject]:
        async with (
            receiving(status=201, body=b"") as service,
            self.at(int(service.url.rpartition(":")[2]), directory) as subject,
        ):
            yield subject


class EmailAdapter(Adapter):
    def configs(self, port: int, login: str = f"{CANARY}user:{CANARY}word@") -> list[Any]:
        url = f"smtp://{login}127.0.0.1:{port}"
        fields = {"to": ["ann@example.org", "bob@example.org"], "smtp_url": url, "mail_from": "t@example.org"}
        return [self.sender.Config.model_validate(fields)]

    @asynccontextmanager
    async def working(self, directory: Path) -> AsyncIterator[Subject]:
        async with mail_server() as mailbox:
            config = self.configs(mailbox.port, "")[0]
            async with self.at(mailbox.port, directory, config) as subject:
                yield subject

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        while heard := await reader.readline():
            words = heard.split()
            plain = base64.b64decode(words[-1] + b"==", altchars=b"-_").replace(b"\0", b" ")
            if words[0] == b"EHLO":
                writer.write(b"250-me\r\n250 AUTH PLAIN LOGIN\r\n")
            else:
                writer.write(b"535 " + heard.strip() + b" " + ascii(plain).encode() + b"\r\n")


class MqttAdapter(Adapter):
    def configs(self, port: int) -> list[Any]:
        secret = {"username": "tocsin", "password": f"{CANARY}word"}
        fields = {"host": "127.0.0.1", "port": port, "topic": "site/alerts", **secret}
        return [self.sender.Config.model_validate(fields)]

    @asynccontextmanager
    async def working(self, directory: Path) -> AsyncIterator[Subject]:
        with broker(directory / "broker", "allow_anonymous true") as port:
            async with self.at(port, directory) as subject:
                yield subject


class SnmpAdapter(Adapter):
    def configs(self, port: int) -> list[Any]:
        place = {"host": "127.0.0.1", "port": port, "notification": "inform"}
        third = {
            "version": "3",
            "user": "tocsin",
            "auth_protocol": "SHA",
            "auth_key": f"{CANARY}auth",
            "priv_protocol": "AES",
            "priv_key": f"{CANARY}priv",
        }
        fields = [{**place, "community": f"{CANARY}community"}, {**place, **third}]
        return [self.sender.Config.model_validate(each) for each in fields]

    @asynccontextmanager
    async def working(self, directory: Path) -> AsyncIterator[Subject]:
        with trap_daemon(directory, f"authCommunity log {CANARY}community") as daemon:
            async with self.at(daemon.port, directory) as subject:
                yield subject


class AppriseAdapter(Adapter):
    def configs(self, port: int) -> list[Any]:
        # No tenant's channel may go to this machine; `json` takes its host from the URL.
        url = f"json://{CANARY}user:{CANARY}word@127.0.0.1:{port}/{CANARY}path"
        return [AppriseConfig.model_construct(url=SecretStr(url), max_retries=1)]

    @asynccontextmanager
    async def working(self, directory: Path) -> AsyncIterator[Subject]:
        async with (
            receiving() as receiver,
            self.at(int(receiver.url.rpartition(":")[2]), directory) as subject,
        ):
            yield subject


_SIGNING = f"whsec_{base64.b64encode(f'{CANARY}{CANARY}'.encode()).decode()}"

ADAPTERS: dict[type[Any], Adapter] = {
    adapter.sender: adapter
    for adapter in (
        HttpAdapter(
            WebhookSender,
            {
                "url": f"URL/{CANARY}path?key={CANARY}query",
                "headers": {"authorization": f"Bearer {CANARY}header"},
                "secret": _SIGNING,
            },
        ),
        HttpAdapter(SlackSender, {"webhook_url": f"URL/services/T0/B0/{CANARY}path"}),
        HttpAdapter(TeamsSender, {"webhook_url": f"URL/workflows/1?sig={CANARY}query"}),
        HttpAdapter(
            PagerDutySender,
            {"integration_key": f"{CANARY}0123456789abcdef01", "endpoint": f"URL/{CANARY}path"},
        ),
        ApnsAdapter(ApnsSender),
        FcmAdapter(FcmSender),
        WebPushAdapter(WebPushSender),
        EmailAdapter(EmailSender),
        MqttAdapter(MqttSender),
        SnmpAdapter(SnmpSender),
        AppriseAdapter(AppriseSender),
    )
}


def secret_fields(model: type[BaseModel], path: str = "") -> set[str]:
    """The paths of all fields of a config, and of what is nested in it, that hold a secret."""
    found: set[str] = set()
    for name, info in model.model_fields.items():
        for kind in _kinds(info.annotation):
            if kind is SecretStr:
                found.add(f"{path}{name}")
            elif isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= secret_fields(kind, f"{path}{name}.")
    return found


def _kinds(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from _kinds(inner)


def secrets_in(value: Any, path: str = "") -> dict[str, list[str]]:
    """The secrets of a config, by the paths of their fields."""
    if isinstance(value, SecretStr):
        return {path: [value.get_secret_value()]}
    if isinstance(value, BaseModel):
        parts = [(f"{path}.{name}".lstrip("."), getattr(value, name)) for name in type(value).model_fields]
    elif isinstance(value, dict):
        parts = [(path, inner) for inner in value.values()]
    else:
        return {}
    found: dict[str, list[str]] = {}
    for place, inner in parts:
        for name, secrets in secrets_in(inner, place).items():
            found.setdefault(name, []).extend(secrets)
    return found


def traces(secret: str) -> set[str]:
    """What gives a secret away: the lines of a key, or each word with a canary, plain and encoded."""
    if "PRIVATE KEY" in secret:
        return set(re.findall(r"[A-Za-z0-9+/]{40,}", secret.replace("\\n", "\n")))
    words = {secret, *re.findall(rf"\w*{CANARY}\w*", secret)}
    assert CANARY in secret or secret.startswith("whsec_"), "a secret field without a canary"
    encoded = {base64.b64encode(word.encode()).decode().rstrip("=")[:-1] for word in words}
    return words | encoded | {word.encode().hex() for word in words}

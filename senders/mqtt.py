"""MQTT: each event is published to the channel's topic, over one long-lived connection.

Set up:
    1. Give the channel the broker's `host` and a `topic`; `tls: true` for port 8883, and `ca` (PEM text)
       where the broker's certificate comes from an authority of your own.
    2. Give it a `username` and `password` that may publish to this topic.
    3. `retain: true` keeps the last event on the broker, so that who subscribes later sees the alert's state:
       CLOSED then replaces OPEN. Use a topic of its own for that.

The payload is a webhook's JSON body; where the channel has templates, `data` has the `title` and `body` that
they make. MQTT 5 brokers also get the content type, the notification's id and thread as user properties, and
an expiry; a broker that refuses version 5 is spoken to in 3.1.1.

Facts: https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html 2.4 (reason codes), 3.3.2.3
(properties); MQTT 3.1.1, 3.1.2.2 (what an old broker answers to version 5)
"""

from __future__ import annotations

import asyncio
import functools
import math
import secrets
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

import aiomqtt
import certifi
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from senders.base import Notification, Sender
from senders.deadline import Deadline
from senders.http_errors import CONNECT_TIMEOUT
from senders.kept import MOST, Opened
from senders.mqtt_config import MqttConfig
from senders.mqtt_connection import Connection, shake_hands
from senders.notes import Notes
from senders.outcomes import Misconfigured, Receipt, Rejected, SendError, Transient
from senders.reach import UNKNOWN, connect, tls_failure, unconnected
from senders.text import body, clean, json_length, one_line, rfc3339, title, to_json

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from config import Settings
    from senders.http import HttpClient

MAX_PAYLOAD: Final = 20_000
"""Bytes, as for a webhook."""

MAX_TITLE: Final = 1000

KEEPALIVE: Final = 20
"""Seconds between pings; a broker that answers none is noticed after twice that."""

_HEADROOM: Final = 256
"""Bytes of a PUBLISH beside topic and payload, at most."""

_UNSUPPORTED_VERSION: Final = 132
_NO_SUBSCRIBERS: Final = 16
_FAILURE: Final = 128
_DEFAULT_PORTS: Final = {False: 1883, True: 8883}

# Reason codes (2.4) for which a person must act, and those with which this message can never work. Every
# other failure, such as 136 (unavailable), 137 (busy) or 151 (quota), may pass.
_MISCONFIGURED: Final = frozenset({129, 130, 132, 133, 134, 135, 138, 140, 144, 154, 155, 156, 157})
_REJECTED: Final = frozenset({149, 153})


class MqttSender(Sender[MqttConfig]):
    """Publishes to MQTT brokers.

    Args:
        ssl_context: whom to trust where the channel names no `ca`; else certifi's and the system's list.
    """

    name: ClassVar[str] = "mqtt"
    Config: ClassVar[type[MqttConfig]] = MqttConfig

    def __init__(
        self, settings: Settings, http: HttpClient, *, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(settings, http)
        self._ssl = ssl_context
        self._connections: Opened[MqttConfig, Connection] = Opened(Connection.leave)

    async def send(self, notification: Notification[MqttConfig]) -> Receipt:
        """Publish one event.

        Raises:
            Transient: no broker, no answer in time, or one that is busy.
            Misconfigured: credentials, topic, QoS or certificate are not accepted.
            Rejected: the broker takes no message of this size or form.
        """
        config = notification.config
        content, note = _payload(notification)
        deadline = self.settings.send_deadline
        with self._open(config) as opening:
            try:
                async with Deadline(deadline):
                    connection = await asyncio.shield(opening)
                    _check_limits(connection, config, content)
                    reason = await connection.deliver(
                        config.topic,
                        content,
                        qos=config.qos,
                        retain=config.retain,
                        properties=_properties(notification, connection, datetime.now(UTC)),
                    )
            except TimeoutError:
                self._forget(config, opening)
                raise Transient(
                    "timeout", f"no answer from the broker in {deadline:g} s; {UNKNOWN}"
                ) from None
            except (aiomqtt.MqttError, OSError) as error:
                self._forget(config, opening)
                outcome = translate(error, config.port or _DEFAULT_PORTS[config.tls])
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not opening.cancelled() or task is None or task.cancelling():
                    raise
                outcome = Transient("not connected", "the connection was given up before it was open")
            else:
                return _receipt(reason, note)
        raise outcome

    def _open(self, config: MqttConfig) -> AbstractContextManager[asyncio.Task[Connection]]:
        """The channel's connection, or the attempt to open it that is under way."""
        opening = self._connections.get(config)
        if opening is not None and not _is_usable(opening):
            self._connections.forget(config, opening)
        return self._connections.open(config, functools.partial(self._connect, config))

    async def _connect(self, config: MqttConfig) -> Connection:
        async with asyncio.timeout(self.settings.send_deadline):
            try:
                return await self._greet(config, aiomqtt.ProtocolVersion.V5)
            except aiomqtt.MqttError as error:
                if _value(error) != _UNSUPPORTED_VERSION:
                    raise
            return await self._greet(config, aiomqtt.ProtocolVersion.V311)

    async def _greet(self, config: MqttConfig, version: aiomqtt.ProtocolVersion) -> Connection:
        port = config.port or _DEFAULT_PORTS[config.tls]
        opened = await connect(config.host, port, self.settings.allowed_networks)
        if config.tls:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    opened = await shake_hands(opened, self._context(config), config.host)
            except TimeoutError:
                raise Transient("connect timeout", f"no TLS in {CONNECT_TIMEOUT:g} s") from None
        connection = Connection(
            config.host,
            port,
            over=opened,
            identifier=f"tocsin{secrets.token_hex(8)}",  # every broker takes 23 letters and digits (3.1.3.1)
            protocol=version,
            username=config.username,
            password=config.password.get_secret_value() if config.password else None,
            timeout=self.settings.send_deadline,
            keepalive=KEEPALIVE,
        )
        await connection.open()
        return connection

    def _context(self, config: MqttConfig) -> ssl.SSLContext:
        return self._ssl if config.ca is None and self._ssl is not None else _trusting(config.ca)

    def _forget(self, config: MqttConfig, opening: asyncio.Task[Connection]) -> None:
        """Have the next send open another connection, unless this one is not open yet."""
        if not opening.done():
            return  # others wait for it, and it has a deadline of its own
        self._connections.forget(config, opening)
        if not opening.cancelled() and opening.exception() is None:
            opening.result().abandon()

    async def aclose(self) -> None:
        """Leave every broker."""
        await self._connections.aclose()


@functools.lru_cache(maxsize=MOST)
def _trusting(ca: str | None) -> ssl.SSLContext:
    """Whom to trust, read once: all authorities take a twentieth of a second, in which the event loop does nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is not None:
        context.load_verify_locations(cadata=ca)
    else:
        context.load_verify_locations(cafile=certifi.where())
        context.load_default_certs()
    return context


def _is_usable(opening: asyncio.Task[Connection]) -> bool:
    if not opening.done():
        return True
    return not opening.cancelled() and opening.exception() is None and opening.result().is_open


def _check_limits(connection: Connection, config: MqttConfig, content: bytes) -> None:
    most = connection.limit("MaximumQoS")
    if most is not None and config.qos > most:
        raise Misconfigured("qos not supported", f"the broker takes messages up to QoS {most}")
    if config.retain and connection.limit("RetainAvailable") == 0:
        raise Misconfigured("retain not supported", "the broker retains nothing")
    size = connection.limit("MaximumPacketSize")
    if size is not None and len(content) + len(config.topic.encode()) + _HEADROOM > size:
        raise Rejected("packet too large", f"the broker takes packets up to {size} bytes")


def _payload(notification: Notification[MqttConfig]) -> tuple[bytes, str | None]:
    """The JSON, and a note on what was left out: the details first, then the texts' ends."""
    notes = Notes(notification)
    data: dict[str, Any] = {
        **notification.alert,
        "event_type": notification.event,
        "tenant_id": notification.tenant_id,
        "job_id": notification.job_id,
    }
    if notification.config.title_template is not None:
        data["title"] = notes.clip("title", title(notification), MAX_TITLE)
    if notification.config.body_template is not None:
        data["body"] = body(notification)
    whole = {
        "type": f"alert.{notification.event.lower()}",
        "timestamp": rfc3339(notification.accepted_at),
        "data": data,
    }
    content = to_json(whole)
    if len(content) <= MAX_PAYLOAD:
        return content, notes.detail
    notes.add(f"{len(content)} bytes shortened")
    if data.get("details"):
        notes.add("details left out")
    data |= {"details": {}, "truncated": True}
    for name in ("message", "body"):
        text = data.get(name)
        if isinstance(text, str) and len(to_json(whole)) > MAX_PAYLOAD:
            data[name] = ""
            room = MAX_PAYLOAD - len(to_json(whole))
            data[name] = notes.clip(name, clean(text), max(room, 0), json_length)
    return to_json(whole), notes.detail


def _properties(
    notification: Notification[MqttConfig], connection: Connection, now: datetime
) -> Properties | None:
    if connection.version is not aiomqtt.ProtocolVersion.V5:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it unannotated
    properties.PayloadFormatIndicator = 1
    properties.ContentType = "application/json"
    properties.MessageExpiryInterval = max(1, math.ceil((notification.expires_at - now).total_seconds()))
    properties.UserProperty = [("id", str(notification.id)), ("thread", notification.thread)]
    return properties


def _receipt(reason: ReasonCode | None, note: str | None) -> Receipt:
    if reason is None:
        return Receipt("sent", detail=note)
    if reason.value >= _FAILURE:
        raise judged(reason)
    if reason.value == _NO_SUBSCRIBERS:
        note = "; ".join(filter(None, ("the broker has no subscriber for the topic", note)))
    return Receipt(f"{reason.value} {reason}", detail=note)


def judged(reason: ReasonCode) -> SendError:
    """The outcome for a reason code of 128 and up, from whichever packet."""
    code = f"{reason.value} {reason}"
    if reason.value in _MISCONFIGURED:
        return Misconfigured(code, "the broker does not accept the channel's configuration")
    if reason.value in _REJECTED:
        return Rejected(code, "the broker does not take this message")
    return Transient(code, "the broker cannot take it now")


def _value(error: aiomqtt.MqttError) -> int | None:
    reason = getattr(error, "rc", None)
    return reason.value if isinstance(reason, ReasonCode) else None


def translate(error: Exception, port: int) -> SendError:
    """The outcome for whatever aiomqtt or the socket raised.

    Args:
        error: an MqttError or OSError.
        port: the broker's, for people.
    """
    reason = getattr(error, "rc", None)
    if isinstance(reason, ReasonCode) and reason.value >= _FAILURE:
        return judged(reason)
    # aiomqtt hides the socket's error behind a text, yet Python keeps it as the context.
    beneath = error if isinstance(error, OSError) else error.__context__
    if isinstance(beneath, ssl.SSLError):
        return tls_failure(beneath)
    if isinstance(beneath, TimeoutError):
        return Transient("timeout", f"no answer from the broker; {UNKNOWN}")
    if isinstance(beneath, OSError):
        return unconnected(beneath, port)
    return Transient("connection reset", f"the broker hung up ({one_line(str(error))}); {UNKNOWN}")

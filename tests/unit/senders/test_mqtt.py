from __future__ import annotations

import asyncio
import re
import ssl
import struct
import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiomqtt
import orjson
import pytest
from aiomqtt.exceptions import MqttCodeError
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import ValidationError

from senders import deadline
from senders.mqtt import MAX_PAYLOAD, MAX_TOPIC, MqttConfig, MqttSender, _payload, judged, translate
from senders.mqtt_connection import IN_FLIGHT
from senders.outcomes import Misconfigured, Receipt, Rejected, SendError, Transient
from senders.reach import tls_context
from tests.servers.programs import free_port
from tests.unit.senders.servers_support import (
    AUTHORITY,
    TRUSTED,
    broker,
    next_message,
    program,
    subscriber,
    trusting,
)
from tests.unit.senders.support import closed_port, loopback_settings, notification, outcome, raw_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

OPEN = "allow_anonymous true"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with broker(tmp_path_factory.mktemp("mosquitto"), OPEN) as number:
        yield number


@pytest.fixture
async def sender() -> AsyncIterator[MqttSender]:
    sending = MqttSender(loopback_settings(send_deadline=4), None, ssl_context=trusting(tls_context()))  # type: ignore[arg-type]  # sends no HTTP
    yield sending
    await sending.aclose()


def config(number: int, **fields: Any) -> MqttConfig:
    return MqttConfig(**{"host": "127.0.0.1", "port": number, "topic": "site/berlin/alerts", **fields})


def sent(port: int, event: str = "OPEN", *, alert: dict[str, Any] | None = None, **fields: Any) -> Any:
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    return notification(config(port, **fields), event, alert=alert, expires_at=expires_at)


@pytest.mark.parametrize(("qos", "code"), [(0, "sent"), (1, "0 Success"), (2, "0 Success")])
async def test_an_event_is_published_as_a_webhooks_json(
    sender: MqttSender, port: int, qos: int, code: str
) -> None:
    async with subscriber(port) as client:
        delivery = sent(port, qos=qos, topic=f"qos/{qos}")
        assert (await sender.send(delivery)).code == code
        message = await next_message(client)
    assert str(message.topic) == f"qos/{qos}"
    assert message.qos == qos
    body = orjson.loads(message.payload)
    assert body["type"] == "alert.open"
    assert body["timestamp"] == "2026-11-03T20:26:10.344Z"
    assert body["data"] == {**delivery.alert, "event_type": "OPEN", "tenant_id": "acme", "job_id": 12}
    properties = message.properties
    assert properties is not None
    assert properties.ContentType == "application/json"  # type: ignore[attr-defined]  # paho sets them by name
    assert 3590 <= properties.MessageExpiryInterval <= 3600  # type: ignore[attr-defined]  # as above
    assert dict(properties.UserProperty) == {"id": str(delivery.id), "thread": delivery.thread}  # type: ignore[attr-defined]  # as above


async def test_who_subscribes_later_sees_that_the_alert_is_closed(sender: MqttSender, port: int) -> None:
    for event in ("OPEN", "CLOSED"):
        await sender.send(sent(port, event, retain=True, topic="retained"))
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("retained")
        message = await next_message(client)
    assert message.retain
    assert orjson.loads(message.payload)["data"]["event_type"] == "CLOSED"


async def test_nobody_listens_to_the_topic(sender: MqttSender, port: int) -> None:
    result = await sender.send(sent(port, topic="nobody/here"))
    assert result.code.startswith("16 ")
    assert result.detail == "the broker has no subscriber for the topic"


async def test_a_hundred_at_once_share_one_connection(sender: MqttSender, tmp_path: Path) -> None:
    with broker(tmp_path, OPEN) as port:
        async with subscriber(port) as client:
            results = await asyncio.gather(*(outcome(sender, sent(port)) for _ in range(100)))
            for _ in range(100):
                await next_message(client)
        log = (tmp_path / "output.log").read_text()
    assert {type(result) for result in results} == {Receipt}
    assert log.count("New client connected") == 2  # the subscriber's and the sender's


async def test_a_broker_that_restarts_is_found_again(sender: MqttSender, tmp_path: Path) -> None:
    port = free_port()
    with broker(tmp_path / "1", OPEN, port=port):
        assert isinstance(await outcome(sender, sent(port)), Receipt)
    while_away = await outcome(sender, sent(port))
    with broker(tmp_path / "2", OPEN, port=port):
        again = await outcome(sender, sent(port))
    assert isinstance(while_away, Transient)
    assert isinstance(again, Receipt)


@pytest.fixture(scope="module")
def guarded_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A broker with passwords, where alice may write to `own/#` only."""
    folder = tmp_path_factory.mktemp("guarded")
    tool = program("mosquitto_passwd", "mosquitto")
    subprocess.run(
        [tool, "-c", "-b", "passwords", "alice", "s3cret"], cwd=folder, check=True, capture_output=True
    )
    (folder / "passwords").chmod(0o700)
    (folder / "acl").write_text("user alice\ntopic readwrite own/#\n")
    (folder / "acl").chmod(0o700)
    with broker(folder, "password_file passwords", "acl_file acl") as number:
        yield number


@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        ({"username": "alice", "password": "s3cret", "topic": "own/x"}, Receipt, "16"),
        ({"username": "alice", "password": "canary-77aa", "topic": "own/x"}, Misconfigured, "135"),
        ({"username": "mallory", "password": "canary-77aa"}, Misconfigured, "135"),
        ({}, Misconfigured, "135"),
        ({"username": "alice", "password": "s3cret", "topic": "foreign/x"}, Misconfigured, "135"),
    ],
)
async def test_credentials_and_topics_that_the_broker_forbids_need_a_person(
    sender: MqttSender, guarded_port: int, fields: dict[str, Any], kind: type, code: str
) -> None:
    result = await outcome(sender, sent(guarded_port, **fields))
    assert type(result) is kind
    assert result.code.split()[0] == code
    assert "canary" not in f"{result!r}{result}{fields and config(1, **fields)!r}"


async def test_the_brokers_limits_are_kept(sender: MqttSender, tmp_path: Path) -> None:
    limits = [OPEN, "max_packet_size 2000", "retain_available false", "max_qos 1"]
    with broker(tmp_path, *limits) as port:
        big = await outcome(sender, sent(port, alert={"message": "x" * 3000}))
        retained = await outcome(sender, sent(port, retain=True))
        twice = await outcome(sender, sent(port, qos=2))
        small = await outcome(sender, sent(port))
    assert (type(big), type(retained), type(twice), type(small)) == (
        Rejected,
        Misconfigured,
        Misconfigured,
        Receipt,
    )


@pytest.mark.parametrize(
    ("names", "ca", "code"),
    [
        ("localhost", TRUSTED, "16 No matching subscribers"),
        ("localhost", None, "16 No matching subscribers"),
        ("elsewhere.example", TRUSTED, "tls certificate"),
    ],
)
async def test_tls_verifies_the_brokers_name(
    sender: MqttSender, tmp_path: Path, names: str, ca: str | None, code: str
) -> None:
    certificate = AUTHORITY.issue_cert(names)
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    with broker(tmp_path, OPEN, "certfile cert.pem", "keyfile key.pem") as port:
        result = await outcome(sender, sent(port, host="localhost", tls=True, ca=ca))
    assert result.code == code


async def test_a_broker_whose_authority_is_unknown_is_not_trusted(tmp_path: Path) -> None:
    sending = MqttSender(loopback_settings(send_deadline=4), None)  # type: ignore[arg-type]  # sends no HTTP
    certificate = AUTHORITY.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    with broker(tmp_path, OPEN, "certfile cert.pem", "keyfile key.pem") as port:
        result = await outcome(sending, sent(port, host="localhost", tls=True))
    assert result.code == "tls certificate"
    await sending.aclose()


@pytest.mark.parametrize("ca", [None, TRUSTED])
async def test_the_authorities_are_read_once_and_not_for_each_connection(
    ca: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given what the first connection has read
    sending = MqttSender(loopback_settings(send_deadline=4), None)  # type: ignore[arg-type]  # sends no HTTP
    one, another = (sent(closed_port(), tls=True, ca=ca, host=host) for host in ("127.0.0.1", "localhost"))
    first = await outcome(sending, one)

    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", read)
    # Then another channel's needs no more
    other = await outcome(sending, another)
    assert isinstance(first, Transient)
    assert isinstance(other, Transient)
    await sending.aclose()


async def test_nobody_listens(sender: MqttSender) -> None:
    result = await outcome(sender, sent(closed_port()))
    assert isinstance(result, Transient)
    assert result.code == "connect refused"


async def test_a_host_that_is_not_public_is_refused() -> None:
    sending = MqttSender(loopback_settings().model_copy(update={"allowed_networks": ()}), None)  # type: ignore[arg-type]  # sends no HTTP
    result = await outcome(sending, sent(1883))
    assert isinstance(result, Misconfigured)
    assert result.code == "blocked address"
    assert not sending._opening
    await sending.aclose()


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """One MQTT packet of up to 16,383 bytes: its first byte and its rest."""
    first = (await reader.readexactly(1))[0]
    length = (await reader.readexactly(1))[0]
    if length >= 0x80:
        length = (length & 0x7F) + 0x80 * (await reader.readexactly(1))[0]
    return first, await reader.readexactly(length)


async def test_an_old_broker_is_spoken_to_in_its_own_version(sender: MqttSender) -> None:
    published: list[bytes] = []

    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, connect = await _packet(reader)
        if connect[6] != 4:  # the protocol's level, 4 in 3.1.1
            writer.write(b"\x20\x02\x00\x01")
            return
        writer.write(b"\x20\x02\x00\x00")
        while True:
            first, rest = await _packet(reader)
            if first & 0xF0 == 0x30:
                published.append(rest)
                topic = struct.unpack("!H", rest[:2])[0]
                writer.write(b"\x40\x02" + rest[2 + topic : 4 + topic])

    async with raw_server(old) as url:
        result = await outcome(sender, sent(int(url.rpartition(":")[2])))
        assert isinstance(result, Receipt)
        assert b'{"type":"alert.open"' in published[0]
        await sender.aclose()


@pytest.mark.parametrize("when", ["connect", "publish"])
@pytest.mark.parametrize("how", ["hangs up", "says nothing"])
async def test_a_broker_that_fails_half_way(when: str, how: str) -> None:
    sending = MqttSender(loopback_settings(send_deadline=0.5), None)  # type: ignore[arg-type]  # sends no HTTP

    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _packet(reader)
        if when == "publish":
            writer.write(b"\x20\x03\x00\x00\x00")
            await _packet(reader)
        if how == "says nothing":
            await reader.read(-1)

    async with raw_server(fail) as url:
        began = time.monotonic()
        result = await outcome(sending, sent(int(url.rpartition(":")[2])))
        took = time.monotonic() - began
        await sending.aclose()
    assert isinstance(result, Transient)
    assert result.code == ("timeout" if how == "says nothing" else "connection reset")
    assert (took < 0.4) == (how == "hangs up")


async def test_one_sends_deadline_ends_the_connecting_for_nobody_without_an_outcome() -> None:
    sending = MqttSender(loopback_settings(send_deadline=0.5), None)  # type: ignore[arg-type]  # sends no HTTP

    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    async def after(seconds: float, number: int) -> Receipt | SendError:
        await asyncio.sleep(seconds)
        return await outcome(sending, sent(number))

    async with raw_server(say_nothing) as url:
        number = int(url.rpartition(":")[2])
        results = await asyncio.gather(
            *(after(tenths / 10, number) for tenths in range(5)), return_exceptions=True
        )
        await sending.aclose()
    assert [getattr(result, "code", result) for result in results] == ["timeout"] * 5


async def test_a_send_whose_connection_is_given_up_has_an_outcome_and_one_that_is_cancelled_has_none() -> (
    None
):
    sending = MqttSender(loopback_settings(send_deadline=5), None)  # type: ignore[arg-type]  # sends no HTTP

    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    async with raw_server(say_nothing) as url:
        delivery = sent(int(url.rpartition(":")[2]))
        waiting, cancelled = (asyncio.create_task(outcome(sending, delivery)) for _ in range(2))
        await asyncio.sleep(0.1)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert cancelled.cancelled()
        await sending.aclose()
        assert isinstance(await waiting, Transient)


class SlowBroker:
    """Takes so many messages at a time, and answers them when it is told to."""

    def __init__(self, receive_maximum: int | None) -> None:
        self._limits = b"" if receive_maximum is None else b"\x21" + struct.pack("!H", receive_maximum)
        self.published = 0
        self.go = asyncio.Event()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _packet(reader)
        size = len(self._limits)
        writer.write(bytes((0x20, 3 + size, 0, 0, size)) + self._limits)
        answering = set()
        while True:
            first, rest = await _packet(reader)
            if first & 0xF0 == 0x30:
                self.published += 1
                topic = struct.unpack("!H", rest[:2])[0]
                answering.add(asyncio.create_task(self._answer(writer, rest[2 + topic : 4 + topic])))

    async def _answer(self, writer: asyncio.StreamWriter, message: bytes) -> None:
        await self.go.wait()
        writer.write(b"\x40\x02" + message)


@pytest.mark.parametrize(("receive_maximum", "at_once"), [(None, IN_FLIGHT), (5, 5), (60_000, IN_FLIGHT)])
async def test_a_broker_gets_no_more_at_a_time_than_it_takes(
    sender: MqttSender, receive_maximum: int | None, at_once: int
) -> None:
    far = SlowBroker(receive_maximum)
    async with raw_server(far.talk) as url:
        number = int(url.rpartition(":")[2])
        sends = [asyncio.create_task(outcome(sender, sent(number))) for _ in range(50)]
        await asyncio.sleep(0.3)
        assert far.published == at_once
        # A message without an answer waits for nobody
        assert (await sender.send(sent(number, qos=0))).code == "sent"
        far.go.set()
        assert {type(result) for result in await asyncio.gather(*sends)} == {Receipt}
        assert far.published == 51
        await sender.aclose()


async def test_what_waits_behind_other_messages_is_not_published_when_its_time_is_over(
    sender: MqttSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = SlowBroker(None)
    async with raw_server(far.talk) as url:
        number = int(url.rpartition(":")[2])
        sends = [asyncio.create_task(outcome(sender, sent(number))) for _ in range(IN_FLIGHT + 20)]
        await asyncio.sleep(0.3)
        # Given a process that stood still past the deadline, and wakes with the broker's answers before any timer
        woken = deadline.now() + 5
        monkeypatch.setattr(deadline, "now", lambda: woken)
        far.go.set()
        results = await asyncio.gather(*sends)
        assert [type(result) for result in results] == [Receipt] * IN_FLIGHT + [Transient] * 20
        await asyncio.sleep(0.1)
        assert far.published == IN_FLIGHT
        await sender.aclose()


@pytest.mark.parametrize("reason", [
    reason
    for packet in (PacketTypes.CONNACK, PacketTypes.PUBACK, PacketTypes.PUBREC, PacketTypes.DISCONNECT)
    for reason in (
        ReasonCode(packet, identifier=value)
        for value in range(128, 163)
        if any(packet in names for names in [
            packets for name, packets in ReasonCode(PacketTypes.CONNACK, identifier=0).names.get(value, {}).items()
        ])
    )
])  # fmt: skip
def test_every_reason_of_the_specification_has_an_outcome(reason: ReasonCode) -> None:
    person = {"Bad user name or password", "Not authorized", "Banned", "Bad authentication method",
              "Client identifier not valid", "Unsupported protocol version", "Topic name invalid",
              "Retain not supported", "QoS not supported", "Use another server", "Server moved",
              "Malformed packet", "Protocol error"}  # fmt: skip
    message = {"Packet too large", "Payload format invalid"}
    expected = Misconfigured if str(reason) in person else Rejected if str(reason) in message else Transient
    assert type(judged(reason)) is expected
    assert type(translate(MqttCodeError(reason), 1883)) is expected


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"topic": ""}, "1 to 1024 bytes"),
        ({"topic": "é" * MAX_TOPIC}, "1 to 1024 bytes"),
        ({"topic": "a\0b"}, "control characters"),
        ({"topic": "a\nb"}, "control characters"),
        ({"topic": "a/+/b"}, "no wildcards"),
        ({"topic": "a/#"}, "no wildcards"),
        ({"topic": "$SYS/broker"}, "no wildcards"),
        ({"host": "mqtt://x"}, "must be a host name"),
        ({"host": "x:1883"}, "must "),
        ({"host": "0x7f.1"}, "must "),
        ({"port": 0}, "greater than"),
        ({"qos": 3}, "Input should be"),
        ({"password": "canary-1234"}, "password needs a username"),
        ({"ca": "canary", "tls": True}, "certificates as PEM"),
        ({"ca": TRUSTED}, "ca needs tls"),
        ({"retained": True}, "Extra inputs"),
    ],
)
def test_a_bad_config_is_refused_with_its_rule(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule) as caught:
        config(1883, **fields)
    assert "canary" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=50) | st.just("🔥" * 9000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@given(
    st.text(max_size=200) | st.just("👩‍👩‍👧" * 5000), st.dictionaries(st.text(max_size=9), JSON, max_size=5)
)
def test_a_payload_is_json_of_bounded_size_whatever_the_alert_holds(
    said: str, details: dict[str, Any]
) -> None:
    delivery = notification(config(1883), alert={"message": said, "details": details})
    content, note = _payload(delivery)
    assert len(content) <= MAX_PAYLOAD
    assert orjson.loads(content)["data"].get("truncated", False) == (note is not None)


async def test_a_channels_templates_are_in_the_data(sender: MqttSender, port: int) -> None:
    templates: dict[str, Any] = {
        "title_template": "Hall {{ alert.site_id }}",
        "body_template": "{{ body | upper }}",
    }
    async with subscriber(port) as client:
        result = await sender.send(sent(port, topic="templates", **templates))
        while str((message := await next_message(client)).topic) != "templates":
            pass  # what another test had the broker retain
    data = orjson.loads(message.payload)["data"]
    assert data["title"] == "Hall berlin"
    assert data["body"] == "SMOKE IN THE HALL"
    assert data["message"] == "Smoke in the hall"
    assert result.detail is None


def _data(alert: dict[str, Any], **templates: str) -> tuple[dict[str, Any], str | None]:
    content, note = _payload(notification(config(1883, **templates), alert=alert))
    assert len(content) <= MAX_PAYLOAD
    return orjson.loads(content)["data"], note


def test_what_does_not_fit_is_shortened_in_order_and_named() -> None:
    # Given details that are too large, then they alone are left out
    data, note = _data({"details": {"x": "y" * 30_000}})
    assert (data["details"], data["message"], data["truncated"]) == ({}, "Smoke in the hall", True)
    assert re.fullmatch(r"\d+ bytes shortened; details left out", note or "")
    # Given a message that is too large beside what a template says of it, then what the template says stays
    data, note = _data({"message": "m" * 30_000, "details": {}}, body_template="{{ event }} " * 9)
    assert data["body"].startswith("OPEN OPEN")
    assert data["message"].endswith("…")
    assert re.fullmatch(r"\d+ bytes shortened; clipped: message", note or "")
    # Given a template that repeats a large message, then both are clipped
    data, note = _data({"message": "é" * 30_000}, title_template="{{ body }}", body_template="{{ body }}" * 4)
    assert data["body"].endswith("é…")
    assert len(data["title"]) == 1000
    assert re.fullmatch(r"\d+ bytes shortened; details left out; clipped: title, message, body", note or "")
    # Given a template that says nothing, then that is noted
    data, note = _data({}, title_template="{{ alert.nothing }}")
    assert data["title"] == "Error: smoke detected at cam-3, berlin"
    assert note == "title_template made no text, the standard one was sent"


def test_an_error_of_no_kind_is_transient_only_if_the_connection_broke() -> None:
    assert isinstance(translate(aiomqtt.MqttError("disconnected"), 1883), SendError)
    assert translate(ConnectionRefusedError(), 1883).code == "connect refused"

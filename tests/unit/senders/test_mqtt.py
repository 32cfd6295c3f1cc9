from __future__ import annotations

import asyncio
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import aiomqtt
import orjson
import pytest
from aiomqtt.exceptions import MqttCodeError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from senders.mqtt import MqttSender, judged, translate
from senders.outcomes import Misconfigured, Receipt, Rejected, SendError, Transient
from senders.reach import tls_context
from tests.servers.programs import free_port
from tests.unit.senders.mqtt_support import config, sent
from tests.unit.senders.servers_support import (
    AUTHORITY,
    TRUSTED,
    broker,
    next_message,
    program,
    subscriber,
    trusting,
)
from tests.unit.senders.support import closed_port, loopback_settings, outcome

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
    assert not list(sending._connections)
    await sending.aclose()


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


def test_an_error_of_no_kind_is_transient_only_if_the_connection_broke() -> None:
    assert isinstance(translate(aiomqtt.MqttError("disconnected"), 1883), SendError)
    assert translate(ConnectionRefusedError(), 1883).code == "connect refused"

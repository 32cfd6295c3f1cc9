"""A test of a channel leaves nothing behind, here or on the far side."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import aiomqtt
import orjson
from pyasn1.codec.ber import encoder
from pyasn1.type import univ

from actors.broker import runtime
from admin import testing
from receivers import Answer
from receivers.pagerduty import PagerDuty
from senders.snmp_engine import ARC
from tests.unit.senders.servers_support import broker, next_message

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.chain.conftest import Chain

OPEN = {"alert_id": "door-7", "severity": 4, "message": "Door 7 is open"}


async def test_the_state_that_a_broker_retains_stays_that_of_the_alert(chain: Chain, tmp_path: Path) -> None:
    # Given a broker that keeps an alert's last event
    with broker(tmp_path / "mosquitto", "allow_anonymous true") as port:
        chain.rule(chain.channel("door", "mqtt", host="127.0.0.1", port=port, topic="door/7", retain=True))
        chain.send(OPEN)
        assert [line[3] for line in chain.settled()] == ["DELIVERED"]
        # When its channel is tested, then who listens hears of it
        async with aiomqtt.Client("127.0.0.1", port) as listener:
            await listener.subscribe("door/7")
            assert (await next_message(listener)).retain
            assert testing.test_channel("acme", "door", runtime=runtime)["status"] == "ok"
            heard = await next_message(listener)
        assert orjson.loads(heard.payload)["data"]["alert_type"] == "test"
        # And who comes later sees the alert
        async with aiomqtt.Client("127.0.0.1", port) as late:
            await late.subscribe("door/7")
            kept = await next_message(late)
        assert orjson.loads(kept.payload)["data"]["alert_id"] == "door-7"


def test_the_incident_of_a_test_is_resolved(chain: Chain) -> None:
    far = chain.far.pagerduty
    key = PagerDuty.routing_key("ops")
    chain.channel("on-call", "pagerduty", integration_key=key, endpoint=far.url)
    # When PagerDuty takes the test, then it opens and closes one incident
    assert testing.test_channel("acme", "on-call", runtime=runtime)["status"] == "ok"
    (incident,) = far.incidents
    assert incident.history == ["trigger", "resolve"]
    # When it takes the first half alone, then the test says that the second failed
    far.script(key, [Answer(202), Answer(503)])
    assert testing.test_channel("acme", "on-call", runtime=runtime)["outcome"] == "transient"
    # When it takes none, then nothing is to be closed
    far.clear()
    far.always(key, Answer(400))
    assert testing.test_channel("acme", "on-call", runtime=runtime)["status"] == "failed"
    assert len(far.received) == 1


def test_the_alarm_of_a_test_is_cleared(chain: Chain) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as manager:
        manager.bind(("127.0.0.1", 0))
        manager.settimeout(5)
        port = manager.getsockname()[1]
        chain.channel("noc", "snmp", host="127.0.0.1", port=port, community="public")
        assert testing.test_channel("acme", "noc", runtime=runtime)["status"] == "ok"
        # The trap's own OID ends with the event's number: TOCSIN-MIB, tocsinAlertOpen and tocsinAlertClosed.
        prefix = bytes(encoder.encode(univ.ObjectIdentifier(f"{ARC}.0")))[2:]
        assert [_after(prefix, manager.recv(65_535)) for _ in range(2)] == [1, 4]


def _after(prefix: bytes, datagram: bytes) -> int:
    return datagram[datagram.index(prefix) + len(prefix)]

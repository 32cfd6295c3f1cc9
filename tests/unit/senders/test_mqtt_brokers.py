"""Brokers that are old, slow, silent or gone half way: each send has an outcome, in time."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import TYPE_CHECKING

import pytest

from senders import deadline
from senders.mqtt import MqttSender
from senders.mqtt_connection import IN_FLIGHT
from senders.outcomes import Receipt, SendError, Transient
from tests.unit.senders.mqtt_support import sent
from tests.unit.senders.push_support import until
from tests.unit.senders.support import loopback_settings, outcome, raw_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def sender() -> AsyncIterator[MqttSender]:
    sending = MqttSender(loopback_settings(send_deadline=4), None)  # type: ignore[arg-type]  # sends no HTTP
    yield sending
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


@pytest.mark.alone("an answer within 0.4 s")
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


async def test_brokers_that_say_nothing_take_no_thread_from_anybody() -> None:
    """Of the default executor, which has a few, and in which others connect and sign."""
    sending = MqttSender(loopback_settings(send_deadline=1), None)  # type: ignore[arg-type]  # sends no HTTP
    greeted = 0

    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal greeted
        await reader.read(1)
        greeted += 1
        await reader.read(-1)

    async with raw_server(say_nothing) as url:
        number = int(url.rpartition(":")[2])
        deliveries = [sent(number, tls=True, topic=f"t/{count}") for count in range(20)]
        sends = [asyncio.create_task(outcome(sending, delivery)) for delivery in deliveries]
        await until(lambda: greeted == 20)
        async with asyncio.timeout(0.5):
            await asyncio.to_thread(time.monotonic)
        results = await asyncio.gather(*sends)
        await sending.aclose()
    assert {type(result) for result in results} == {Transient}

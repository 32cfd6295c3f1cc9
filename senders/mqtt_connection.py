"""One connection to one MQTT broker: aiomqtt's client, with what a sender needs and aiomqtt leaves out.

    - the reason with which a broker refuses a message (aiomqtt takes every PUBACK for success),
    - the broker's limits from its CONNACK,
    - an error at once, and not at the timeout, when the connection is lost or never comes up,
    - connecting on the event loop: paho does it in one of the process's few threads, where brokers that take a
      connection and say nothing kept everybody else waiting for a thread,
    - the end of a connection that was given up half way,
    - a queue of our own, where a message waits for the broker only as long as its send does (paho's knows no
      deadline, and not how many messages the broker takes at a time).

Facts: https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html 3.2.2 (CONNACK; 3.2.2.3.3 Receive
Maximum), 3.4.2.1 (PUBACK), 3.14 (DISCONNECT); the source of aiomqtt 2.5 and paho-mqtt 2.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any, Final

import aiomqtt
from aiomqtt.exceptions import MqttCodeError
from paho.mqtt.enums import MQTTErrorCode

from senders.deadline import check_deadline

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode


IN_FLIGHT: Final = 20
"""Messages that may wait for their PUBACK or PUBCOMP at the same time; as many as paho sends before it queues."""


async def shake_hands(connection: socket.socket, context: ssl.SSLContext, name: str) -> ssl.SSLSocket:
    """TLS over a connection that does not block, with a server of this name.

    Raises:
        OSError: there is none; the connection is closed, also where the caller has no time left.
    """
    wrapped = context.wrap_socket(connection, server_hostname=name, do_handshake_on_connect=False)
    loop = asyncio.get_running_loop()
    try:
        while True:
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                await _until(wrapped, loop.add_reader, loop.remove_reader)
            except ssl.SSLWantWriteError:
                await _until(wrapped, loop.add_writer, loop.remove_writer)
            else:
                return wrapped
    except BaseException:
        wrapped.close()
        raise


async def _until(connection: socket.socket, watch: Callable[..., None], leave: Callable[..., object]) -> None:
    """Wait until there is something to read, or room to write."""
    ready = asyncio.Event()
    watch(connection, ready.set)
    try:
        await ready.wait()
    finally:
        leave(connection)


class Connection(aiomqtt.Client):
    """A client for one `open`. Its arguments are those of aiomqtt.Client, but for one.

    Args:
        over: a socket that is connected, with TLS where it is wanted; this client's to close once it is opened.
    """

    def __init__(
        self, *args: Any, over: socket.socket, protocol: aiomqtt.ProtocolVersion, **kwargs: Any
    ) -> None:
        super().__init__(*args, protocol=protocol, **kwargs)
        self._over = over
        # paho has no public way to be given one; the tests notice if it drops this name.
        self._client._create_socket = lambda: over  # type: ignore[method-assign]  # noqa: SLF001
        self.version = protocol
        self._limits: Properties | None = None
        self._answers: dict[int, asyncio.Future[ReasonCode]] = {}
        self._room = asyncio.Semaphore(IN_FLIGHT)

    @property
    def is_open(self) -> bool:
        """Whether the broker has accepted us and the connection is not known to be lost."""
        return self._connected.done() and not self._disconnected.done()

    def limit(self, name: str) -> int | None:
        """A number of the broker's CONNACK, such as MaximumQoS; None where it says nothing."""
        value: int | None = getattr(self._limits, name, None)
        return value

    async def open(self) -> None:
        """Connect and wait for the broker's answer.

        Raises:
            aiomqtt.MqttError: as from aiomqtt; the connection is given up.
        """
        try:
            await self.__aenter__()
        except BaseException:
            self.abandon()
            if self._client.socket() is None:
                self._over.close()  # paho has not taken it
            raise
        self._room = asyncio.Semaphore(min(IN_FLIGHT, self.limit("ReceiveMaximum") or IN_FLIGHT))
        # A loss is noticed when the connection is used next; until then nobody asks this future.
        self._disconnected.add_done_callback(lambda lost: lost.cancelled() or lost.exception())

    async def deliver(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: Properties | None
    ) -> ReasonCode | None:
        """Publish, when the broker has room for it, and wait for its answer if the QoS has one.

        Returns:
            The broker's reason code; None for QoS 0.

        Raises:
            aiomqtt.MqttError: the connection is lost; the broker may have the message.
            TimeoutError: there was no room in time; nothing was sent.
        """
        async with self._room if qos else contextlib.nullcontext():
            check_deadline()
            return await self._exchange(topic, payload, qos, retain=retain, properties=properties)

    async def _exchange(
        self, topic: str, payload: bytes, qos: int, *, retain: bool, properties: Properties | None
    ) -> ReasonCode | None:
        info = self._client.publish(topic, payload, qos, retain, properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise MqttCodeError(info.rc, "could not publish")
        if info.is_published():
            return None
        answer: asyncio.Future[ReasonCode] = asyncio.get_running_loop().create_future()
        self._answers[info.mid] = answer
        try:
            either: set[asyncio.Future[Any]] = {answer, self._disconnected}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return None if qos == 0 else answer.result()
            raise self._disconnected.exception() or aiomqtt.MqttError("disconnected")
        finally:
            self._answers.pop(info.mid, None)

    async def leave(self) -> None:
        """Say goodbye and close. Never raises for a connection that is broken already."""
        with contextlib.suppress(aiomqtt.MqttError, OSError):
            await self.__aexit__(None, None, None)
        self.abandon()

    def abandon(self) -> None:
        """Close without waiting. paho closes its socket once it has written the DISCONNECT."""
        with contextlib.suppress(OSError, ValueError):
            self._client.disconnect()

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Properties | None = None
    ) -> None:
        self._limits = properties
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Properties | None = None
    ) -> None:
        # paho invents a reason, 128, for a connection that was merely lost.
        told = flags.is_disconnect_packet_from_server
        error = MqttCodeError(reason_code) if told else aiomqtt.MqttError("connection lost")
        if not self._connected.done():
            # Maybe in the thread that connects, in which no future may be touched.
            self._loop.call_soon_threadsafe(self._refuse, error)
        elif reason_code.is_failure and not self._connected.exception() and not self._disconnected.done():
            self._disconnected.set_exception(error)
        else:
            super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _refuse(self, error: aiomqtt.MqttError) -> None:
        if not self._connected.done() and self._lock.locked():
            self._connected.set_exception(error)

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(reason_code)
        super()._on_publish(client, userdata, mid, reason_code, properties)

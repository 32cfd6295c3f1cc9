"""The local APNs beneath its answers: windows, streams, TLS, and how connections end."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import httpx
import pytest

from receivers import Answer, FarSide

if TYPE_CHECKING:
    import ssl


class RawClient:
    """An HTTP/2 client that acknowledges only what it is told to."""

    def __init__(self, far: FarSide, trust: ssl.SSLContext, window: int) -> None:
        trust.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", far.apns.port), timeout=5)
        self.sock = trust.wrap_socket(raw, server_hostname="127.0.0.1")
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.h2.initiate_connection()
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.goodbyes: list[Any] = []

    def request(self, path: str, body: bytes) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
        self.h2.send_headers(stream_id, headers)
        self.h2.send_data(stream_id, body, end_stream=True)
        return stream_id

    def exchange(self) -> None:
        self.sock.sendall(self.h2.data_to_send())
        for event in self.h2.receive_data(self.sock.recv(65536)):
            if isinstance(event, h2.events.DataReceived):
                assert event.stream_id
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goodbyes.append(event.error_code)


def test_a_client_that_acknowledges_nothing_gets_only_its_window(far: FarSide, trust: ssl.SSLContext) -> None:
    # Given a client with room for ten bytes a stream
    client = RawClient(far, trust, window=10)
    with client.sock:
        stream_id = client.request("/3/device/00", b"{}")
        while len(client.bodies.get(stream_id, b"")) < 10:
            client.exchange()
        # Then no more than those come
        assert client.bodies[stream_id] == b'{"reason":'
        assert stream_id not in client.ended
        # When it acknowledges them, then the rest comes
        client.h2.increment_flow_control_window(100, stream_id)
        while stream_id not in client.ended:
            client.exchange()
        assert json.loads(client.bodies[stream_id]) == {"reason": "BadDeviceToken"}


def test_connections_end_by_goaway(far: FarSide, trust: ssl.SSLContext) -> None:
    client = RawClient(far, trust, window=65535)
    with client.sock:
        client.exchange()
        far.apns.go_away()
        while not client.goodbyes:
            client.exchange()
        assert client.goodbyes == [h2.errors.ErrorCodes.NO_ERROR]


def test_connections_end_by_reset(far: FarSide, trust: ssl.SSLContext) -> None:
    far.apns.always("*", Answer(delay=5))
    client = RawClient(far, trust, window=65535)
    with client.sock:
        client.request("/3/device/00", b"{}")
        client.exchange()
        far.apns.wait_for(1)
        far.apns.disconnect()
        # Seen below TLS, which would make an end of file of it.
        with socket.socket(fileno=os.dup(client.sock.fileno())) as raw:
            raw.settimeout(5)
            with pytest.raises(ConnectionResetError):
                list(iter(lambda: raw.recv(4096), b""))


def test_a_thousand_streams_are_served_at_once(far: FarSide, trust: ssl.SSLContext) -> None:
    far.apns.always("*", Answer(delay=0.2))
    client = RawClient(far, trust, window=65535)
    with client.sock:
        client.exchange()
        assert client.h2.remote_settings.max_concurrent_streams == 1000
        streams = {client.request("/3/device/00", b"") for _ in range(1000)}
        while client.ended != streams:
            client.exchange()
    assert len(far.apns.received) == 1000


def test_what_is_no_http2_is_shown_the_door(far: FarSide, trust: ssl.SSLContext) -> None:
    with (
        socket.create_connection(("127.0.0.1", far.apns.port), timeout=5) as raw,
        trust.wrap_socket(raw, server_hostname="localhost") as sock,
    ):
        sock.sendall(b"POST /3/device/00 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while sock.recv(4096):
            pass  # SETTINGS and GOAWAY, then the end


def test_a_client_that_does_not_trust_the_authority_gets_nowhere(far: FarSide) -> None:
    with (
        httpx.Client(http2=True) as client,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.get(f"https://127.0.0.1:{far.apns.port}/")

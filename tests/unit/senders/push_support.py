"""An APNs that misbehaves on the HTTP/2 level, a small FCM with its token endpoint, and pushes."""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import H2Error
from h2.settings import SettingCodes
from hypothesis import strategies as st

from receivers.keys import new_p256, pem, write_tls_files
from senders.apns import ApnsSender
from senders.base import Device
from senders.moments import Moment
from senders.push import ApnsCredentials, PushConfig
from senders.push_content import MIN_BODY, fit
from senders.text import body, clip, json_length
from tests.unit.senders.support import client, loopback_settings, notification

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec
    from h2.errors import ErrorCodes

    from senders.base import Notification

IOS_TOKEN = "0f" * 32
ANDROID_TOKEN = "dQw4w9WgXcQ:APA91bExample_Token-1"
TOPIC = "org.example.app"
ALL = PushConfig(all_users=True)

#: Addresses of all lengths, some of which are too long for any push.
LINKS = st.integers(20, 3000).map(lambda size: "https://example.org/".ljust(size, "a"))


def well_fitted(
    it: Notification[PushConfig], render: Callable[[str, str, Mapping[str, str | int]], bytes], limit: int
) -> tuple[bytes, str | None]:
    """What `fit` makes of it, which neither is too long nor lacks what would have had room."""
    shown: list[tuple[str, str, dict[str, str | int]]] = []

    def spy(title: str, body: str, data: Mapping[str, str | int]) -> bytes:
        shown.append((title, body, dict(data)))
        return render(title, body, data)

    content, note = fit(it, spy, limit)
    title, said, kept = shown[-1]
    whole, given = body(it), shown[0][2]
    assert content == render(title, said, kept)
    assert len(content) <= limit
    # The text has all the room that the data leave.
    assert said == clip(whole, json_length(said) + limit - len(content), json_length)
    # What was left out last had no room beside the shortest text, and the receipt names all of it.
    lost = sorted((name for name in given if name not in kept), key=lambda name: -len(str(given[name])))
    if lost:
        last = {**kept, lost[-1]: given[lost[-1]]}
        assert len(render(title, clip(whole, MIN_BODY, json_length), last)) > limit
        assert f"left out: {', '.join(lost)}" in (note or "")
    assert ("clipped" in (note or "")) or said == whole
    return content, note


class Clock:
    """A wall clock, to be set, beside one that only goes on."""

    BEGIN = 1_800_000_000.0

    def __init__(self) -> None:
        self.wall, self.steady = self.BEGIN, 0.0

    def __call__(self) -> Moment:
        return Moment(self.wall, self.steady)

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


async def until(condition: Callable[[], bool]) -> None:
    """Wait, for five seconds at most, until it is true."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # what is waited for lies inside other people's classes
            await asyncio.sleep(0.002)


def push(
    device: Device | None = None, config: PushConfig = ALL, **overrides: Any
) -> Notification[PushConfig]:
    """A notification that is not expired, with an id of its own, to a phone."""
    fields: dict[str, Any] = {
        "id": uuid.uuid4(),
        "expires_at": datetime.now(UTC) + timedelta(hours=1),
        "device": device or Device(7, "alice", "ios", IOS_TOKEN),
    }
    return notification(config, **{**fields, **overrides})


@dataclass
class Request:
    """What arrived on one stream."""

    connection: Connection
    stream_id: int
    headers: dict[str, str]
    body: bytes = b""

    def answer(self, status: int = 200, reason: str = "", **more: Any) -> None:
        body = json.dumps({"reason": reason, **more}).encode() if reason else b""
        self.answer_raw(status, body, {"apns-id": self.headers["apns-id"]})

    def answer_raw(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        h2 = self.connection.h2
        try:
            h2.send_headers(self.stream_id, [(":status", str(status)), *headers.items()], end_stream=not body)
            if body and h2.local_flow_control_window(self.stream_id) < len(body):
                self.connection.server.starved += 1  # as Apple: no acknowledgements, no more bodies
                return
            if body:
                h2.send_data(self.stream_id, body, end_stream=True)
        except H2Error:
            return  # the client has reset the stream
        self.connection.flush()

    def reset(self, code: ErrorCodes) -> None:
        self.connection.h2.reset_stream(self.stream_id, code)
        self.connection.flush()


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: FaultyApns) -> None:
        self.server = server
        self.is_deaf = False
        self.is_reading = True
        self.resets: list[int] = []
        self.requests: dict[int, Request] = {}
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.server.connections.append(self)
        self.h2.local_settings.update(
            {
                SettingCodes.MAX_CONCURRENT_STREAMS: self.server.max_streams,
                SettingCodes.INITIAL_WINDOW_SIZE: self.server.window,
            }
        )
        self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        if self.is_deaf:
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                headers = dict(event.headers)
                self.requests[event.stream_id] = Request(self, event.stream_id, headers)  # type: ignore[arg-type]  # decoded
            elif isinstance(event, DataReceived):
                self.requests[event.stream_id].body += event.data
                if self.is_reading:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamReset):
                self.resets.append(event.stream_id)
            elif isinstance(event, StreamEnded):
                request = self.requests[event.stream_id]
                self.server.requests.append(request)
                self.server.on_request(request)
        self.flush()

    def allow_streams(self, count: int) -> None:
        self.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: count})
        self.flush()

    def go_away(self, last_stream_id: int) -> None:
        """GOAWAY as RFC 9113 means it: the streams up to that one will still be answered."""
        frame = last_stream_id.to_bytes(4, "big") + bytes(4)
        self.transport.write(len(frame).to_bytes(3, "big") + b"\x07\x00" + bytes(4) + frame)


@dataclass
class FaultyApns:
    """A server on 127.0.0.1 that does with each request what `on_request` says."""

    ssl: ssl.SSLContext
    ca_file: Path
    on_request: Callable[[Request], None] = Request.answer
    max_streams: int = 1000
    window: int = 65_535
    port: int = 0
    starved: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)

    async def arrived(self, count: int) -> list[Request]:
        """Wait for so many requests."""
        await until(lambda: len(self.requests) >= count)
        return self.requests


@asynccontextmanager
async def faulty_apns(directory: Path, **behaviour: Any) -> AsyncIterator[FaultyApns]:
    """Run one."""
    ca_file, server_file = write_tls_files(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_file)
    context.set_alpn_protocols(["h2"])
    apns = FaultyApns(context, ca_file, **behaviour)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(apns), "127.0.0.1", 0, ssl=context
    )
    apns.port = server.sockets[0].getsockname()[1]
    try:
        yield apns
    finally:
        server.close()
        for connection in apns.connections:
            connection.transport.abort()
        await server.wait_closed()


def apns_credentials(
    key: ec.EllipticCurvePrivateKey | None = None, *, team_id: str = "TEAM123456", topic: str = TOPIC
) -> ApnsCredentials:
    """A channel's own; a new key unless one is given."""
    text = pem(key or new_p256()).decode()
    return ApnsCredentials(key=text, key_id="KEY1234567", team_id=team_id, topic=topic)  # type: ignore[arg-type]  # becomes SecretStr


def apns_settings(apns: FaultyApns, **overrides: Any) -> Any:
    return loopback_settings(
        **{"apns_host": "127.0.0.1", "apns_port": apns.port, "apns_ca_file": apns.ca_file, **overrides}
    )


@asynccontextmanager
async def apns_sender(apns: FaultyApns, **overrides: Any) -> AsyncIterator[ApnsSender]:
    """A sender that talks to it; the credentials come with the channel."""
    settings = apns_settings(apns, **overrides)
    async with client(settings, ssl_context=trust()) as http:
        sender = ApnsSender(settings, http)
        try:
            yield sender
        finally:
            await sender.aclose()


@functools.cache
def trust() -> ssl.SSLContext:
    """For HTTP clients that talk to no TLS server: to load the system's authorities takes 50 ms."""
    return ssl.create_default_context()


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    """One for all tests: it takes a fifth of a second to make."""
    return rsa.generate_private_key(65537, 2048)


@dataclass
class LocalFcm:
    """FCM's messages:send and Google's token endpoint."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    token_status: int = 200
    token_body: Any = None
    lifetime: int = 3600
    refused_tokens: set[str] = field(default_factory=set)
    delay: float = 0
    tokens: list[str] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    url: str = ""
    key: rsa.RSAPrivateKey = field(default_factory=rsa_key)

    def document(self, **changes: Any) -> str:
        """The service account's JSON."""
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "demo-project",
                "private_key_id": "k1",
                "private_key": pem(self.key).decode(),
                "client_email": "sender@demo-project.iam.gserviceaccount.com",
                "token_uri": f"{self.url}/token",
                **changes,
            }
        )

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        # google-auth names Google's endpoint as the audience, whatever the token_uri.
        jwt.decode(
            str(form["assertion"]),
            self.key.public_key(),
            algorithms=["RS256"],
            audience="https://oauth2.googleapis.com/token",
        )
        await asyncio.sleep(self.delay)
        if self.token_status != 200:
            return web.json_response(self.token_body, status=self.token_status)
        self.tokens.append(f"token-{len(self.tokens)}")
        return web.json_response(
            {"access_token": self.tokens[-1], "expires_in": self.lifetime, "token_type": "Bearer"}
        )

    async def send(self, request: web.Request) -> web.Response:
        raw = await request.read()
        self.paths.append(request.path)
        self.sizes.append(len(raw))
        self.messages.append(json.loads(raw)["message"])
        bearer = request.headers["Authorization"].removeprefix("Bearer ")
        if bearer in self.refused_tokens or bearer not in self.tokens:
            return web.json_response({"error": {"code": 401, "status": "UNAUTHENTICATED"}}, status=401)
        body = {"name": "projects/demo-project/messages/1"} if self.body is None else self.body
        return web.json_response(body, status=self.status, headers=self.headers)


@asynccontextmanager
async def local_fcm(**behaviour: Any) -> AsyncIterator[LocalFcm]:
    """Run one."""
    fcm = LocalFcm(**behaviour)
    app = web.Application()
    app.add_routes([web.post("/token", fcm.token), web.post("/v1/projects/{id}/messages:send", fcm.send)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        fcm.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield fcm
    finally:
        await runner.cleanup()

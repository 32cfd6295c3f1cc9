"""APNs, as Apple documents it: HTTP/2, TLS, provider tokens, and the objections it makes.

Sources: developer.apple.com/documentation/usernotifications: "Sending notification requests to APNs" (path,
headers, sizes), "Establishing a token-based connection to APNs" (the JWT), "Generating a remote
notification" (the payload), "Handling notification responses from APNs" (statuses and reasons).
"""

from __future__ import annotations

import hashlib
import re
import secrets
import ssl
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
import orjson
from typing_extensions import override

from receivers.apns_payload import payload_problems
from receivers.base import Receiver
from receivers.checks import parse_object
from receivers.http2 import Http2Connection, Http2Request, Http2Server
from receivers.keys import new_p256, pem, write_secret, write_tls_files
from receivers.records import Answer, Arrival, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec

    from receivers.records import Received

TOPIC = "org.example.tocsin"
LARGEST_PAYLOAD = 4096
LARGEST_VOIP_PAYLOAD = 5120
LONGEST_COLLAPSE_ID = 64
TOKEN_LIFETIME = 3600  # seconds from `iat`; older is ExpiredProviderToken
CLOCK_SKEW = 60

# A device token is opaque and may grow; today it is 32 bytes (64 digits), at most 100 bytes.
_DEVICE_TOKEN = re.compile(r"(?:[0-9a-fA-F]{2}){32,100}")
# push type -> what the app's bundle id is followed by in apns-topic.
_TOPIC_SUFFIX = {
    "alert": "",
    "background": "",
    "controls": ".push-type.controls",
    "location": ".location-query",
    "voip": ".voip",
    "complication": ".complication",
    "fileprovider": ".pushkit.fileprovider",
    "mdm": "",
    "liveactivity": ".push-type.liveactivity",
    "pushtotalk": ".voip-ptt",
    "widgets": ".push-type.widgets",
}
_ONCE = ("apns-id", "apns-expiration", "apns-priority", "apns-topic", "apns-push-type", "apns-collapse-id")
_USUAL_REASON = {
    400: "BadDeviceToken",
    403: "InvalidProviderToken",
    404: "BadPath",
    405: "MethodNotAllowed",
    410: "Unregistered",
    413: "PayloadTooLarge",
    429: "TooManyRequests",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}

Objection = tuple[int, str, str]  # status, Apple's reason, the problem in words


@dataclass(frozen=True, slots=True)
class ApnsCredential:
    """A team's signing key and the app it may push to."""

    team_id: str
    key_id: str
    topic: str
    key_file: Path
    public_key: ec.EllipticCurvePublicKey


class Apns(Receiver):
    """The local APNs.

    Attributes:
        host, port: where it listens; ca_file: the authority that a client must trust.
        credential: the first team's key; `issue` makes more.
    """

    name = "apns"
    dead = Answer(410, reason="Unregistered")
    host = "127.0.0.1"
    port = 0

    def __init__(
        self,
        directory: Path,
        *,
        verify: bool = True,
        on_received: Callable[[Received], None] | None = None,
    ) -> None:
        super().__init__(verify=verify, on_received=on_received)
        self._directory = directory
        self._credentials: dict[str, ApnsCredential] = {}
        self._tokens: dict[
            str, tuple[ApnsCredential, int]
        ] = {}  # JWTs whose signature is verified, and their iat
        self._server = Http2Server(self._handle)
        self.ca_file, self._server_file = write_tls_files(directory)
        self.credential = self.issue()

    # For the sending side.

    def issue(self, topic: str = TOPIC) -> ApnsCredential:
        """Make another team's key, for an app of its own."""
        key = new_p256()
        key_id = secrets.token_hex(5).upper()
        credential = ApnsCredential(
            team_id=secrets.token_hex(5).upper(),
            key_id=key_id,
            topic=topic,
            key_file=write_secret(self._directory / f"AuthKey_{key_id}.p8", pem(key)),
            public_key=key.public_key(),
        )
        self._credentials[key_id] = credential
        return credential

    @staticmethod
    def device_token(name: str | None = None) -> str:
        """A device token; the same one for the same name."""
        return hashlib.sha256((name or secrets.token_hex(16)).encode()).hexdigest()

    @property
    def provider_tokens(self) -> frozenset[str]:
        """The different valid JWTs presented so far: a well-behaved process uses one in 20 minutes."""
        return frozenset(self._tokens)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._server.connections)

    def go_away(self) -> None:
        """End all connections with GOAWAY, as Apple does when a server restarts."""
        self._server.on_each(Http2Connection.go_away)

    def disconnect(self) -> None:
        """Reset all TCP connections."""
        self._server.on_each(Http2Connection.abort)

    # For the far side.

    async def start(self, port: int = 0) -> None:
        """Listen."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # Apple: TLS 1.2 or later
        context.load_cert_chain(self._server_file)
        context.set_alpn_protocols(["h2"])
        self.port = await self._server.start(self.host, port, context)

    async def stop(self) -> None:
        """Close everything."""
        await self._server.stop()

    def _handle(self, request: Http2Request) -> tuple[Reply | None, Answer]:
        headers = dict(request.headers)
        headers.pop("authorization", None)
        return self.settle(self.check(request), headers)

    def check(self, request: Http2Request) -> Arrival:
        """Verify one request; the refusal answers the first objection."""
        arrival = Arrival(
            target=request.header(":path").removeprefix("/3/device/"),
            id=request.header("apns-id") or str(uuid.uuid4()).upper(),
            content=parse_object(bytes(request.body)),
        )
        if self.verify:
            objections = list(self._objections(request, arrival))
            arrival.problems = [f"{reason}: {text}" for _, reason, text in objections]
            if objections:
                status, reason, _ = objections[0]
                arrival.refusal = self.refuse(status, reason, arrival)
        return arrival

    @override
    def accept(self, arrival: Arrival) -> Reply:
        """200, an empty body, and the apns-id."""
        return Reply(200, headers={"apns-id": arrival.id}, provider_id=arrival.id)

    @override
    def refuse(self, status: int, reason: str | None, arrival: Arrival) -> Reply:
        """A JSON body with the reason; a 410 also says since when (here: now), in milliseconds."""
        reason = reason or _USUAL_REASON.get(status, "InternalServerError")
        body: dict[str, Any] = {"reason": reason}
        if status == 410:  # noqa: PLR2004  # the one status that carries a timestamp
            body["timestamp"] = int(time.time() * 1000)
        headers = {"apns-id": arrival.id, "content-type": "application/json"}
        return Reply(status, orjson.dumps(body), headers, reason=reason)

    # The objections.

    def _objections(self, request: Http2Request, arrival: Arrival) -> Iterator[Objection]:
        if request.header(":method") != "POST":
            yield 405, "MethodNotAllowed", "the method must be POST"
        path = request.header(":path")
        if not path.startswith("/3/device/"):
            yield 404, "BadPath", "the path must be /3/device/TOKEN"
        elif not arrival.target:
            yield 400, "MissingDeviceToken", "the path names no token"
        elif not _DEVICE_TOKEN.fullmatch(arrival.target):
            yield 400, "BadDeviceToken", "a token is 64 or more hexadecimal digits"
        names = [name for name, _ in request.headers]
        for name in _ONCE:
            if names.count(name) > 1:
                yield 400, "DuplicateHeaders", f"{name} is repeated"
        credential: ApnsCredential | None = None
        try:
            credential = self._authenticate(request.header("authorization"))
        except _RefusedError as refused:
            yield 403, refused.reason, str(refused)
        yield from _topic_objections(request, credential)
        yield from _header_objections(request)
        yield from _payload_objections(request, arrival)

    def _authenticate(self, authorization: str) -> ApnsCredential:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _RefusedError("MissingProviderToken", "no bearer token")
        if token not in self._tokens:
            self._tokens[token] = self._verify_token(token)
        credential, issued_at = self._tokens[token]
        if time.time() - issued_at > TOKEN_LIFETIME:
            raise _RefusedError("ExpiredProviderToken", "the token's iat is more than an hour ago")
        return credential

    def _verify_token(self, token: str) -> tuple[ApnsCredential, int]:
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            if not (credential := self._credentials.get(str(key_id))):
                raise _RefusedError("InvalidProviderToken", f"no key {key_id}")
            claims = jwt.decode(
                token,
                credential.public_key,
                algorithms=["ES256"],
                leeway=CLOCK_SKEW,
                options={"require": ["iss", "iat"], "verify_aud": False},
            )
        except jwt.InvalidTokenError as error:
            raise _RefusedError("InvalidProviderToken", str(error)) from None
        if claims["iss"] != credential.team_id:
            raise _RefusedError("InvalidProviderToken", "iss is not the key's team")
        if not isinstance(claims["iat"], int):
            raise _RefusedError("InvalidProviderToken", "iat is not a whole number")
        return credential, claims["iat"]


class _RefusedError(Exception):
    """A provider token that Apple would not take."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def _topic_objections(request: Http2Request, credential: ApnsCredential | None) -> Iterator[Objection]:
    push_type, topic = request.header("apns-push-type"), request.header("apns-topic")
    if push_type not in _TOPIC_SUFFIX:
        # Required for iOS 13 and later; for earlier systems APNs does not look at it.
        yield 400, "InvalidPushType", f"apns-push-type: {push_type or 'missing'}"
    if not topic:
        yield 400, "MissingTopic", "apns-topic is required with a provider token"
    elif credential and topic != credential.topic + _TOPIC_SUFFIX.get(push_type, ""):
        yield 400, "TopicDisallowed", f"the key may not push type {push_type} to {topic}"


def _header_objections(request: Http2Request) -> Iterator[Objection]:
    if apns_id := request.header("apns-id"):
        try:
            canonical = str(uuid.UUID(apns_id)) == apns_id.lower()
        except ValueError:
            canonical = False
        if not canonical:
            yield 400, "BadMessageId", "apns-id must be a UUID, 8-4-4-4-12"
    expiration = request.header("apns-expiration")
    if expiration and not re.fullmatch(r"\d{1,15}", expiration):
        yield 400, "BadExpirationDate", "apns-expiration must be seconds since 1970, or 0"
    priority = request.header("apns-priority")
    if priority not in {"", "10", "5", "1"}:
        yield 400, "BadPriority", "apns-priority must be 10, 5 or 1"
    elif request.header("apns-push-type") == "background" and priority == "10":
        yield 400, "BadPriority", "a background push must not have priority 10"
    if len(request.header("apns-collapse-id").encode("latin-1")) > LONGEST_COLLAPSE_ID:
        yield 400, "BadCollapseId", f"apns-collapse-id is longer than {LONGEST_COLLAPSE_ID} bytes"


def _payload_objections(request: Http2Request, arrival: Arrival) -> Iterator[Objection]:
    largest = LARGEST_VOIP_PAYLOAD if request.header("apns-push-type") == "voip" else LARGEST_PAYLOAD
    if request.size > largest:
        yield 413, "PayloadTooLarge", f"{request.size} bytes, at most {largest}"
    elif arrival.content is None:
        yield 400, "PayloadEmpty", "the body is no JSON object"
    else:
        # Apple takes a payload with a wrong `aps` and the device then shows nothing. Here it is refused,
        # under the nearest of Apple's reasons, since a notification that nobody sees is a failure.
        for problem in payload_problems(arrival.content):
            yield 400, "PayloadEmpty", problem

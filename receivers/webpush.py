"""A Web Push service and the browsers behind it.

Sources: RFC 8030 (the request, TTL, Urgency, Topic, 201 with Location), RFC 8188 and 8291 (the encryption),
RFC 8292 (VAPID); the error bodies are those of Mozilla's service,
mozilla-services.github.io/autopush-rs/errors.html.
"""

from __future__ import annotations

import binascii
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import http_ece
import jwt
import orjson
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from typing_extensions import override

from receivers.http import HttpReceiver
from receivers.keys import b64url, new_p256, pem, raw_public_key, unb64url, write_secret
from receivers.records import Answer, Arrival, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from receivers.records import Received

SUBJECT = "mailto:ops@example.org"
LARGEST_BODY = 4096  # RFC 8030, section 7.2: what a push service must at least take
LONGEST_VAPID = 24 * 3600  # RFC 8292, section 2
LARGEST_TTL = 2**31 - 1  # RFC 8030, section 5.2: what a service must be able to read
_URGENCIES = frozenset({"very-low", "low", "normal", "high"})
_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,32}")
_VAPID = re.compile(r"vapid\s+(?=.*\bt=(?P<t>[^\s,]+))(?=.*\bk=(?P<k>[^\s,]+)).*", re.IGNORECASE)
_SUBJECT = re.compile(r"mailto:[^@\s]+@[^@\s]+|https://\S+")
# status -> errno and text of Mozilla's service.
_USUAL_ERROR = {
    400: (110, "Invalid crypto keys specified"),
    401: (109, "Unauthorized"),
    403: (109, "Forbidden"),
    404: (102, "Invalid URL endpoint"),
    410: (106, "Invalid subscription"),
    413: (104, "Data payload too large"),
    429: (201, "Too many requests"),
    503: (201, "Use exponential back-off for retries"),
}

Objection = tuple[int, int, str]  # status, errno, the problem in words


@dataclass(frozen=True, slots=True)
class Browser:
    """The user agent's half of a subscription."""

    key: ec.EllipticCurvePrivateKey
    auth: bytes
    application_server_key: str


class WebPush(HttpReceiver):
    """The local push service.

    Attributes:
        vapid_key_file: the application server's private key, PEM; vapid_public_key: its public half,
            base64url.
    """

    name = "webpush"
    dead = Answer(410)

    def __init__(
        self,
        directory: Path,
        origin: str,
        *,
        verify: bool = True,
        on_received: Callable[[Received], None] | None = None,
    ) -> None:
        super().__init__(origin, verify=verify, on_received=on_received)
        key = new_p256()
        self.vapid_key_file = write_secret(directory / "vapid.pem", pem(key))
        self.vapid_public_key = b64url(raw_public_key(key.public_key()))
        self._browsers: dict[str, Browser] = {}
        self._vapid: dict[tuple[str, str], dict[str, Any]] = {}  # (t, k) with a verified signature -> claims

    # For the sending side.

    def subscribe(self, name: str | None = None, application_server_key: str | None = None) -> dict[str, Any]:
        """Subscribe a new browser.

        Args:
            name: becomes the subscription's id, and thereby the target that records and orders know.
            application_server_key: the public VAPID key that alone may push to it, base64url; None means this
                service's own pair, "" anybody.

        Returns:
            The PushSubscription as a browser's toJSON() gives it.
        """
        subscription_id = name or secrets.token_urlsafe(24)
        if application_server_key is None:
            application_server_key = self.vapid_public_key
        browser = Browser(new_p256(), secrets.token_bytes(16), application_server_key)
        self._browsers[subscription_id] = browser
        return {
            "endpoint": f"{self.origin}/push/{subscription_id}",
            "expirationTime": None,
            "keys": {
                "p256dh": b64url(raw_public_key(browser.key.public_key())),
                "auth": b64url(browser.auth),
            },
        }

    def unsubscribe(self, subscription_id: str) -> None:
        """Forget a subscription: from now on its endpoint answers 404."""
        self._browsers.pop(subscription_id, None)

    # For the far side.

    @override
    def routes(self) -> list[web.RouteDef]:
        return [web.post("/push/{id}", self.handle)]

    @override
    def check(self, request: web.Request, body: bytes) -> Arrival:
        arrival = Arrival(target=request.match_info["id"], id=request.headers.get("Topic", ""))
        if not self.verify:
            return arrival
        objections = list(self._objections(request, body, arrival))
        arrival.problems = [text for _, _, text in objections]
        if objections:
            arrival.refusal = _error(*objections[0])
        return arrival

    @override
    def accept(self, arrival: Arrival) -> Reply:  # the message id is new for each
        location = f"{self.origin}/message/{secrets.token_urlsafe(18)}"
        return Reply(201, headers={"Location": location, "TTL": "0"}, provider_id=location)

    @override
    def refuse(self, status: int, reason: str | None, arrival: Arrival) -> Reply:  # errors name no target
        errno, text = _USUAL_ERROR.get(status, (999, "Unknown error"))
        return _error(status, errno, reason or text)

    def _objections(self, request: web.Request, body: bytes, arrival: Arrival) -> Iterator[Objection]:
        browser = self._browsers.get(arrival.target)
        if browser is None:
            yield 404, 102, "no such subscription"
        yield from self._vapid_objections(request, browser)
        yield from _header_objections(request.headers, has_body=bool(body))
        if len(body) > LARGEST_BODY:
            yield 413, 104, f"{len(body)} bytes, at most {LARGEST_BODY}"
        elif body and browser:
            yield from _decrypt(body, browser, arrival)

    def _vapid_objections(self, request: web.Request, browser: Browser | None) -> Iterator[Objection]:
        found = _VAPID.fullmatch(request.headers.get("Authorization", ""))
        if not found:
            yield 401, 109, "Authorization must be vapid t=..., k=..."
            return
        try:
            claims = self._verified_claims(found["t"], found["k"])
        except (ValueError, jwt.InvalidTokenError) as error:
            yield 403, 109, f"VAPID: {error}"
            return
        if claims.get("aud") != self.origin:
            yield 403, 109, f"VAPID: aud must be {self.origin}"
        expires, now = claims["exp"], time.time()
        if expires <= now:
            yield 403, 109, "VAPID: exp has passed"
        elif expires > now + LONGEST_VAPID:
            yield 403, 109, "VAPID: exp is more than 24 hours ahead"
        if not _SUBJECT.fullmatch(str(claims.get("sub", ""))):
            yield 403, 109, "VAPID: sub must be a mailto: or https: URI"
        # Section 4.2 of RFC 8292: a subscription restricted to a key takes no other.
        if browser and browser.application_server_key not in {"", found["k"].rstrip("=")}:
            yield 403, 109, "VAPID: the subscription belongs to another application server key"

    def _verified_claims(self, token: str, public_key: str) -> dict[str, Any]:
        if (token, public_key) not in self._vapid:
            point = ec.EllipticCurvePublicKey.from_encoded_point(
                ec.SECP256R1(), unb64url(public_key.rstrip("="))
            )
            claims: dict[str, Any] = jwt.decode(
                token,
                point,
                algorithms=["ES256"],
                options={"require": ["aud", "exp"], "verify_aud": False, "verify_exp": False},
            )
            if not isinstance(claims["exp"], int | float):
                raise ValueError("exp must be a number")
            self._vapid[token, public_key] = claims
        return self._vapid[token, public_key]


def _header_objections(headers: Mapping[str, str], *, has_body: bool) -> Iterator[Objection]:
    ttl = headers.get("TTL")
    if ttl is None:
        yield 400, 111, "TTL is required"
    elif not re.fullmatch(r"\d{1,10}", ttl) or int(ttl) > LARGEST_TTL:
        yield 400, 112, "TTL must be a number of seconds"
    if headers.get("Urgency", "normal") not in _URGENCIES:
        yield 400, 111, "Urgency must be very-low, low, normal or high"
    if not _TOPIC.fullmatch(headers.get("Topic", "none")):
        yield 400, 113, "Topic must be at most 32 characters of the base64url alphabet"
    if has_body and headers.get("Content-Encoding") != "aes128gcm":
        yield 400, 110, "Content-Encoding must be aes128gcm"


def _decrypt(body: bytes, browser: Browser, arrival: Arrival) -> Iterator[Objection]:
    """Decrypt as the browser would; the plaintext becomes the arrival's content."""
    try:
        plaintext = http_ece.decrypt(
            body, private_key=browser.key, auth_secret=browser.auth, version="aes128gcm"
        )
    except (http_ece.ECEException, ValueError, IndexError, binascii.Error) as error:
        yield 400, 110, f"cannot be decrypted: {type(error).__name__}"
        return
    try:
        arrival.content = orjson.loads(plaintext)
    except orjson.JSONDecodeError:
        arrival.content = plaintext.decode(errors="replace")
        yield 400, 110, "the plaintext is no JSON, which is what the service worker reads"


def _error(status: int, errno: int, text: str) -> Reply:
    body = {"code": status, "errno": errno, "error": text, "message": text}
    headers = {"Content-Type": "application/json"}
    if status == 401:  # noqa: PLR2004  # RFC 9110: a 401 names the scheme
        headers["WWW-Authenticate"] = "vapid"
    return Reply(status, orjson.dumps(body), headers, reason=str(errno))

"""Web Push: alerts to browsers.

Set-up: a P-256 key pair of our own (`openssl ecparam -name prime256v1 -genkey -noout`), its private half as
TOCSIN_VAPID_PRIVATE_KEY_FILE or as the channel's `webpush`, with a mailto: or https: subject at which push
services can reach the operator. Facts: RFC 8030 (the request), RFC 8291 (encryption), RFC 8292 (VAPID); for errno
https://mozilla-services.github.io/autopush-rs/errors.html; for Apple's reasons
https://developer.apple.com/documentation/usernotifications/sending-web-push-notifications-in-web-apps-and-browsers;
for 406 and the X-WNS headers of Edge's service
https://learn.microsoft.com/windows/apps/windows-app-sdk/notifications/push-notifications/troubleshooting.

Encrypting one message takes 0.1 ms and signing 0.04 ms (measured, 2,600 bytes): that stays on the event loop.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from http_ece import ECEException
from py_vapid import Vapid02, VapidException
from pywebpush import WebPusher, WebPushException

from senders.base import Sender
from senders.devices import check_keys
from senders.http import classify
from senders.kept import Kept
from senders.moments import Moment, this_moment
from senders.outcomes import Misconfigured, NotConfigured, Receipt, Rejected, TargetGone, Transient
from senders.push import PushConfig
from senders.push_content import fit, rings
from senders.redaction import excerpt, url_secrets
from senders.text import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from config import Settings
    from senders.base import Notification
    from senders.http import Answer, HttpClient

MAX_PLAINTEXT: Final = 2700
"""Bytes. RFC 8291 allows 3,993; what is below 2,700 passes every push service and platform."""

MAX_TTL: Final = 2_419_200
"""Seconds: four weeks, beyond which no push service keeps a message."""

MIN_TTL: Final = 1
"""Second. Edge's service answers 400 to 0 (https://github.com/web-push-libs/pywebpush/issues/162)."""

_URGENCY: Final = ("low", "low", "normal", "high")
_ERRNO_BAD_KEYS: Final = 110
_REASON_OTHER_KEY: Final = "VapidPkHashMismatch"


class Vapid:
    """Signed VAPID headers of one key pair, one an origin until shortly before they expire.

    Args:
        private_key: PEM text, or the 32 bytes in base64url that other tools print.
        subject: mailto: or https:.
        clock: the present moment.

    Raises:
        ValueError: it is no P-256 private key.
    """

    LIFETIME: ClassVar[int] = 12 * 3600  # RFC 8292 allows 24 hours
    MARGIN: ClassVar[int] = 3600
    MAX_ORIGINS: ClassVar[int] = 1000  # endpoints come from users

    def __init__(self, private_key: str, subject: str, clock: Callable[[], Moment] = this_moment) -> None:
        try:
            if "-----BEGIN" in private_key:
                key = load_pem_private_key(private_key.encode(), None)
            else:
                key = Vapid02.from_string(private_key.strip()).private_key
        except Exception:  # noqa: BLE001  # half a dozen types, and their texts may quote the key
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise ValueError("the VAPID private key is no P-256 key in PEM or base64url")
        # The subject is checked where it is configured; py_vapid's own rule refuses https: with a path.
        self._signer = Vapid02(key, conf={"no-strict": True})
        self._subject = subject
        self._clock = clock
        self._headers: dict[str, tuple[Moment, str]] = {}

    def header(self, endpoint: str) -> str:
        """The value of the `authorization` header for an endpoint.

        Raises:
            Rejected: py_vapid cannot sign for such an origin (an IPv6 address).
        """
        parts = urlsplit(endpoint)
        origin = f"{parts.scheme}://{parts.netloc.lower()}"
        now = self._clock()
        signed, header = self._headers.get(origin, (now, ""))
        if not header or signed.age(now) > self.LIFETIME - self.MARGIN:
            claims = {"aud": origin, "sub": self._subject, "exp": int(now.wall + self.LIFETIME)}
            try:
                header = self._signer.sign(claims)["Authorization"]
            except VapidException:
                raise Rejected("bad endpoint", "VAPID cannot be signed for the endpoint's origin") from None
            if len(self._headers) >= self.MAX_ORIGINS:
                self._headers.clear()
            self._headers[origin] = now, header
        return header


class WebPushSender(Sender[PushConfig]):
    """Sends alerts to one subscription each."""

    name: ClassVar[str] = "webpush"
    Config: ClassVar[type[PushConfig]] = PushConfig

    def __init__(self, settings: Settings, http: HttpClient) -> None:
        super().__init__(settings, http)
        self._own_key = ""
        self._vapids: Kept[tuple[str, str], Vapid] = Kept()

    async def send(self, notification: Notification[PushConfig]) -> Receipt:
        """Make one attempt. See `Sender.send`."""
        if notification.device is None:
            raise ValueError("a push needs a device")
        subscription = notification.device.subscription
        vapid = self._vapid(notification)
        plaintext, note = fit(notification, lambda *parts: payload(notification, *parts), MAX_PLAINTEXT)
        try:
            check_keys(
                subscription.get("keys")
            )  # pywebpush takes a short secret, and stumbles over an empty point
            content = WebPusher(dict(subscription)).encode(plaintext, "aes128gcm")["body"]
        except (WebPushException, ECEException, ValueError) as error:
            raise TargetGone("bad subscription", str(error)) from None
        endpoint = str(subscription["endpoint"])
        left = int((notification.expires_at - datetime.now(UTC)).total_seconds())
        headers = {
            "authorization": vapid.header(endpoint),
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
            "ttl": str(min(max(left, MIN_TTL), MAX_TTL)),
            "topic": notification.thread,
            "urgency": "high" if rings(notification) else _URGENCY[min(max(notification.severity, 0), 3)],
        }
        return _classify(await self.http.post(endpoint, content=content, headers=headers), endpoint, note)

    def _vapid(self, notification: Notification[PushConfig]) -> Vapid:
        own = notification.config.webpush
        if own:
            key, subject = own.private_key.get_secret_value(), own.subject
        else:
            key, subject = self._own()
        which = (hashlib.sha256(key.encode()).hexdigest(), subject)
        try:
            with self._vapids.use(which, lambda: Vapid(key, subject)) as vapid:
                return vapid
        except ValueError as error:
            raise Misconfigured("bad credentials", f"Web Push: {error}") from None

    def _own(self) -> tuple[str, str]:
        """The installation's own key and subject, from the settings."""
        path, subject = self.settings.vapid_private_key_file, self.settings.vapid_subject
        if path is None or subject is None:
            raise NotConfigured(
                "Web Push",
                "set TOCSIN_VAPID_PRIVATE_KEY_FILE and TOCSIN_VAPID_SUBJECT, or the channel's webpush",
            )
        if not self._own_key:
            try:
                self._own_key = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                raise Misconfigured(
                    "bad credentials", "TOCSIN_VAPID_PRIVATE_KEY_FILE cannot be read"
                ) from None
        return self._own_key, subject


def payload(
    notification: Notification[PushConfig], title: str, body: str, data: Mapping[str, str | int]
) -> bytes:
    """The JSON that the service worker reads: title, body, tag, url and image if there are, and data."""
    links = {"url": data.get("url"), "image": data.get("image_url")}
    shown: dict[str, Any] = {name: link for name, link in links.items() if link}
    rest = {name: value for name, value in data.items() if name not in {"url", "image_url"}}
    return to_json({"title": title, "body": body, "tag": notification.thread, **shown, "data": rest})


def _classify(answer: Answer, endpoint: str, note: str | None) -> Receipt:
    """What a push service's answer means (RFC 8030, sections 5 and 7; RFC 8292, section 4.2)."""
    if answer.ok:
        return classify(answer, note=note)
    # The endpoint is a capability, and the Location of a message too: neither is quoted.
    secrets = url_secrets(endpoint)
    # Edge's service gives its reason in a header, and no body.
    said = answer.excerpt(secrets) or excerpt(answer.headers.get("x-wns-error-description", ""), secrets)
    parsed = answer.json()
    errno, reason = (parsed.get("errno"), parsed.get("reason")) if isinstance(parsed, dict) else (None, None)
    if answer.status in {404, 410}:
        raise TargetGone(answer.code, "the subscription has ended")
    if answer.status == 400 and errno == _ERRNO_BAD_KEYS:  # noqa: PLR2004  # Bad Request
        raise TargetGone(answer.code, f"the subscription's keys are refused: {said}")
    # Apple's 400 for what is another's 401 or 403: the browser subscribed with another key.
    if answer.status in {401, 403} or reason == _REASON_OTHER_KEY:
        raise Misconfigured(answer.code, f"the push service refuses our VAPID key or subject: {said}")
    if answer.status == 406:  # noqa: PLR2004  # Not Acceptable, with which Edge's service throttles
        raise Transient(answer.code, said, retry_after=answer.retry_after())
    return classify(answer, detail=said)

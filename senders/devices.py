"""Which device addresses are acceptable, and when a refused one speaks against the credentials instead.

Checked when a device is registered, so that a wrong address is an error for the one who sends it and not a
failed delivery later; the senders check again what they put into a URL or a path.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec

from senders.guard import check_url, is_allowed, literal_refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from senders.guard import Network

# Apple has announced 32 bytes as subject to growth, and Live Activities' tokens are longer.
_APNS_TOKEN: Final = re.compile(r"(?:[0-9A-Fa-f]{2}){32,100}")
_FCM_TOKEN: Final = re.compile(r"[!-~]{1,4096}")
_BASE64: Final = re.compile(r"[A-Za-z0-9_+/-]+={0,2}")

P256DH_BYTES: Final = 65
AUTH_BYTES: Final = 16
"""Both RFC 8291, section 3: an uncompressed point of P-256, and a secret."""


def check_device(
    platform: str, token: str, subscription: Mapping[str, Any], allowed_networks: Sequence[Network] = ()
) -> None:
    """Accept a device's address, or name the field that is wrong.

    Args:
        platform: ios, android or web.
        token: of ios and android, else "".
        subscription: of web, else empty.
        allowed_networks: as in `senders.guard`; where a push service may be reached by http://.

    Raises:
        ValueError: one clause that begins with the field's name and never quotes its value.
    """
    if platform == "web":
        if token:
            raise ValueError("token: a web device has a subscription instead")
        check_subscription(subscription, allowed_networks)
        return
    if subscription:
        raise ValueError(f"subscription: an {platform} device has a token instead")
    check_token(platform, token)


def check_token(platform: str, token: str) -> None:
    """Accept a token of ios (APNs) or android (FCM), or raise ValueError as `check_device` does."""
    if platform == "ios":
        if not _APNS_TOKEN.fullmatch(token):
            raise ValueError("token: must be 64 to 200 hexadecimal digits, of an even number")
    elif platform == "android":
        if not _FCM_TOKEN.fullmatch(token):
            raise ValueError("token: must be 1 to 4096 printable ASCII characters without a space")
    else:
        raise ValueError("platform: must be ios, android or web")


def check_subscription(subscription: Mapping[str, Any], allowed_networks: Sequence[Network] = ()) -> None:
    """Accept a browser's PushSubscription JSON, or raise ValueError as `check_device` does."""
    endpoint = subscription.get("endpoint")
    if not isinstance(endpoint, str):
        raise ValueError("subscription.endpoint: must be a URL")  # noqa: TRY004  # callers expect one type
    try:
        check_url(endpoint)
    except ValueError as error:
        raise ValueError(f"subscription.endpoint: {error}") from None
    reason = literal_refusal(endpoint, allowed_networks)
    if reason is not None:
        raise ValueError(f"subscription.endpoint: must have a public address; this one is not: {reason}")
    if endpoint.startswith("http://") and not _is_internal(endpoint, allowed_networks):
        raise ValueError("subscription.endpoint: must begin with https://")
    check_keys(subscription.get("keys"))


def check_keys(keys: object) -> None:
    """Accept a subscription's `keys`, or raise ValueError as `check_device` does."""
    if not isinstance(keys, dict):
        raise ValueError("subscription.keys: must be an object with p256dh and auth")  # noqa: TRY004  # as above
    point = _decode(keys, "p256dh", P256DH_BYTES)
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise ValueError("subscription.keys.p256dh: must be a point of the curve P-256") from None
    _decode(keys, "auth", AUTH_BYTES)


def _is_internal(endpoint: str, allowed_networks: Sequence[Network]) -> bool:
    """Whether the URL spells out an address that only TOCSIN_ALLOWED_NETWORKS opens."""
    host = urlsplit(endpoint).hostname or ""
    return is_allowed(host, allowed_networks) and not is_allowed(host)


def _decode(keys: Mapping[str, Any], name: str, length: int) -> bytes:
    value = keys.get(name)
    if isinstance(value, str) and _BASE64.fullmatch(value):
        try:
            raw = base64.urlsafe_b64decode(value.rstrip("=").translate({43: "-", 47: "_"}) + "==")
        except binascii.Error:
            raw = b""
        if len(raw) == length:
            return raw
    raise ValueError(f"subscription.keys.{name}: must be {length} bytes in base64url")


class MismatchWatch:
    """Tells a stray token of another app from credentials of another app, for one set of credentials.

    A wrong topic, environment or project makes the provider refuse every token as somebody else's. Believing it would
    disable all devices, so that after `limit` refusals with nothing taken in between it is the credentials
    that are at fault.
    """

    def __init__(self, limit: int = 5) -> None:
        self._limit = limit
        self._run = 0

    def taken(self) -> None:
        """The provider took a message: the credentials are right."""
        self._run = 0

    def suspects_credentials(self) -> bool:
        """The provider called a token somebody else's: whether the credentials are to blame."""
        self._run += 1
        return self._run > self._limit

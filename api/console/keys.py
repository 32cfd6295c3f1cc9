"""The VAPID public keys with which a browser may subscribe: the installation's, and those that push channels bring.

A subscription is bound to one key (RFC 8292, section 4.2), so that a browser has to know which of them will send to it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from py_vapid import Vapid02

from model.channels import channels_of
from model.tables import Channel

if TYPE_CHECKING:
    from config import Settings


@dataclass(frozen=True, slots=True)
class Offer:
    """A key to subscribe with.

    Attributes:
        public_key: the uncompressed point in base64url without padding, which the browser's subscribe() takes.
        sends: who sends with it.
    """

    public_key: str
    sends: str


def offered(settings: Settings, tenant_id: str) -> list[Offer]:
    """The keys, the installation's first; none that cannot be read. Within a connection of the caller's."""
    found: dict[str, list[str]] = {}
    if settings.vapid_private_key_file is not None and settings.vapid_subject is not None:
        try:
            own = settings.vapid_private_key_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            own = ""
        if key := public_key(own):
            found[key] = ["every push channel without a key of its own"]
    pushes = (Channel.tenant == tenant_id) & (Channel.channel_type == "push")
    names = {row.id: row.name for row in Channel.select(Channel.id, Channel.name).where(pushes)}
    for channel_id, channel in sorted(channels_of(names).items()):
        webpush = channel.config.get("webpush")
        if isinstance(webpush, dict) and (key := public_key(str(webpush.get("private_key", "")))):
            found.setdefault(key, []).append(f"the channel {names[channel_id]}")
    return [Offer(key, " and ".join(sends)) for key, sends in found.items()]


def public_key(private_key: str) -> str | None:
    """The public half of a P-256 key in PEM or base64url; None if it is none. See senders.webpush.Vapid."""
    try:
        if "-----BEGIN" in private_key:
            key = load_pem_private_key(private_key.encode(), None)
        else:
            key = Vapid02.from_string(private_key.strip()).private_key
    except Exception:  # noqa: BLE001  # half a dozen types, and their texts may quote the key
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        return None
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return base64.urlsafe_b64encode(point).rstrip(b"=").decode()

"""What an answer of APNs means, or the lack of one: the one place where Apple's reasons become outcomes.

Reasons from "Handling notification responses from APNs":
https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns
"""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from senders.apns_protocol import NoAnswerError
from senders.outcomes import Misconfigured, Receipt, Rejected, TargetGone, Transient

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioapns.common import NotificationResult

    from senders.apns_pool import ProviderToken
    from senders.apns_protocol import ApnsRequest
    from senders.devices import MismatchWatch
    from senders.outcomes import SendError

#: Apple's reasons by outcome. Those of _SUSPICIONS are TargetGone, until there are too many.
REASONS: Final[dict[str, type[SendError]]] = {
    **dict.fromkeys(
        (
            "ExpiredProviderToken",
            "IdleTimeout",
            "InternalServerError",
            "ServiceUnavailable",
            "Shutdown",
            "TooManyProviderTokenUpdates",
            "TooManyRequests",
        ),
        Transient,
    ),
    **dict.fromkeys(("BadDeviceToken", "DeviceTokenNotForTopic", "ExpiredToken", "Unregistered"), TargetGone),
    **dict.fromkeys(
        (
            "BadCollapseId",
            "BadExpirationDate",
            "BadMessageId",
            "BadPath",
            "BadPriority",
            "DuplicateHeaders",
            "InvalidPushType",
            "MethodNotAllowed",
            "MissingDeviceToken",
            "PayloadEmpty",
            "PayloadTooLarge",
        ),
        Rejected,
    ),
    **dict.fromkeys(
        (
            "BadCertificate",
            "BadCertificateEnvironment",
            "BadEnvironmentKeyIdInToken",
            "BadTopic",
            "Forbidden",
            "InvalidProviderToken",
            "InvalidSigningKey",
            "MissingProviderToken",
            "MissingTopic",
            "TopicDisallowed",
            "UnrelatedKeyIdInToken",
        ),
        Misconfigured,
    ),
}

_HINTS: Final = {
    "BadDeviceToken": "the token may be of the other environment (TOCSIN_APNS_SANDBOX)",
    "BadEnvironmentKeyIdInToken": "the key is for the other environment",
    "DeviceTokenNotForTopic": "the token belongs to another app than the topic names",
    "InvalidProviderToken": "the key, its id and the team id do not belong together",
    "InvalidSigningKey": "the signing key is not Apple's",
}

#: What speaks against the credentials, if Apple says so of every token.
_SUSPICIONS: Final = {
    "BadDeviceToken": "many tokens are of the other environment: is TOCSIN_APNS_SANDBOX or `sandbox` right?",
    "DeviceTokenNotForTopic": "many tokens are not for the topic {topic}: is it the right one?",
}

_UNKNOWN: Final = "it may have been taken all the same"

_NO_CONNECTION: Final[tuple[tuple[type[OSError], Callable[[Any], SendError]], ...]] = (
    (
        ssl.SSLCertVerificationError,
        lambda error: Misconfigured(
            "tls certificate", f"not trusted (see TOCSIN_APNS_CA_FILE): {error.verify_message}"
        ),
    ),
    (
        ssl.SSLError,
        lambda error: Transient(
            "tls error", str(error.reason or "handshake failed").replace("_", " ").lower()
        ),
    ),
    (TimeoutError, lambda _: Transient("connect timeout")),
    (ConnectionRefusedError, lambda _: Transient("connect refused")),
    (ConnectionError, lambda _: Transient("connection reset", "during the handshake")),
    (socket.gaierror, lambda error: Transient("name not resolved", error.strerror or "")),
    (OSError, lambda error: Transient("unreachable", error.strerror or "no connection")),
)
"""The first that fits decides."""


def no_answer(error: OSError | NoAnswerError) -> SendError:
    """The outcome where no answer came."""
    if isinstance(error, NoAnswerError):
        return Transient(error.code, "it was not taken" if error.not_processed else _UNKNOWN)
    return next(outcome(error) for kind, outcome in _NO_CONNECTION if isinstance(error, kind))


def too_late(deadline: float) -> SendError:
    """The outcome where no answer came within `deadline` seconds."""
    return Transient("timeout", f"no answer within {deadline:g} s; {_UNKNOWN}")


def classify(
    answer: NotificationResult,
    request: ApnsRequest,
    token: ProviderToken,
    watch: MismatchWatch,
    note: str | None = None,
) -> Receipt:
    """What the answer means: its reason decides, or its status where there is no reason that we know.

    Args:
        answer: as the connection gave it.
        request: what it answers.
        token: renewed, or held back, where the answer asks for it.
        watch: of the credentials and topic in use.
        note: goes with the receipt.

    Raises:
        SendError: of the subclass that the table says.
    """
    reason = answer.description or ""
    code = f"{answer.status} {reason}".strip()
    provider_id = answer.notification_id or request.notification_id
    if answer.status == "200":
        watch.taken()
        return Receipt(code, provider_id, note)
    kind = REASONS.get(reason) or _by_status(answer.status)
    detail = _HINTS.get(reason, "")
    if reason in _SUSPICIONS and watch.suspects_credentials():
        kind, detail = Misconfigured, _SUSPICIONS[reason].format(topic=request.apns_topic)
    elif reason == "ExpiredProviderToken" and not token.expired(request.authorization):
        kind, detail = Misconfigured, "a new token counts as expired as well: is this machine's clock right?"
    elif reason == "TooManyProviderTokenUpdates":
        token.too_many_updates(request.authorization)
    if issubclass(kind, TargetGone):
        raise kind(code, detail, since=_moment(answer.timestamp), provider_id=provider_id)
    raise kind(code, detail, provider_id=provider_id)


def _by_status(status: str) -> type[SendError]:
    if status == "410":
        return TargetGone
    if status in {"401", "403"} or status.startswith("3"):
        return Misconfigured
    if status.startswith("4") and status not in {"408", "425", "429"}:
        return Rejected
    return Transient  # 5xx, and what is no answer to a push at all


def _moment(milliseconds: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(milliseconds) / 1000, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None

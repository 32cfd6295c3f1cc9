"""What is put into a receiver (`Answer`) and what comes out of it (`Received`), and the steps in between."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Answer:
    """How a receiver is told to answer, instead of by what it finds.

    `Answer(503)` is the provider's own 503; `Answer()` is the ordinary answer; `Answer(delay=2)` the
    ordinary answer, two seconds late. A request is verified and recorded whatever it is answered.

    Attributes:
        status: HTTP status; None keeps the ordinary answer.
        reason: the provider's word for it ("TooManyRequests", "QUOTA_EXCEEDED", ...); None means the usual
            one for the status.
        body: sent instead of the provider's body: an object becomes JSON, text and bytes go as they are.
        headers: added to the provider's own, as in `{"Retry-After": "3"}`.
        delay: seconds between the request and the answer.
        reset: no answer; the TCP connection is reset (APNs: the HTTP/2 stream, with INTERNAL_ERROR).
        stall: no answer; the request is taken and nothing more happens.
        dead: the answer of a provider that has forgotten the target for good (APNs and Web Push 410, FCM
            404, ...).
    """

    status: int | None = None
    reason: str | None = None
    body: bytes | str | dict[str, Any] | list[Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    reset: bool = False
    stall: bool = False
    dead: bool = False

    def __post_init__(self) -> None:
        if self.status is not None and not 200 <= self.status <= 599:  # noqa: PLR2004  # final HTTP statuses
            raise ValueError(f"status must be from 200 to 599, not {self.status}")
        if self.delay < 0:
            raise ValueError("delay must not be negative")
        if self.reset and self.stall:
            raise ValueError("an answer resets or stalls, not both")

    @classmethod
    def from_json(cls, value: Any) -> Answer:
        """Build an answer from its JSON object, as the control endpoint receives it.

        Raises:
            ValueError: what is wrong with it.
        """
        if not isinstance(value, dict):
            raise ValueError("an answer is an object")  # noqa: TRY004  # one class for whatever is wrong
        known = {each.name for each in fields(cls)}
        if unknown := sorted(set(value) - known):
            raise ValueError(f"no such key: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        try:
            return cls(**value)
        except TypeError as error:
            raise ValueError(str(error)) from None

    @property
    def encoded_body(self) -> bytes | None:
        """The body as it goes over the wire; None where the provider's own is wanted."""
        if self.body is None or isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


@dataclass(frozen=True, slots=True)
class Reply:
    """A ready HTTP answer.

    Attributes:
        reason: the provider's word for it, "" where there is none.
        provider_id: the id that the provider gave what it accepted (apns-id, FCM's name, Location), ""
            where none.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    provider_id: str = ""


@dataclass(slots=True)
class Arrival:
    """One request after the receiver looked at it.

    Attributes:
        target: what it was addressed to: token, subscription id, routing key, or the name in the path.
        id: what a repeat of it would carry again: webhook-id, apns-id, dedup_key, Topic, tag; "" where the
            protocol or the request has no such thing.
        content: the decoded body (Web Push: decrypted).
        problems: everything the provider would object to.
        refusal: the provider's answer to the first of them.
        context: what else the receiver needs to answer it (FCM: the project).
    """

    target: str = ""
    id: str = ""
    content: Any = None
    problems: list[str] = field(default_factory=list)
    refusal: Reply | None = None
    context: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """One request, as it is kept. It is kept when it has arrived, which is before a delayed answer goes out.

    Attributes:
        at: Unix time in seconds; monotonic: the same moment of `time.monotonic`, to measure against.
        receiver: apns, fcm, webpush, slack, teams, pagerduty or webhook.
        target, id, content, problems: as in `Arrival`.
        headers: names in lower case, without `authorization`.
        valid: whether there were no problems.
        status: what it is answered; None for a reset or a stall.
        reason, provider_id: as in `Reply`.
    """

    at: float
    monotonic: float
    receiver: str
    target: str
    id: str
    content: Any
    headers: dict[str, str]
    valid: bool
    problems: list[str]
    status: int | None
    reason: str
    provider_id: str

    @property
    def accepted(self) -> bool:
        """Whether the sender is told that it was taken."""
        return self.status is not None and self.status < 300  # noqa: PLR2004  # 2xx

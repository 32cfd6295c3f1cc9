"""The one interface behind which every provider stands, and what passes through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from senders.template import check_template

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from config import Settings
    from senders.http import HttpClient
    from senders.outcomes import Receipt


class ChannelConfig(BaseModel):
    """What every channel type's config has in common. Fields that hold a secret are SecretStr.

    The templates replace the words of `senders.text.title` and `senders.text.body`; see senders.template.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, hide_input_in_errors=True)

    max_retries: int | None = Field(default=None, ge=0, le=100, description="else TOCSIN_MAX_RETRIES")
    title_template: Annotated[str, AfterValidator(check_template)] | None = None
    body_template: Annotated[str, AfterValidator(check_template)] | None = None


ConfigT = TypeVar("ConfigT", bound=ChannelConfig)


@dataclass(frozen=True, slots=True)
class Device:
    """A user's phone or browser, as a push sender needs it.

    Attributes:
        platform: ios, android or web.
        token: the provider's token (ios, android), else "".
        subscription: the browser's PushSubscription JSON (web), else empty.
    """

    device_id: int
    user_id: str
    platform: str
    token: str = field(default="", repr=False)
    subscription: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Notification(Generic[ConfigT]):
    """One delivery, as its sender sees it: what to say, to whom, until when.

    Attributes:
        id: stable over every attempt and replay, so that the far side can drop a repeat (webhook-id, apns-id, ...).
        job_id: the job in whose name it is sent.
        alert: the alert as it was accepted (CONTRACT: alert_id, alert_type, severity, device_id, site_id, message,
            details, triggered_at), without event_type.
        event: OPEN, ACKNOWLEDGED, ESCALATED or CLOSED.
        severity: 0 and up; a missing severity is 0.
        is_critical: severity from TOCSIN_CRITICAL_SEVERITY, or details.is_critical.
        thread: stable for every event of one alert of one tenant, 32 characters of base64url alphabet; the key by
            which a later event replaces, resolves or threads with an earlier one (dedup_key, collapse-id, tag, Topic).
        accepted_at: when the alert was committed.
        expires_at: after this moment it is worthless; TTLs are computed from it at every attempt.
        config: the channel's config, validated.
        device: the target of a push; None where the channel itself is the target.
    """

    id: UUID
    tenant_id: str
    job_id: int
    alert: Mapping[str, Any]
    event: str
    severity: int
    is_critical: bool
    thread: str
    accepted_at: datetime
    expires_at: datetime
    config: ConfigT = field(repr=False)
    device: Device | None = None


class Sender(ABC, Generic[ConfigT]):
    """Delivers notifications to one provider. One instance a worker process, living on its event loop.

    A sender builds the payload, makes the call, within TOCSIN_SEND_DEADLINE (senders.deadline) as HttpClient.post does
    for it, and classifies the answer. It never retries, sleeps, logs a secret or touches a table. It must bear many
    concurrent `send` calls and the cancellation of any of them.

    Attributes:
        name: how rows, metrics and logs call it: the channel type, or apns, fcm, webpush.
        Config: the channel config that `Notification.config` carries.
        places: how many `send` calls to one destination may be under way in a process at the same time, where it
            answers quickly. Others wait, which counts as no attempt.
    """

    name: ClassVar[str]
    Config: ClassVar[type[ChannelConfig]]
    places: ClassVar[int] = 100

    def __init__(self, settings: Settings, http: HttpClient) -> None:
        self.settings = settings
        self.http = http

    @abstractmethod
    async def send(self, notification: Notification[ConfigT]) -> Receipt:
        """Make one attempt.

        Raises:
            Transient, Rejected, TargetGone, Misconfigured: see senders.outcomes. Nothing else on purpose.
        """

    async def aclose(self) -> None:  # most senders hold nothing of their own
        """Close what the sender opened. No send is in flight any more."""

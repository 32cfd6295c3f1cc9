"""The words that rows, logs, metrics and answers share. One idea, one word."""

from __future__ import annotations

from enum import StrEnum


class EventType(StrEnum):
    """What happened to an alert."""

    OPEN = "OPEN"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    ESCALATED = "ESCALATED"
    CLOSED = "CLOSED"


class DeliveryState(StrEnum):
    """Where a delivery stands. The first four are in progress, the others final."""

    PENDING = "PENDING"
    SENDING = "SENDING"
    RETRYING = "RETRYING"
    DEFERRED = "DEFERRED"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    SUPPRESSED = "SUPPRESSED"
    SUPERSEDED = "SUPERSEDED"
    EXPIRED = "EXPIRED"

    @property
    def is_final(self) -> bool:
        """Whether nothing happens to it any more."""
        return self not in IN_PROGRESS


IN_PROGRESS = frozenset(
    {DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.RETRYING, DeliveryState.DEFERRED}
)

#: The final states, which are also the names of the counters that a job keeps of its deliveries.
FINAL_STATES = tuple(state for state in DeliveryState if state.is_final)


class JobState(StrEnum):
    """Where a job stands: the sum of its deliveries."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"
    SUPPRESSED = "SUPPRESSED"
    SUPERSEDED = "SUPERSEDED"
    EXPIRED = "EXPIRED"

    @property
    def is_final(self) -> bool:
        """Whether all of its deliveries have ended."""
        return self not in {JobState.PENDING, JobState.PROCESSING}

    @property
    def otherwise(self) -> JobState | None:
        """This state, if it is how a job ends that was not delivered to all of its targets; a row's `ended_as`."""
        return self if self.is_final and self is not JobState.COMPLETED else None


class Reason(StrEnum):
    """Why a delivery was not made, or not yet."""

    # SUPPRESSED
    DEVICE_DISABLED = "device_disabled"
    CAMERA_DISABLED = "camera_disabled"
    DETECTION_TYPE = "detection_type"
    QUIET_HOURS = "quiet_hours"
    CHANNEL_DISABLED = "channel_disabled"
    NO_DEVICES = "no_devices"
    # FAILED
    REJECTED = "rejected"
    TARGET_GONE = "target_gone"
    MISCONFIGURED = "misconfigured"
    PROVIDER_NOT_CONFIGURED = "provider_not_configured"
    EXHAUSTED = "exhausted"
    CHANNEL_DELETED = "channel_deleted"
    DEVICE_DELETED = "device_deleted"
    INTERNAL = "internal"
    # SUPERSEDED, EXPIRED
    LATER_EVENT = "later_event"
    TOO_LATE = "too_late"
    # RETRYING
    TRANSIENT = "transient"
    EARLIER_EVENT_UNDER_WAY = "earlier_event_under_way"
    LANE_FULL = "lane_full"
    UNREADABLE = "unreadable"


#: How a delivery ends: its final states, and the reasons for each.
ENDINGS: dict[DeliveryState, tuple[Reason, ...]] = {
    DeliveryState.DELIVERED: (),
    DeliveryState.FAILED: (
        Reason.REJECTED,
        Reason.TARGET_GONE,
        Reason.MISCONFIGURED,
        Reason.PROVIDER_NOT_CONFIGURED,
        Reason.EXHAUSTED,
        Reason.CHANNEL_DELETED,
        Reason.DEVICE_DELETED,
        Reason.INTERNAL,
    ),
    DeliveryState.SUPPRESSED: (
        Reason.DEVICE_DISABLED,
        Reason.CAMERA_DISABLED,
        Reason.DETECTION_TYPE,
        Reason.QUIET_HOURS,
        Reason.CHANNEL_DISABLED,
    ),
    DeliveryState.SUPERSEDED: (Reason.LATER_EVENT,),
    DeliveryState.EXPIRED: (Reason.TOO_LATE,),
}

#: The reasons that only a delivery to a device can have.
OF_DEVICES = frozenset(
    {
        Reason.TARGET_GONE,
        Reason.DEVICE_DELETED,
        Reason.DEVICE_DISABLED,
        Reason.CAMERA_DISABLED,
        Reason.DETECTION_TYPE,
        Reason.QUIET_HOURS,
    }
)

#: The steps of the chain, as the backlog and the sweep call them.
STAGES = ("match", "fanout", "deliver")


class Platform(StrEnum):
    """What a device runs, which decides the push service."""

    IOS = "ios"
    ANDROID = "android"
    WEB = "web"

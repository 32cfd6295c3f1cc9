"""States, reasons and outcomes in words, as docs/outcomes.md explains them; a test compares the two."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from model.states import DeliveryState, JobState, Reason

#: What a state means.
STATES: Final[dict[str, str]] = {
    "PENDING": "waits for a worker",
    "SENDING": "a worker holds it, until its lease ends",
    "RETRYING": "failed for now; next_attempt_at says when it is tried again",
    "DEFERRED": "the user asked for it after the quiet hours",
    "DELIVERED": "the provider took it (a trap is sent, not known to have arrived)",
    "FAILED": "it will not be made; see the reason",
    "SUPPRESSED": "it was not to be made; see the reason",
    "SUPERSEDED": "a later event of the same alert goes to the same target",
    "EXPIRED": "it came too late to be worth anything",
}

#: What a job's state means, where a delivery has no such state.
JOB_STATES: Final[dict[str, str]] = {
    "PROCESSING": "some of its deliveries have not ended",
    "COMPLETED": "all that was to be delivered was",
    "PARTIAL": "some delivered, some failed or expired",
}

#: What a reason means, and what to do.
REASONS: Final[dict[str, str]] = {
    "device_disabled": "the push service said the device is gone; the app registers it again when it is used",
    "camera_disabled": "the user switched this camera off",
    "detection_type": "the user does not want this kind of detection from this camera",
    "quiet_hours": "the user's wall clock shows quiet hours, and the alert is not critical",
    "channel_disabled": "the channel was switched off after the job was made",
    "no_devices": "no user of the push channel has a device",
    "rejected": "the provider will never take this message; the log has its answer",
    "target_gone": "the provider no longer knows the device, which is disabled by that",
    "misconfigured": (
        "nothing will work on this channel until a person acts, or it became one of another type meanwhile; "
        "the channel's health says what; then tocsin replay"
    ),
    "provider_not_configured": (
        "neither the channel nor the settings hold credentials; tocsin doctor names the settings"
    ),
    "exhausted": (
        "failed transiently at every attempt, or each of its workers died, three at least; "
        "tocsin replay when the far side is back"
    ),
    "channel_deleted": "it was deleted after the job was made",
    "device_deleted": "it was deleted after the job was made, or is another user's now",
    "internal": "an error in Tocsin; the worker's log has it whole; please report it",
    "later_event": "for example CLOSED, while OPEN still waited",
    "too_late": "the deadline by severity passed: 1 h (info), 4 h (warning), 12 h (error), 24 h (critical)",
    "transient": "network, timeout, 408, 425, 429 or 5xx, and what else a provider says when it is busy",
    "earlier_event_under_way": "an earlier event of the alert is being sent; this one waits for its turn",
    "lane_full": (
        "the destination is slow and has enough in hand; tried again within 15 s, which counts as no attempt"
    ),
    "unreadable": (
        "no key that the worker has decrypts the channel's config; looked at each minute, until it is misconfigured "
        "when too late: save the channel anew, or give every worker the key"
    ),
}

#: What the log calls what came of an attempt, and how bad that is.
OUTCOMES: Final[dict[str, tuple[str, str]]] = {
    "ok": ("delivered", "good"),
    "transient": ("failed for now", "warn"),
    "rejected": ("rejected", "bad"),
    "target_gone": ("target gone", "bad"),
    "misconfigured": ("misconfigured", "bad"),
    "not_configured": ("not configured", "bad"),
    "internal": ("error in Tocsin", "bad"),
    "no_devices": ("no devices", "warn"),
}

#: How a state looks: its tone, and a sign that says the same without colour.
_TONES: Final[dict[str, tuple[str, str]]] = {
    "PENDING": ("calm", "○"),
    "PROCESSING": ("calm", "◔"),
    "SENDING": ("calm", "◔"),
    "RETRYING": ("warn", "↻"),
    "DEFERRED": ("calm", "☾"),
    "DELIVERED": ("good", "✓"),
    "COMPLETED": ("good", "✓"),
    "PARTIAL": ("warn", "◑"),
    "FAILED": ("bad", "✕"),
    "EXPIRED": ("bad", "⌛"),
    "SUPPRESSED": ("mute", "·"),
    "SUPERSEDED": ("mute", "»"),
    "ok": ("good", "✓"),
    "failing": ("warn", "↻"),
    "misconfigured": ("bad", "✕"),
    "unknown": ("mute", "?"),
    "deliver": ("good", "✓"),
    "defer": ("calm", "☾"),
    "suppress": ("mute", "·"),
}

_SEVERITIES: Final = (("info", "calm"), ("info", "calm"), ("warning", "warn"), ("error", "bad"))


def badge(tone: str, sign: str, text: str, title: str = "") -> Markup:
    """A word with a colour and a sign."""
    return Markup('<span class="badge {}" title="{}"><span aria-hidden="true">{}</span> {}</span>').format(
        tone, title, sign, text
    )


def state(name: str) -> Markup:
    """A state of a delivery, a job or a channel's health, or a verdict."""
    tone, sign = _TONES.get(name, ("mute", "·"))
    return badge(tone, sign, name.lower(), STATES.get(name) or JOB_STATES.get(name, ""))


def outcome(name: str) -> Markup:
    """What came of an attempt."""
    text, tone = OUTCOMES.get(name, (name, "mute"))
    return badge(tone, {"good": "✓", "warn": "↻", "bad": "✕"}.get(tone, "·"), text)


def reason(name: str | None) -> str:
    """A reason in words, or ""."""
    return REASONS.get(name or "", "")


def severity(value: int | None) -> Markup:
    """A severity: the number and its word."""
    number = value or 0
    word, tone = _SEVERITIES[number] if number < len(_SEVERITIES) else ("critical", "bad")
    return Markup('<span class="severity {}">{} {}</span>').format(tone, number, word)


DELIVERY_STATES: Final = tuple(each.value for each in DeliveryState)
ALL_JOB_STATES: Final = tuple(each.value for each in JobState)
ALL_REASONS: Final = tuple(each.value for each in Reason)

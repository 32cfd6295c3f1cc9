"""The payload of an APNs notification.

Source: developer.apple.com/documentation/usernotifications/generating-a-remote-notification, tables 1 to 3.
"""

from __future__ import annotations

from typing import Any

from receivers.checks import Findings

_APS_KEYS = frozenset(
    {
        "alert",
        "badge",
        "sound",
        "thread-id",
        "category",
        "content-available",
        "mutable-content",
        "target-content-id",
        "interruption-level",
        "relevance-score",
        "filter-criteria",
        "stale-date",
        "content-state",
        "timestamp",
        "event",
        "dismissal-date",
        "attributes-type",
        "attributes",
        "url-args",
    }
)
_ALERT_TEXTS = (
    "title",
    "subtitle",
    "body",
    "launch-image",
    "title-loc-key",
    "subtitle-loc-key",
    "loc-key",
    "action-loc-key",
)
_ALERT_LISTS = ("title-loc-args", "subtitle-loc-args", "loc-args")
_INTERRUPTION_LEVELS = frozenset({"passive", "active", "time-sensitive", "critical"})


def payload_problems(payload: dict[str, Any]) -> list[str]:
    """What keeps a device from showing this payload as it is meant."""
    findings = Findings()
    aps = findings.record("aps", payload.get("aps"), _APS_KEYS)
    if not aps:
        if aps is not None:
            findings.note("aps", "empty")
        return findings.problems
    _alert(findings, aps.get("alert"))
    _sound(findings, aps.get("sound"))
    for key in ("thread-id", "category", "target-content-id"):
        findings.text(f"aps.{key}", aps.get(key), required=False)
    for key in ("content-available", "mutable-content"):
        if key in aps and aps[key] not in (0, 1):
            findings.note(f"aps.{key}", "must be 1")
    findings.one_of(
        "aps.interruption-level", aps.get("interruption-level"), _INTERRUPTION_LEVELS, required=False
    )
    score = aps.get("relevance-score")
    if score is not None and not (_is_number(score) and 0 <= score <= 1):
        findings.note("aps.relevance-score", "must be a number from 0 to 1")
    badge = aps.get("badge")
    if badge is not None and (not isinstance(badge, int) or isinstance(badge, bool) or badge < 0):
        findings.note("aps.badge", "must be a whole number, not negative")
    return findings.problems


def _alert(findings: Findings, alert: Any) -> None:
    if alert is None or isinstance(alert, str):
        return
    fields = findings.record(
        "aps.alert", alert, {*_ALERT_TEXTS, *_ALERT_LISTS, "summary-arg", "summary-arg-count"}
    )
    for key in _ALERT_TEXTS if fields else ():
        findings.text(f"aps.alert.{key}", alert.get(key), required=False)
    for key in _ALERT_LISTS if fields else ():
        for each in findings.array(f"aps.alert.{key}", alert.get(key), required=False):
            findings.text(f"aps.alert.{key}", each)


def _sound(findings: Findings, sound: Any) -> None:
    if sound is None or isinstance(sound, str):
        return
    if fields := findings.record("aps.sound", sound, {"critical", "name", "volume"}):
        findings.text("aps.sound.name", fields.get("name"))
        if fields.get("critical") not in (None, 0, 1):
            findings.note("aps.sound.critical", "must be 1")
        volume = fields.get("volume")
        if volume is not None and not (_is_number(volume) and 0 <= volume <= 1):
            findings.note("aps.sound.volume", "must be a number from 0 to 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

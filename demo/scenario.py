"""A day of alerts in a minute: who is configured, what happens, and what must come of it.

Data rather than code, so that `make demo` (embedded) and the tests (RabbitMQ, PostgreSQL, workers in other processes)
live through the same day.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from receivers import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from receivers import FarSide

TENANT = "acme"
ZONE = "Europe/Berlin"


@dataclass(frozen=True, slots=True)
class Expected:
    """A delivery that must be there, and how it must have ended.

    Attributes:
        target: what the user calls the device; "" for the channel itself.
        attempts: how many it must have taken; None where it does not matter.
    """

    alert_id: int
    event: str
    channel: str
    target: str
    state: str
    reason: str | None = None
    attempts: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens.

    Attributes:
        prepare: what the far side is told before.
        duplicates: how many of the alerts must be recognised as already accepted.
    """

    title: str
    alerts: tuple[dict[str, Any], ...]
    expected: tuple[Expected, ...]
    duplicates: int = 0
    prepare: Callable[[FarSide], None] = field(default=lambda _far: None)


def configuration(far: FarSide, *, now: datetime) -> dict[str, Any]:
    """The example configuration, in the shape that `tocsin apply` reads.

    Args:
        now: quiet hours are laid around it, so that it is always night for Bob and Eve.
    """
    wall = now.astimezone(ZoneInfo(ZONE))
    night = {
        "quiet_hours_enabled": True,
        "quiet_hours_start": f"{wall - timedelta(hours=1):%H:%M}",
        "quiet_hours_end": f"{wall + timedelta(hours=3):%H:%M}",
        "quiet_hours_timezone": ZONE,
    }

    def phone(name: str) -> dict[str, Any]:
        return {"platform": "ios", "name": name, "token": far.apns.device_token(name)}

    return {
        "tenant": TENANT,
        "channels": [
            {"name": "slack-ops", "channel_type": "slack", "config": {"webhook_url": far.slack.url("ops")}},
            {"name": "teams-ops", "channel_type": "teams", "config": {"webhook_url": far.teams.url("ops")}},
            {
                "name": "pager",
                "channel_type": "pagerduty",
                "config": {
                    "integration_key": far.pagerduty.routing_key("ops"),
                    "endpoint": far.pagerduty.url,
                },
            },
            *(
                {
                    "name": name,
                    "channel_type": "webhook",
                    "config": {"url": far.webhook.url(name), "secret": far.webhook.secret},
                }
                for name in ("hook", "flaky-hook", "strict-hook", "rare-hook")
            ),
            {"name": "alice", "channel_type": "push", "config": {"user_ids": ["alice"]}},
            {
                "name": "household",
                "channel_type": "push",
                "config": {"user_ids": ["alice", "bob", "carol", "dave", "eve"]},
            },
        ],
        "rules": [
            {"name": "smoke-to-slack", "channel": "slack-ops", "alert_type": "smoke"},
            {"name": "smoke-to-teams", "channel": "teams-ops", "alert_type": "smoke"},
            {
                "name": "smoke-to-pager",
                "channel": "pager",
                "alert_type": "smoke",
                "min_severity": 3,
                "deliver_on": ["OPEN", "ESCALATED", "CLOSED"],
            },
            {
                "name": "smoke-to-hook",
                "channel": "hook",
                "device_tag_key": "building",
                "device_tag_val": "north",
                "deliver_on": ["OPEN", "CLOSED"],
            },
            {
                "name": "smoke-rarely",
                "channel": "rare-hook",
                "alert_type": "smoke",
                "deliver_on": ["OPEN", "ESCALATED"],
                "throttle_minutes": 10,
            },
            {"name": "leaks", "channel": "flaky-hook", "alert_type": "water_leak"},
            {"name": "doors", "channel": "strict-hook", "alert_type": "door", "device_prefixes": ["lock-"]},
            {"name": "parcels", "channel": "alice", "alert_type": "parcel", "site_ids": ["home"]},
            {"name": "motion", "channel": "household", "alert_type": "motion"},
            {"name": "intruders", "channel": "household", "alert_type": "intrusion", "min_severity": 4},
        ],
        "users": [
            {
                "user_id": "alice",
                "devices": [
                    phone("Alice's iPhone"),
                    {
                        "platform": "android",
                        "name": "Alice's tablet",
                        "token": far.fcm.registration_token("alice"),
                    },
                    {
                        "platform": "web",
                        "name": "Alice's browser",
                        "subscription": far.webpush.subscribe("alice"),
                    },
                ],
            },
            {"user_id": "bob", "devices": [phone("Bob's iPhone")], "preferences": night},
            {
                "user_id": "carol",
                "devices": [phone("Carol's iPhone")],
                "preferences": {
                    "cameras": {
                        "garage": {"enabled": False},
                        "front": {"enabled": True, "smart_detection_types": ["person"]},
                    }
                },
            },
            {"user_id": "dave", "devices": [phone("Dave's old iPhone")]},
            {
                "user_id": "eve",
                "devices": [phone("Eve's iPhone")],
                "preferences": {**night, "quiet_hours_action": "defer"},
            },
        ],
    }


def _alert(alert_id: int, alert_type: str, severity: int, message: str, **rest: Any) -> dict[str, Any]:
    return {"alert_id": alert_id, "alert_type": alert_type, "severity": severity, "message": message, **rest}


SMOKE = _alert(
    1001,
    "smoke",
    3,
    "Smoke in the server room",
    device_id="det-17",
    site_id="plant",
    details={"device_tags": {"building": "north"}, "floor": 2},
    triggered_at="2026-03-29T01:30:00Z",
)
PARCEL = _alert(1002, "parcel", 1, "Parcel at the front door", device_id="cam-front", site_id="home")
GARAGE = _alert(1003, "motion", 2, "Motion in the garage", details={"camera_id": "garage"})
CAT = _alert(
    1004, "motion", 2, "Animal at the front", details={"camera_id": "front", "smart_detection_type": "animal"}
)
INTRUDER = _alert(1005, "intrusion", 5, "Glass break, ground floor", device_id="cam-hall", site_id="home")
LEAK = _alert(1006, "water_leak", 3, "Water under the boiler", device_id="leak-3")
DOOR = _alert(1007, "door", 2, "Door held open", device_id="lock-9")

_NIGHT = "quiet_hours"


def _household(alert_id: int, **states: tuple[str, str | None]) -> tuple[Expected, ...]:
    """What becomes of an alert for the household: DELIVERED but for the devices that are named."""
    names = {
        "iphone": "Alice's iPhone",
        "tablet": "Alice's tablet",
        "browser": "Alice's browser",
        "bob": "Bob's iPhone",
        "carol": "Carol's iPhone",
        "dave": "Dave's old iPhone",
        "eve": "Eve's iPhone",
    }
    return tuple(
        Expected(alert_id, "OPEN", "household", name, *states.get(key, ("DELIVERED", None)))
        for key, name in names.items()
    )


def _dave_is_gone(far: FarSide) -> None:
    far.apns.always(far.apns.device_token("Dave's old iPhone"), Answer(dead=True))


def _flaky(far: FarSide) -> None:
    far.webhook.script("flaky-hook", [Answer(503), Answer(503)])


def _strict(far: FarSide) -> None:
    far.webhook.always("strict-hook", Answer(400))


STEPS: tuple[Step, ...] = (
    Step(
        "One alert, five channels",
        (SMOKE,),
        tuple(
            Expected(1001, "OPEN", channel, "", "DELIVERED", attempts=1)
            for channel in ("slack-ops", "teams-ops", "pager", "hook", "rare-hook")
        ),
    ),
    Step(
        "One user, three platforms: APNs, FCM, Web Push",
        (PARCEL,),
        tuple(
            Expected(1002, "OPEN", "alice", name, "DELIVERED", attempts=1)
            for name in ("Alice's iPhone", "Alice's tablet", "Alice's browser")
        ),
    ),
    Step(
        "A camera switched off, a night's sleep, a token that died",
        (GARAGE,),
        _household(
            1003,
            bob=("SUPPRESSED", _NIGHT),
            carol=("SUPPRESSED", "camera_disabled"),
            dave=("FAILED", "target_gone"),
            eve=("DEFERRED", _NIGHT),
        ),
        prepare=_dave_is_gone,
    ),
    Step(
        "An unwanted kind of detection; the dead device is not tried again",
        (CAT,),
        _household(
            1004,
            bob=("SUPPRESSED", _NIGHT),
            carol=("SUPPRESSED", "detection_type"),
            dave=("SUPPRESSED", "device_disabled"),
            eve=("DEFERRED", _NIGHT),
        ),
    ),
    Step(
        "A critical alert wakes everybody",
        (INTRUDER,),
        _household(1005, dave=("SUPPRESSED", "device_disabled")),
    ),
    Step(
        "A receiver that fails twice and then works",
        (LEAK,),
        (Expected(1006, "OPEN", "flaky-hook", "", "DELIVERED", attempts=3),),
        prepare=_flaky,
    ),
    Step(
        "A receiver that refuses: tried once, reported, not tried again",
        (DOOR,),
        (Expected(1007, "OPEN", "strict-hook", "", "FAILED", "rejected", attempts=1),),
        prepare=_strict,
    ),
    Step("The same alert again: recognised, nothing is sent twice", (SMOKE,), (), duplicates=1),
    Step(
        "It escalates: the pager hears of it, the throttled channel does not",
        ({**SMOKE, "event_type": "ESCALATED"},),
        (Expected(1001, "ESCALATED", "pager", "", "DELIVERED", attempts=1),),
    ),
    Step(
        "It is over: PagerDuty resolves the incident",
        ({**SMOKE, "event_type": "CLOSED"},),
        tuple(
            Expected(1001, "CLOSED", channel, "", "DELIVERED", attempts=1) for channel in ("pager", "hook")
        ),
    ),
)

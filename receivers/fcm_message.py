"""The message of FCM's HTTP v1 API.

Source: firebase.google.com/docs/reference/fcm/rest/v1/projects.messages (fields, forms, reserved keys) and
firebase.google.com/docs/cloud-messaging/customize-messages/set-message-type (4,096 bytes).
"""

from __future__ import annotations

import re
from typing import Any

import orjson

LARGEST_MESSAGE = 4096
LONGEST_TTL = 28 * 24 * 3600  # four weeks

# Fields in their JSON (camelCase) and proto (snake_case) names are both taken; these are the proto names.
_FIELDS: dict[str, frozenset[str]] = {
    "": frozenset({"message", "validate_only"}),
    "message": frozenset(
        {
            "name",
            "data",
            "notification",
            "android",
            "webpush",
            "apns",
            "fcm_options",
            "token",
            "fid",
            "topic",
            "condition",
        }
    ),
    "message.notification": frozenset({"title", "body", "image"}),
    "message.android": frozenset(
        {
            "collapse_key",
            "priority",
            "ttl",
            "restricted_package_name",
            "data",
            "notification",
            "fcm_options",
            "direct_boot_ok",
            "bandwidth_constrained_ok",
            "restricted_satellite_ok",
        }
    ),
    "message.android.notification": frozenset(
        {
            "title",
            "body",
            "icon",
            "color",
            "sound",
            "tag",
            "click_action",
            "body_loc_key",
            "body_loc_args",
            "title_loc_key",
            "title_loc_args",
            "channel_id",
            "ticker",
            "sticky",
            "event_time",
            "local_only",
            "notification_priority",
            "default_sound",
            "default_vibrate_timings",
            "default_light_settings",
            "vibrate_timings",
            "visibility",
            "notification_count",
            "light_settings",
            "image",
            "bypass_proxy_notification",
            "proxy",
            "id",
        }
    ),
    "message.webpush": frozenset({"headers", "data", "notification", "fcm_options"}),
    "message.apns": frozenset({"headers", "payload", "fcm_options", "live_activity_token"}),
}
_NOTIFICATION_TEXTS = (
    "title",
    "body",
    "icon",
    "sound",
    "tag",
    "click_action",
    "channel_id",
    "ticker",
    "image",
)
_TARGETS = ("token", "fid", "topic", "condition")
_PRIORITIES = frozenset({"NORMAL", "HIGH"})
_NOTIFICATION_PRIORITIES = frozenset(
    f"PRIORITY_{each}" for each in ("UNSPECIFIED", "MIN", "LOW", "DEFAULT", "HIGH", "MAX")
)
_VISIBILITIES = frozenset({"VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"})
_DURATION = re.compile(r"(\d{1,12})(?:\.\d{1,9})?s")
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_RESERVED_KEY = re.compile(r"(?:from|message_type|gcm|collapse_key)|(?:google|gcm)\..*|google.*")

Violation = tuple[str, str]  # where, as a field path; and what


def message_size(message: dict[str, Any]) -> int:
    """Bytes of the message as compact JSON, without its target."""
    return len(orjson.dumps({key: value for key, value in message.items() if key not in _TARGETS}))


def message_problems(document: dict[str, Any]) -> list[Violation]:
    """What the API refuses in the body of `messages:send`."""
    violations: list[Violation] = []
    _known(violations, "", document)
    message = document.get("message")
    if not isinstance(message, dict):
        return [*violations, ("message", "must be an object")]
    _known(violations, "message", message)
    if sum(key in message for key in _TARGETS) != 1:
        violations.append(("message", "exactly one of token, topic or condition must be specified"))
    _data(violations, "message.data", message.get("data"))
    _texts(violations, "message.notification", message.get("notification"))
    _android(violations, message.get("android"))
    for platform in ("webpush", "apns"):
        part = message.get(platform)
        if part is not None and _known(violations, f"message.{platform}", part):
            _string_map(violations, f"message.{platform}.headers", part.get("headers"))
    return violations


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), name)


def _known(violations: list[Violation], where: str, value: Any) -> bool:
    """Require an object with no unknown field; gives whether it is an object."""
    if not isinstance(value, dict):
        violations.append((where, "must be an object"))
        return False
    for key in value:
        if _snake(key) not in _FIELDS[where]:
            place = f" at '{where}'" if where else ""
            violations.append(
                (where, f'Invalid JSON payload received. Unknown name "{key}"{place}: Cannot find field.')
            )
    return True


def _strings(violations: list[Violation], values: dict[str, Any]) -> None:
    """Require strings; the keys are their places."""
    violations.extend(
        (where, f"Invalid value at '{where}' (TYPE_STRING)")
        for where, value in values.items()
        if not isinstance(value, str)
    )


def _string_map(violations: list[Violation], where: str, value: Any) -> bool:
    """Require an object whose values are strings, or nothing; gives whether it is an object."""
    if value is None:
        return False
    if not isinstance(value, dict):
        violations.append((where, "must be an object"))
        return False
    _strings(violations, {f"{where}[{key}].value": each for key, each in value.items()})
    return True


def _data(violations: list[Violation], where: str, value: Any) -> None:
    if _string_map(violations, where, value):
        violations.extend(
            (where, f"Invalid data payload key: {key}") for key in value if _RESERVED_KEY.fullmatch(key)
        )


def _texts(violations: list[Violation], where: str, value: Any) -> None:
    if value is not None and _known(violations, where, value):
        _strings(violations, {f"{where}.{key}": each for key, each in value.items()})


def _android(violations: list[Violation], android: Any) -> None:
    where = "message.android"
    if android is None or not _known(violations, where, android):
        return
    if "ttl" in android:
        ttl = android["ttl"]
        found = _DURATION.fullmatch(ttl) if isinstance(ttl, str) else None
        if not found:
            violations.append(
                (f"{where}.ttl", "must be a duration in seconds that ends with 's', such as 3.5s")
            )
        elif int(found[1]) > LONGEST_TTL:
            violations.append((f"{where}.ttl", f"at most {LONGEST_TTL}s"))
    # proto3 JSON parsers at Google take enum names in any case; the vendor's own library sends lower case.
    if "priority" in android and str(android["priority"]).upper() not in _PRIORITIES:
        violations.append((f"{where}.priority", "must be NORMAL or HIGH"))
    _data(violations, f"{where}.data", android.get("data"))
    notification = android.get("notification")
    if notification is not None and _known(violations, f"{where}.notification", notification):
        _android_notification(violations, f"{where}.notification", notification)


def _android_notification(violations: list[Violation], where: str, value: dict[str, Any]) -> None:
    _strings(violations, {f"{where}.{key}": value[key] for key in _NOTIFICATION_TEXTS if key in value})
    if "color" in value and not _COLOR.fullmatch(str(value["color"])):
        violations.append((f"{where}.color", "must be #rrggbb"))
    if str(value.get("notification_priority", "PRIORITY_MAX")) not in _NOTIFICATION_PRIORITIES:
        violations.append((f"{where}.notification_priority", "is no NotificationPriority"))
    if str(value.get("visibility", "PUBLIC")).upper() not in _VISIBILITIES:
        violations.append((f"{where}.visibility", "is no Visibility"))

"""The alerts that benchmarks are made of, and the same message as bare clients and peers send it."""

from __future__ import annotations

from typing import Any

import orjson

MOMENT = "2026-11-03T20:26:10.344Z"


def alert(name: str, *, alert_type: str = "motion", severity: int = 2) -> dict[str, Any]:
    """An alert of ordinary size, some 300 bytes."""
    return {
        "alert_id": name,
        "alert_type": alert_type,
        "severity": severity,
        "device_id": "cam-0417",
        "site_id": "harbour-7",
        "message": "Person at the loading dock, gate 3; nobody is expected before six",
        "details": {"camera_id": "cam-0417", "smart_detection_type": "person", "zone": "dock"},
        "triggered_at": MOMENT,
    }


def webhook_body(name: str) -> bytes:
    """The body that a webhook sender makes of it."""
    return orjson.dumps(
        {
            "type": "alert.open",
            "timestamp": MOMENT,
            "data": {**alert(name), "event_type": "OPEN", "tenant_id": "bench", "job_id": 123456},
        }
    )


def apns_body(name: str) -> dict[str, Any]:
    """What a phone gets of it, as the APNs sender would say it."""
    told = alert(name)
    return {
        "aps": {
            "alert": {"title": "Motion", "body": told["message"]},
            "thread-id": "YmVuY2htYXJrLXRocmVhZC0wMDAwMDAw",
            "interruption-level": "time-sensitive",
            "sound": "default",
        },
        "alert_id": name,
        "event": "OPEN",
        "severity": told["severity"],
        "job_id": 123456,
    }


def fcm_body(name: str, token: str) -> bytes:
    """The same as an FCM request."""
    told = alert(name)
    thread = "YmVuY2htYXJrLXRocmVhZC0wMDAwMDAw"
    return orjson.dumps(
        {
            "message": {
                "token": token,
                "data": {"alert_id": name, "event": "OPEN", "severity": "2", "job_id": "123456"},
                "notification": {"title": "Motion", "body": told["message"]},
                "android": {
                    "collapse_key": thread,
                    "priority": "high",
                    "ttl": "14399s",
                    "notification": {
                        "tag": thread,
                        "notification_priority": "PRIORITY_HIGH",
                        "default_sound": True,
                    },
                },
            }
        }
    )


def webpush_plaintext(name: str) -> bytes:
    """The same as the plaintext of a Web Push."""
    told = alert(name)
    data = {"alert_id": name, "event": "OPEN", "severity": 2, "job_id": 123456}
    return orjson.dumps(
        {"title": "Motion", "body": told["message"], "tag": "YmVuY2htYXJrLXRocmVhZC0wMDAwMDAw", "data": data}
    )

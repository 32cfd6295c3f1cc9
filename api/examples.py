"""Examples of bodies and answers, shown by OpenAPI and /docs; a test sends each of them."""

from __future__ import annotations

from typing import Any

ALERT: dict[str, Any] = {
    "alert_id": "door-7-2026-03-29",
    "event_type": "OPEN",
    "alert_type": "person",
    "severity": 3,
    "device_id": "cam-front-1",
    "site_id": "berlin",
    "message": "Person at the front door",
    "details": {
        "device_tags": {"zone": "entrance"},
        "camera_id": "front-1",
        "smart_detection_type": "person",
    },
    "triggered_at": "2026-03-29T01:30:00Z",
}
CLOSED: dict[str, Any] = {"alert_id": "door-7-2026-03-29", "event_type": "CLOSED"}

WEBHOOK: dict[str, Any] = {
    "name": "ops-hook",
    "channel_type": "webhook",
    "config": {
        "url": "https://ops.example.org/in",
        "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    },
}
PHONES: dict[str, Any] = {"name": "phones", "channel_type": "push", "config": {"user_ids": ["alice"]}}

RULE: dict[str, Any] = {
    "name": "all-serious",
    "channel": "ops-hook",
    "min_severity": 2,
    "deliver_on": ["OPEN", "CLOSED"],
}

IPHONE: dict[str, Any] = {"platform": "ios", "token": "0f" * 32, "name": "Alice's phone"}

PREFERENCES: dict[str, Any] = {
    "quiet_hours_enabled": True,
    "quiet_hours_start": "22:00",
    "quiet_hours_end": "07:00",
    "quiet_hours_timezone": "Europe/Berlin",
    "quiet_hours_action": "defer",
    "cameras": {"garden": {"enabled": True, "smart_detection_types": ["person"]}},
}

NOTIFICATION: dict[str, Any] = {
    "message": "Your parcel is at the front desk",
    "severity": 1,
    "details": {"title": "Parcel"},
}

REPLAY: dict[str, Any] = {"reason": "exhausted", "since": "2026-03-29T00:00:00Z"}

ALERTMANAGER: dict[str, Any] = {
    "version": "4",
    "groupKey": '{}:{alertname="DiskFull"}',
    "truncatedAlerts": 0,
    "status": "firing",
    "receiver": "tocsin",
    "groupLabels": {"alertname": "DiskFull"},
    "commonLabels": {"alertname": "DiskFull", "severity": "critical"},
    "commonAnnotations": {},
    "externalURL": "http://alertmanager.example.org:9093",
    "alerts": [
        {
            "status": "firing",
            "labels": {
                "alertname": "DiskFull",
                "instance": "db-1:9100",
                "severity": "critical",
                "team": "storage",
            },
            "annotations": {"summary": "The disk of db-1 is 97 % full"},
            "startsAt": "2026-03-29T01:30:00.123456789Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.example.org:9090/graph",
            "fingerprint": "c4a2f0e9d17b3586",
        }
    ],
}

GRAFANA: dict[str, Any] = {
    "receiver": "tocsin",
    "status": "resolved",
    "orgId": 1,
    "alerts": [
        {
            "status": "resolved",
            "labels": {"alertname": "HighLatency", "grafana_folder": "web", "severity": "warning"},
            "annotations": {"summary": "Latency above 500 ms"},
            "startsAt": "2026-03-29T01:30:00Z",
            "endsAt": "2026-03-29T01:45:00Z",
            "generatorURL": "https://grafana.example.org/alerting/grafana/1/view",
            "fingerprint": "57c6d9296de2ad39",
            "silenceURL": "https://grafana.example.org/alerting/silence/new",
            "dashboardURL": "",
            "panelURL": "",
            "values": {"B": 0.61},
            "valueString": "[ var='B' labels={} value=0.61 ]",
        }
    ],
    "groupLabels": {},
    "commonLabels": {},
    "commonAnnotations": {},
    "externalURL": "https://grafana.example.org/",
    "version": "1",
    "groupKey": "{}",
    "truncatedAlerts": 0,
    "title": "[RESOLVED] HighLatency",
    "state": "ok",
    "message": "",
}

CLOUDEVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "7d1f",
    "source": "/sensors/cellar",
    "type": "com.example.water.detected",
    "subject": "cellar-2",
    "time": "2026-03-29T01:30:00Z",
    "alertid": "water-cellar-2",
    "severity": "critical",
    "datacontenttype": "application/json",
    "data": {"message": "Water in the cellar", "site_id": "berlin", "level_mm": 12},
}

DISPATCH_RESULT: dict[str, Any] = {
    "user_id": "alice",
    "total_devices": 1,
    "success_count": 1,
    "failure_count": 0,
    "skipped_count": 0,
    "results": [
        {
            "delivery_id": 31,
            "device_id": 12,
            "user_id": "alice",
            "platform": "ios",
            "status": "success",
            "state": "DELIVERED",
            "reason": None,
            "code": "200",
            "provider_id": "9c5b94b1-35ad-49bb-b118-8e8fc24abf80",
            "attempts": 1,
            "retry_count": 0,
            "latency_ms": 84.2,
            "next_attempt_at": None,
        }
    ],
    "results_left_out": 0,
    "duration_ms": 120.4,
    "all_succeeded": True,
}

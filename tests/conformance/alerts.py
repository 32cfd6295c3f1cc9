"""Alerts that ask everything of a message, for every judge alike."""

from __future__ import annotations

from typing import Any

LINKS = {"url": "https://example.org/alerts/4711?a=1&b=2", "image_url": "https://example.org/cam-3.jpg"}

#: By name: changes to the alert of tests/unit/senders/support.py.
ALERTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "links": {"details": {**LINKS, "title": "Smoke in the lab"}},
    "bare": dict.fromkeys(
        ("alert_type", "device_id", "site_id", "message", "details", "triggered_at", "severity")
    ),
    "large": {
        "message": '👩‍🔬 über & <b> "quoted" \\ \n' * 3000,
        "details": {f"key {n}": "é👍🏽<&>" * 100 for n in range(60)} | LINKS,
        "alert_type": "x" * 5000,
        "device_id": "ü" * 3000,
    },
    "hostile": {
        "message": "\x00\r\n\u202e<!channel> [pay](http://evil.example) \ud800 </script> {{ alert }} %s ${x}",
        "alert_type": "a\r\nb: c\x1b[31m",
        "device_id": "../../x?y=1",
        "details": {
            "": "",
            "\x00": "\x00",
            "url": "javascript:alert(1)",
            "image_url": "file:///etc/passwd",
            "deep": [[[[{"a": [None, True, 1e300, 2**70]}]]]],
            "device_tags": {"<b>": "</b>", "*": "_"},
        },
    },
}

EVENTS = ("OPEN", "ACKNOWLEDGED", "ESCALATED", "CLOSED")

"""An MQTT channel and what goes through it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from senders.mqtt_config import MqttConfig
from tests.unit.senders.support import notification


def config(number: int, **fields: Any) -> MqttConfig:
    return MqttConfig(**{"host": "127.0.0.1", "port": number, "topic": "site/berlin/alerts", **fields})


def sent(port: int, event: str = "OPEN", *, alert: dict[str, Any] | None = None, **fields: Any) -> Any:
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    return notification(config(port, **fields), event, alert=alert, expires_at=expires_at)

"""Saving an MQTT channel: what MQTT or a broker cannot take is refused with a line that says what it must be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from senders.mqtt_config import MAX_CREDENTIAL, MAX_TOPIC
from tests.unit.senders.mqtt_support import config
from tests.unit.senders.servers_support import TRUSTED


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"topic": ""}, "1 to 1024 bytes"),
        ({"topic": "é" * MAX_TOPIC}, "1 to 1024 bytes"),
        ({"topic": "a\0b"}, "control characters"),
        ({"topic": "a\nb"}, "control characters"),
        ({"topic": "a/+/b"}, "no wildcards"),
        ({"topic": "a/#"}, "no wildcards"),
        ({"topic": "$SYS/broker"}, "no wildcards"),
        ({"host": "mqtt://x"}, "must be a host name"),
        ({"host": "x:1883"}, "must "),
        ({"host": "0x7f.1"}, "must "),
        ({"port": 0}, "greater than"),
        ({"qos": 3}, "Input should be"),
        ({"username": ""}, "at least 1 character"),
        ({"username": "é" * 32_768}, "at most 65535 bytes"),
        ({"username": "a\0b"}, "without NUL"),
        ({"username": "a\ud800"}, "unicode string"),
        ({"username": "u", "password": "canary" * 11_000}, "at most 65535 bytes"),
        ({"username": "u", "password": "canary\ud800"}, "of UTF-8"),
        ({"password": "canary-1234"}, "password needs a username"),
        ({"ca": "canary", "tls": True}, "certificates as PEM"),
        ({"ca": TRUSTED}, "ca needs tls"),
        ({"retained": True}, "Extra inputs"),
    ],
)
def test_a_bad_config_is_refused_with_its_rule(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule) as caught:
        config(1883, **fields)
    assert "canary" not in str(caught.value)


def test_the_longest_credentials_that_mqtt_carries_are_taken() -> None:
    taken = config(1883, username="é" * (MAX_CREDENTIAL // 2), password="p" * MAX_CREDENTIAL)
    assert taken.username is not None
    assert taken.password is not None

"""The config of an MQTT channel: the broker, who we are to it, and the topic.

Facts: https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html 1.5.4 (strings: no NUL), 1.5.6 (binary data,
which passwords are), 4.7 (topics); in 3.1.1 likewise
"""

from __future__ import annotations

import ssl
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from senders.base import ChannelConfig
from senders.reach import check_host

MAX_TOPIC: Final = 1024
"""Bytes; MQTT takes 65,535, brokers and dashboards less."""

MAX_CREDENTIAL: Final = 65_535
"""Bytes of a user name or a password: their length has two bytes in a CONNECT."""


def _size(text: str) -> int:
    """Bytes in UTF-8; of what has none (a lone surrogate), more than MQTT takes."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return MAX_CREDENTIAL + 1


def _check_topic(topic: str) -> str:
    if not 1 <= _size(topic) <= MAX_TOPIC or not topic.isprintable():
        raise ValueError(f"must be 1 to {MAX_TOPIC} bytes without control characters")
    if "+" in topic or "#" in topic or topic.startswith("$"):
        raise ValueError("must name one topic: no wildcards (+ and #), and no $ at its beginning")
    return topic


def _check_ca(pem: str) -> str:
    try:
        ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, TypeError, ValueError):
        raise ValueError("must be certificates as PEM text") from None
    return pem


def _check_username(username: str) -> str:
    if _size(username) > MAX_CREDENTIAL or "\0" in username:
        raise ValueError(
            f"must be at most {MAX_CREDENTIAL} bytes of UTF-8 without NUL: MQTT carries no other"
        )
    return username


def _check_password(password: SecretStr) -> SecretStr:
    if _size(password.get_secret_value()) > MAX_CREDENTIAL:
        raise ValueError(f"must be at most {MAX_CREDENTIAL} bytes of UTF-8: MQTT carries no more")
    return password


class MqttConfig(ChannelConfig):
    """A topic of a broker."""

    host: Annotated[str, AfterValidator(check_host)]
    port: int | None = Field(default=None, ge=1, le=65535, description="else 1883, with tls 8883")
    tls: bool = False
    ca: Annotated[str, Field(max_length=100_000), AfterValidator(_check_ca)] | None = None
    username: Annotated[str, Field(min_length=1), AfterValidator(_check_username)] | None = None
    password: Annotated[SecretStr, AfterValidator(_check_password)] | None = None
    topic: Annotated[str, AfterValidator(_check_topic)]
    qos: Literal[0, 1, 2] = 1
    retain: bool = False

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.password is not None and self.username is None:
            raise ValueError("password needs a username")
        if self.ca is not None and not self.tls:
            raise ValueError("ca needs tls: true")
        return self

"""Channels as the delivering workers need them: read with their secrets, decrypted once for each version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model.tables import Channel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class ChannelRef:
    """A channel and its decrypted config."""

    channel_id: int
    channel_type: str
    is_enabled: bool
    health: str
    updated_at: datetime
    config: dict[str, Any] = field(repr=False)


_configs: dict[tuple[int, datetime], dict[str, Any]] = {}


def channels_of(channel_ids: Iterable[int]) -> dict[int, ChannelRef]:
    """Channels by id; one that was deleted is missing."""
    ids = sorted(set(channel_ids))
    if not ids:
        return {}
    rows = list(
        Channel.select(Channel.id, Channel.channel_type, Channel.is_enabled, Channel.health, Channel.updated_at)
        .where(Channel.id.in_(ids))
        .tuples()
    )
    unknown = [row[0] for row in rows if (row[0], row[4]) not in _configs]
    if unknown:
        if len(_configs) > 10_000:  # noqa: PLR2004  # a bound on memory, not on use
            _configs.clear()
        for channel in Channel.select(Channel.id, Channel.updated_at, Channel.config).where(Channel.id.in_(unknown)):
            _configs[channel.id, channel.updated_at] = channel.config
    return {row[0]: ChannelRef(*row, _configs[row[0], row[4]]) for row in rows if (row[0], row[4]) in _configs}


def forget() -> None:
    """Drop what was decrypted: another database was opened."""
    _configs.clear()

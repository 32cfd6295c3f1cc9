"""Channels as the delivering workers need them: with their secrets, decrypted once for each version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model.database import Unreadable, tuples
from model.tables import Channel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class ChannelRef:
    """A channel and its decrypted config, or `Unreadable`."""

    channel_id: int
    tenant_id: str
    channel_type: str
    is_enabled: bool
    health: str
    updated_at: datetime
    config: dict[str, Any] = field(repr=False)


#: By ciphertext: what is saved anew reads otherwise, as Fernet draws an initialisation vector for each.
_configs: dict[str, dict[str, Any]] = {}

#: A bound on memory, not on use.
KEPT = 10_000


def channels_of(channel_ids: Iterable[int]) -> dict[int, ChannelRef]:
    """Channels by id, from one query; one that was deleted is missing."""
    query = Channel.select(
        Channel.id,
        Channel.tenant,
        Channel.channel_type,
        Channel.is_enabled,
        Channel.health,
        Channel.updated_at,
        Channel.config.cast("TEXT"),
    ).where(Channel.id.in_(sorted(set(channel_ids))))
    return {row[0]: ChannelRef(*(*row[:6], _config(row[6]))) for row in tuples(query)}


def _config(ciphertext: str) -> dict[str, Any]:
    found = _configs.get(ciphertext)
    if found is None:
        if len(_configs) >= KEPT:
            _configs.clear()
        found = Channel.config.python_value(ciphertext)
        if not isinstance(found, Unreadable):  # the key may come yet
            _configs[ciphertext] = found
    return found


def forget() -> None:
    """Drop what was decrypted: another database was opened."""
    _configs.clear()

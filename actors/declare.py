"""Every metric from the start, at zero where nothing was counted yet.

What appears only with its first event is no rate until the second, and an alert rule on it misses the first failure.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from actors.decide import OUTCOMES
from config import get_settings
from config.metrics import metrics
from model.states import ENDINGS, OF_DEVICES, STAGES, JobState, Platform
from senders.registry import CHANNEL_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from config.metrics import Metrics

#: What can become of an alert that is handed in.
RESULTS = ("accepted", "duplicate", "rejected")


def declare() -> Metrics:
    """The metrics of this process, with all labels whose values are known beforehand. It may be called again.

    A latency is one of the channel types that were delivered to: as a histogram it has twenty values for each.
    """
    ours = metrics()
    statuses = [state for state in JobState if state.is_final]
    known: tuple[tuple[Any, Iterable[tuple[str, ...]]], ...] = (
        (ours.alerts, product(RESULTS)),
        (ours.swept, product(STAGES)),
        (ours.attempts, product(CHANNEL_TYPES, OUTCOMES)),
        (ours.deliveries, _endings()),
        (ours.push, () if get_settings().metrics_user_label else product(statuses)),
        (ours.push_attempts, product(Platform, OUTCOMES)),
        (ours.push_devices, product(Platform, ENDINGS)),
    )
    for metric, values in known:
        for labels in values:
            metric.labels(*labels)
    return ours


def _endings() -> Iterator[tuple[str, str, str]]:
    for channel_type, (state, reasons) in product(CHANNEL_TYPES, ENDINGS.items()):
        for reason in reasons or ("",):
            if channel_type == "push" or reason not in OF_DEVICES:
                yield channel_type, state, reason

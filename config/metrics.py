"""The metrics (docs/operations.md). No label carries a user, token, alert or URL unless a setting asks for it.

prometheus_client decides when it is first imported whether its values live in this process or in files that
all worker processes share (PROMETHEUS_MULTIPROC_DIR). Hence the import inside: worker processes set the
variable at their boot.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

from config.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import Metric

#: Seconds. From a push within a data centre to a delivery that waited out several retries.
LATENCY_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600)


class Metrics:
    """One attribute a metric; each is observed where the fact becomes true, which is after its commit.

    Args:
        user_label: give tocsin_push_dispatch_total a user_id label, for small installations.
    """

    def __init__(self, *, user_label: bool = False) -> None:
        from prometheus_client import Counter, Gauge, Histogram  # noqa: PLC0415  # see above

        def counter(name: str, text: str, labels: Sequence[str]) -> Counter:
            return Counter(name, text, labels)

        def seconds(name: str, text: str, labels: Sequence[str] = ()) -> Histogram:
            return Histogram(name, text, labels, buckets=LATENCY_BUCKETS)

        self.alerts = counter("tocsin_alerts_total", "Alerts handed in.", ["result"])
        self.deliveries = counter(
            "tocsin_deliveries_total", "Deliveries that ended.", ["channel_type", "state", "reason"]
        )
        self.attempts = counter(
            "tocsin_delivery_attempts_total", "Attempts at deliveries.", ["channel_type", "outcome"]
        )
        self.latency = seconds(
            "tocsin_delivery_latency_seconds", "From accepted to delivered.", ["channel_type"]
        )
        self.push = counter(
            "tocsin_push_dispatch_total",
            "Push jobs that ended.",
            ["status", "user_id"] if user_label else ["status"],
        )
        # A gauge that only grows: a counter of prometheus_client's could not have this name, without _total.
        self.push_devices = Gauge(
            "tocsin_push_dispatch_devices",
            "Push deliveries that ended.",
            ["platform", "status"],
            multiprocess_mode="sum",
        )
        self.push_attempts = counter(
            "tocsin_push_attempts_total",
            "Attempts at push deliveries, by whose push service they were.",
            ["platform", "outcome"],
        )
        self.push_duration = seconds(
            "tocsin_push_dispatch_duration_seconds", "From a push job's acceptance to its last device."
        )
        self.leases_recovered = counter(
            "tocsin_leases_recovered_total", "Claims taken over from a worker that was lost.", []
        )
        self.duplicates_avoided = counter(
            "tocsin_duplicates_avoided_total",
            "Deliveries left to the worker that was making them already.",
            [],
        )
        self.swept = counter("tocsin_swept_total", "Rows that the sweep sent on.", ["stage"])

    def collect(self) -> Iterator[Metric]:
        """What this process has counted."""
        for each in vars(self).values():
            yield from each.collect()


_making = threading.Lock()


@functools.cache
def _made() -> Metrics:
    return Metrics(user_label=get_settings().metrics_user_label)


def metrics() -> Metrics:
    """The metrics of this process."""
    # functools.cache may call twice when two threads come at once, and a second registration is refused: of a
    # worker's first two messages one would be lost until the sweep.
    with _making:
        return _made()

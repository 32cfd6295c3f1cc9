"""Dramatiq's own metrics of a worker in a process that shows them itself (`serve`), beside ours.

In processes of Dramatiq's command `actors.exposition` has them, by files that all of those share.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dramatiq.middleware.prometheus import Prometheus

if TYPE_CHECKING:
    from dramatiq import Broker, Worker

#: By which prometheus_client knows where processes share files.
SHARED = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


class WorkerMetrics(Prometheus):
    """Counts where everything else of this process is counted."""

    def add_to(self, broker: Broker) -> None:
        """Count from now on, unless somebody does. Call it before the worker starts."""
        if any(isinstance(each, WorkerMetrics) for each in broker.middleware):
            return
        # Chooses memory or files, at its import, by what the environment says before Dramatiq changes it.
        from prometheus_client import REGISTRY  # noqa: PLC0415  # `--help` need not wait for it
        from prometheus_client.metrics import MetricWrapperBase  # noqa: PLC0415

        before = {name: os.environ.pop(name, None) for name in SHARED}
        # Makes the metrics in a registry that nobody reads, and points the environment at Dramatiq's folder, where
        # the processes of its command count, and ours did not.
        self.after_process_boot(broker)  # type: ignore[no-untyped-call]  # Dramatiq's
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        for each in list(vars(self).values()):
            if isinstance(each, MetricWrapperBase):
                REGISTRY.register(each)
        broker.middleware.insert(0, self)

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Leave Dramatiq's folder alone: nothing of this process is in it."""

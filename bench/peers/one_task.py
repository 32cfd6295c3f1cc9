"""One Dramatiq task for each notification, no database: `dramatiq bench.peers.one_task`, and the same as a producer.

RabbitMQ with confirms; a client of each thread keeps its connection; Dramatiq's own retries.
https://dramatiq.io/guide.html. BENCH_BROKER_URL and BENCH_URL say where; `python -m bench.peers.one_task N` enqueues.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import dramatiq
import httpx
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from bench import talk
from bench.load import alert

broker = RabbitmqBroker(url=os.environ["BENCH_BROKER_URL"], confirm_delivery=True)
dramatiq.set_broker(broker)
_local = threading.local()


@dramatiq.actor(max_retries=8)
def notify(payload: dict[str, Any]) -> None:
    """Send one."""
    if not hasattr(_local, "client"):
        _local.client = httpx.Client(timeout=15, trust_env=False)
    _local.client.post(os.environ["BENCH_URL"], json=payload).raise_for_status()


def main() -> None:
    """Enqueue as many as the argument says."""
    alerts = [alert(f"t-{number}") for number in range(int(sys.argv[1]))]
    notify.broker.declare_queue(notify.queue_name)
    talk.ready()
    began = time.time()
    for each in alerts:
        notify.send(each)
    talk.done(began=began, ended=time.time())
    broker.close()


if __name__ == "__main__":
    main()

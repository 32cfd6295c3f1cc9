"""A process that can no longer do its work notices; a delivery that another worker makes is left to it."""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import TYPE_CHECKING

import dramatiq
import pytest
from dramatiq import Worker

import actors
from actors.memory import MemoryBroker
from actors.runtime import Runtime, RuntimeMiddleware
from config import load_settings
from config.metrics import metrics
from model.database import connection, utcnow
from model.tables import Delivery
from model.tallies import tallies
from senders.transport import forgetful
from tests.servers.programs import wait_until
from tests.support.database import make_deliveries, make_job, make_tenant, open_test_database

if TYPE_CHECKING:
    import threading
    from pathlib import Path


def test_each_thread_that_ends_is_missed(tmp_path: Path) -> None:
    # Given a worker with two threads, two consumers (a queue and its delays), and an event loop
    runtime = Runtime(load_settings(database_url=f"sqlite:///{tmp_path}/test.db"))
    watch = RuntimeMiddleware(runtime, boot=lambda: None, sweep=lambda: None)
    broker = MemoryBroker([])

    @dramatiq.actor(broker=broker, queue_name="step")
    def step() -> None:
        """Is never run."""

    worker = Worker(broker, worker_threads=2, worker_timeout=20)
    worker.start()
    runtime.start()
    try:
        assert watch.dead_threads(worker) == []

        # When one of each ends, then it is missed
        ended: list[threading.Thread] = [worker.workers[0], worker.consumers["step.DQ"]]
        worker.workers[0].stop()
        worker.consumers["step.DQ"].stop()
        for thread in ended:
            thread.join(10)
        assert watch.dead_threads(worker) == [thread.name for thread in ended]
        runtime.stop()
        wait_until(lambda: not runtime.is_alive, 5, "the loop's end")
        assert watch.dead_threads(worker)[-1] == "tocsin-loop"
    finally:
        worker.stop()
        runtime.stop()


def test_a_delivery_that_another_worker_makes_is_left_to_it_and_counted(tmp_path: Path) -> None:
    with open_test_database(f"sqlite:///{tmp_path}/test.db"), connection():
        make_tenant()
        held, ended = make_deliveries(make_job(), 2)
        lease = utcnow() + timedelta(seconds=30)
        Delivery.update(state="SENDING", attempts=1, lease_until=lease).where(Delivery.id == held).execute()
        Delivery.update(state="DELIVERED", attempts=1).where(Delivery.id == ended).execute()
        before = metrics().duplicates_avoided._value.get()

        actors.deliver.fn([held, ended])

        assert metrics().duplicates_avoided._value.get() - before == 1
        assert tallies("acme") == {"leases_recovered": 0, "duplicates_avoided": 1}
        row = Delivery.get_by_id(held)
        assert (row.state, row.attempts, row.lease_until) == ("SENDING", 1, lease)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux alone has the option")
def test_bytes_of_a_send_that_timed_out_do_not_arrive_later() -> None:
    inet = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1))

    with forgetful(lambda info: socket.socket(*info[:3]), 3.0)(inet) as opened:
        milliseconds = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)

    assert milliseconds == 2700

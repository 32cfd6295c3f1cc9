"""What a worker process asks of the system, and without what it does not begin."""

from __future__ import annotations

import re
import resource
import threading
from typing import TYPE_CHECKING

import dramatiq
import pytest
from dramatiq import Worker
from dramatiq.brokers.stub import StubBroker

from actors.roads import BULK, URGENT
from actors.runtime import FILES, Runtime, RuntimeMiddleware, allow_connections
from config import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_process_may_open_more_files_than_the_systems_usual_thousand() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    allow_connections()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == (FILES if hard == resource.RLIM_INFINITY else min(FILES, hard))


def test_a_limit_that_is_higher_stays() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard <= FILES:
        pytest.skip("this machine allows no more")
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES + 1, hard))
    allow_connections()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == FILES + 1


def test_the_lanes_of_a_worker_make_way_when_it_has_taken_something_urgent() -> None:
    # Given a worker
    broker = StubBroker(middleware=[])
    done = threading.Semaphore(0)

    @dramatiq.actor(broker=broker, priority=BULK)
    def bulk() -> None:
        done.release()

    @dramatiq.actor(broker=broker, priority=URGENT)
    def urgent() -> None:
        done.release()

    runtime = Runtime(load_settings())
    broker.add_middleware(RuntimeMiddleware(runtime, boot=lambda: None, sweep=lambda: None))
    worker = Worker(broker)
    worker.start()
    try:
        assert not runtime.lanes.makes_way()
        # When one of its threads takes a message
        for step, makes_way in ((bulk, False), (urgent, True)):
            step.send()
            assert done.acquire(timeout=10)
            assert runtime.lanes.makes_way() is makes_way
    finally:
        worker.stop()


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        ("nope:x", "ModuleNotFoundError: No module named 'nope'"),
        ("os.path:nope", "AttributeError: module 'posixpath' has no attribute 'nope'"),
        ("os:sep", "must be package.module:function"),
    ],
)
def test_a_worker_does_not_begin_without_the_hook_that_it_was_told_of(hook: str, why: str) -> None:
    broker = StubBroker(middleware=[])
    runtime = Runtime(load_settings(device_invalid_hook=hook))
    broker.add_middleware(RuntimeMiddleware(runtime, boot=lambda: None, sweep=lambda: None))

    with pytest.raises(SystemExit, match=re.escape(why)) as refused:
        Worker(broker).start()

    assert str(refused.value).startswith("tocsin: TOCSIN_DEVICE_INVALID_HOOK: ")
    assert not runtime.is_alive

"""(j) An alert a call: from one thread, from many callers of the API at the same time, and by the queue."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import orjson

from bench.peers import alertmanager
from bench.processes import cpu_by_role, difference
from bench.results import Rate, Scenario
from bench.scenarios.storm import warm
from bench.stack import TENANT, Installation
from tests.servers.programs import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.processes import Program
    from bench.sizes import Sizes
    from bench.stack import Stack

#: Callers of an API at the same time.
CALLERS = 32


def single(stack: Stack, sizes: Sizes) -> Scenario:
    """Measure each way in with an alert a call, and Alertmanager's."""
    rates = [
        _from_one_thread(stack, sizes.slow_peer),
        _by_http(stack, sizes.single),
        _by_queue(stack, sizes.single),
    ]
    missing = []
    try:
        rates.append(_alertmanager(stack, sizes.single))
    except alertmanager.AlertmanagerMissingError as error:
        missing.append(f"Without Alertmanager, which is not installed here: {error}.")
    return Scenario(
        key="j",
        title="An alert a call, one webhook each",
        rates=rates,
        notes=[
            "Time runs from the first call to the last webhook, on the cores that all of it shares.",
            f"{CALLERS} callers each wait for their answer, which Tocsin gives when an alert is committed.",
            "To the queue one thread publishes, with confirms; the Python call is one thread of one producer's.",
            *missing,
        ],
    )


def _from_one_thread(stack: Stack, count: int) -> Rate:
    with _working(stack) as tocsin:
        producer = tocsin.producer("--alerts", str(count), "--call", "1")
        return tocsin.measure(
            "Tocsin, Python calls of one thread (durable)", count, stack.nginx.count, producer
        )


def _by_http(stack: Stack, count: int) -> Rate:
    with _working(stack) as tocsin, _serving(tocsin) as (url, key):
        arguments = (
            "bench.callers",
            "tocsin",
            "--url",
            url,
            "--count",
            str(count),
            "--callers",
            str(CALLERS),
        )
        producer = stack.program(
            "producer", *arguments, environment=tocsin.environment | {"CALLERS_KEY": key}
        )
        producer.hear()
        return tocsin.measure(
            f"Tocsin, HTTP, {CALLERS} callers (durable)", count, stack.nginx.count, producer
        )


def _by_queue(stack: Stack, count: int) -> Rate:
    with _working(stack) as tocsin:
        arguments = (
            "bench.callers",
            "queue",
            "--url",
            tocsin.broker_url,
            "--count",
            str(count),
            "--tenant",
            TENANT,
        )
        producer = stack.program("producer", *arguments)
        producer.hear()
        return tocsin.measure("Tocsin, the queue (durable)", count, stack.nginx.count, producer)


def _alertmanager(stack: Stack, count: int) -> Rate:
    with alertmanager.serving(stack) as url:
        arguments = (
            "bench.callers",
            "alertmanager",
            "--url",
            url,
            "--count",
            str(count),
            "--callers",
            str(CALLERS),
        )
        with stack.program("producer", *arguments) as producer:
            producer.hear()
            before = cpu_by_role()
            producer.say("go")
            wait_until(lambda: stack.nginx.count() >= count, 300, "Alertmanager's webhooks")
            ended, began = time.time(), producer.hear()["began"]
            cpu = difference(cpu_by_role(), before)
    return Rate(
        what=f"Alertmanager, HTTP, {CALLERS} callers (in memory)", kind="peer", count=count,
        seconds=ended - began, cpu=cpu,
    )  # fmt: skip


@contextmanager
def _working(stack: Stack) -> Iterator[Installation]:
    """Tocsin with one webhook, its workers warm."""
    with Installation(stack) as tocsin:
        tocsin.hook("hook", stack.nginx.url)
        tocsin.start_workers()
        warm(tocsin, stack, 500)
        stack.nginx.restart_count()
        yield tocsin


@contextmanager
def _serving(tocsin: Installation) -> Iterator[tuple[str, str]]:
    """Its API: where alerts are posted to, and a key."""
    command = [sys.executable, "-m", "cli", "key", "create", "--tenant", TENANT, "--role", "ingest", "--json"]
    made = subprocess.run(command, env=tocsin.environment, capture_output=True, check=True)  # our own
    port = free_port()
    program: Program = tocsin.stack.program(
        "API", "cli", "serve", "--port", str(port), "--rate", "1000000", "--burst", "1000000",
        environment=tocsin.environment | {"TOCSIN_METRICS_PORT": str(free_port())}, talks=False,
    )  # fmt: skip

    def is_ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
        except httpx.TransportError:
            return False

    with program:
        wait_until(is_ready, 30, "the API", describe=program.tail)
        yield f"http://127.0.0.1:{port}/v1/alerts", orjson.loads(made.stdout)["key"]

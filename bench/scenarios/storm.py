"""(b) A storm of alerts, one webhook each, beside what bounds it and what others do."""

from __future__ import annotations

import contextlib
import time
from statistics import median
from typing import TYPE_CHECKING

import psycopg2

from bench.peers import alertmanager
from bench.processes import cpu_by_role, difference
from bench.results import Check, Rate, Scenario, Series, middle, ratios, spread, told
from bench.stack import Installation
from tests.servers.programs import wait_until

if TYPE_CHECKING:
    from bench.results import Spread
    from bench.sizes import Sizes
    from bench.stack import Stack

#: Alerts of one call, for Tocsin and Alertmanager alike.
CALL = 100

#: Apprise's threads: its requests mostly wait.
THREADS = 32

#: The least part of Alertmanager's rate, and the least multiple of the polling worker's.
LEAST, MULTIPLE = 0.7, 10.0


def storm(stack: Stack, sizes: Sizes) -> Scenario:
    """Measure all of them against one receiver."""
    rates = [_bare(stack, kind, sizes.alerts) for kind in ("aiohttp", "httpx")]
    rates.append(_commits(stack, sizes.alerts))
    design, storms, in_memory, polling = [], [], [], []
    missing = []
    for _ in range(sizes.rounds):
        design.append(_prototype(stack, sizes.alerts))
        storms.append(_tocsin(stack, sizes.alerts))
        try:
            in_memory.append(alertmanager.measure(stack, sizes.alerts, CALL))
        except alertmanager.AlertmanagerMissingError as error:
            missing = [f"Without Alertmanager, which is not installed here: {error}."]
        polling.append(_polling(stack, sizes.slow_peer))
    ours = [rate for rate, _, _ in storms]
    rates += [middle(found) for found in (design, ours, in_memory, polling) if found]
    _, latency, arrivals = next(each for each in storms if each[0] is middle(ours))
    rates.append(_one_task(stack, sizes.alerts))
    rates.append(_apprise(stack, sizes.slow_peer, 1))
    rates.append(_apprise(stack, sizes.slow_peer, THREADS))
    claims = [
        ("rate, as a part of Alertmanager's in memory", in_memory, LEAST),
        ("rate, as a multiple of the polling worker's", polling, MULTIPLE),
    ]
    compared = [
        f"{told(ratios(ours, found))} of {whose}"
        for whose, found in (("the design's", design), ("Alertmanager's", in_memory), ("polling's", polling))
        if found
    ]
    return Scenario(
        key="b",
        title=f"A storm of {sizes.alerts:,} alerts, one webhook each",
        rates=rates,
        spreads=[latency],
        checks=[
            Check(claim=text, value=median(ratios(ours, found)), limit=limit, at_most=False)
            for text, found, limit in claims
            if found
        ],
        series=[arrivals],
        notes=[
            f"Tocsin and Alertmanager get {CALL} alerts a call from one producer; the receiver is one nginx process.",
            "Everything in this table shares the machine's cores with the receiver, the producer and the servers.",
            "The design, Tocsin, Alertmanager and the polling worker take turns: median rates, median ratios.",
            f"Tocsin's rates were {'; '.join(compared)}.",
            "The polling worker and Apprise send as many: more would only take longer.",
            "The database's ceiling is four inserts and four commits for a hundred notifications, in eight threads.",
            "The design, bare, makes the same commits, messages and requests, and no more (`bench/prototype.py`).",
            *missing,
        ],
    )


def _tocsin(stack: Stack, count: int) -> tuple[Rate, Spread, Series]:
    with Installation(stack) as tocsin:
        tocsin.hook("hook", stack.nginx.url)
        tocsin.start_workers()
        warm(tocsin, stack, min(count, 1000))
        stack.nginx.restart_count()
        book = stack.directory / "storm.json"
        producer = tocsin.producer("--alerts", str(count), "--call", str(CALL), "--book", str(book))
        rate = tocsin.measure("Tocsin (durable)", count, stack.nginx.count, producer)
        arrived = stack.nginx.arrivals(count)
        accepted = tocsin.ask(
            "SELECT extract(epoch FROM min(accepted_at)) FROM alerts WHERE starts_with(alert_id, 'a-')"
        )
    if len({name for _, name in arrived}) != count:
        raise RuntimeError(f"{count - len({name for _, name in arrived})} webhooks arrived twice")
    began = float(accepted)
    moments = sorted(moment - began for moment, _ in arrived)
    points = [(round(moments[n], 3), float(n + 1)) for n in range(0, count, max(1, count // 200))]
    series = Series(what="Tocsin", x="seconds", y="webhooks received", points=points)
    return rate, spread("Since the storm began, received", [1000 * each for each in moments]), series


def warm(tocsin: Installation, stack: Stack, count: int) -> None:
    """Have connections made, statements planned and code warm."""
    stack.nginx.restart_count()
    producer = tocsin.producer("--alerts", str(count), "--prefix", "warm")
    tocsin.measure("warm-up", count, stack.nginx.count, producer)


def _bare(stack: Stack, kind: str, count: int) -> Rate:
    processes = stack.workers.processes
    commands = [
        [
            *("bench.clients", kind, "--url", stack.nginx.url, "--count", str(count // processes)),
            *("--first", str(index * count)),
        ]
        for index in range(processes)
    ]
    return stack.clients(f"bare {kind}", "ceiling", commands, count // processes * processes)


def _commits(stack: Stack, count: int) -> Rate:
    with Installation(stack) as tocsin:
        processes = stack.workers.processes
        threads = str(stack.workers.threads)
        command = ["bench.commits", "--notifications", str(count // processes), "--threads", threads]
        each = count // processes // CALL * CALL
        return stack.clients(
            "PostgreSQL, rows of the record", "ceiling", [command] * processes, each * processes,
            environment=tocsin.environment,
        )  # fmt: skip


def _prototype(stack: Stack, count: int) -> Rate:
    database, broker = stack.postgres.create_database(), stack.rabbitmq.create_vhost()
    environment = {"BENCH_DATABASE": database, "BENCH_BROKER_URL": broker, "BENCH_URL": stack.nginx.url}
    environment["PATH"] = "/usr/bin:/bin"
    produce = ("bench.prototype", "produce", "--count", str(count))
    work = ("bench.prototype", "work", "--threads", str(stack.workers.threads))
    with contextlib.ExitStack() as programs:
        programs.callback(stack.postgres.drop_database, database)
        programs.callback(stack.rabbitmq.drop_vhost, broker)
        producer = programs.enter_context(stack.program("producer", *produce, environment=environment))
        producer.hear()
        for _ in range(stack.workers.processes):
            programs.enter_context(stack.program("workers", *work, environment=environment)).hear()
        asking = programs.enter_context(contextlib.closing(psycopg2.connect(database)))
        asking.autocommit = True
        cursor = asking.cursor()

        def unfinished() -> int:
            cursor.execute("SELECT count(*) FROM jobs WHERE state <> 'COMPLETED'")
            return int(cursor.fetchone()[0])

        stack.nginx.restart_count()
        before = cpu_by_role()
        producer.say("go")
        wait_until(lambda: stack.nginx.count() >= count, 300, "the prototype", describe=producer.tail)
        ended, began = time.time(), producer.hear()["began"]
        wait_until(lambda: not unfinished(), 30, "the prototype's record", describe=producer.tail)
        cpu = difference(cpu_by_role(), before)
    return Rate(
        what="The design, bare (durable)", kind="ceiling", count=count, seconds=ended - began, cpu=cpu
    )


def _polling(stack: Stack, count: int) -> Rate:
    database = stack.postgres.create_database()
    try:
        command = [
            *("bench.peers.polling", "--database", database, "--url", stack.nginx.url),
            *("--count", str(count)),
        ]
        return stack.clients("Polling worker (durable)", "peer", [command], count)
    finally:
        stack.postgres.drop_database(database)


def _apprise(stack: Stack, count: int, threads: int) -> Rate:
    command = [
        *("bench.peers.apprise_calls", "--url", stack.nginx.url, "--count", str(count)),
        *("--threads", str(threads)),
    ]
    what = "Apprise in a loop (no record)" if threads == 1 else f"Apprise in {threads} threads (no record)"
    return stack.clients(what, "peer", [command], count)


def _one_task(stack: Stack, count: int) -> Rate:
    url = stack.rabbitmq.create_vhost()
    environment = {"BENCH_BROKER_URL": url, "BENCH_URL": stack.nginx.url}
    environment |= {"PATH": "/usr/bin:/bin", "dramatiq_prom_db": str(stack.directory / "one-task")}
    processes, threads = str(stack.workers.processes), str(stack.workers.threads)
    producer = stack.program("producer", "bench.peers.one_task", str(count), environment=environment)
    try:
        producer.hear()
        command = ["dramatiq", "bench.peers.one_task", "--processes", processes, "--threads", threads]
        stack.nginx.restart_count()
        with stack.program("workers", *command, environment=environment, talks=False) as workers:
            # They are up when they have taken a first message off the queue.
            wait_until(lambda: "is ready for action" in workers.tail(), 30, "workers", describe=workers.tail)
            before = cpu_by_role()
            producer.say("go")
            wait_until(lambda: stack.nginx.count() >= count, 600, "the tasks", describe=workers.tail)
            ended = time.time()
            began = producer.hear()["began"]
            cpu = difference(cpu_by_role(), before)
    finally:
        producer.stop()
        stack.rabbitmq.drop_vhost(url)
    return Rate(
        what="A Dramatiq task each (no record)", kind="peer", count=count, seconds=ended - began, cpu=cpu
    )

"""The faults: how each is made, and how it heals."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults import blocked_loop
from tests.faults.cycle import Fault
from tests.faults.stack import DEADLINE, LEASE
from tests.servers.programs import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.cycle import Cycle
    from tests.faults.stack import Stack


def slow(seconds: float) -> Callable[[Stack], None]:
    """A far side that answers late, so that sends are in flight at every moment."""
    return lambda stack: stack.far.order("always", answer={"delay": seconds})


def answering(**answer: Any) -> Callable[[Cycle], None]:
    """The far side answers all webhooks so, until it heals."""
    return lambda cycle: cycle.stack.far.order("always", answer=answer)


def then_hold(strike: Callable[[Cycle], None]) -> Callable[[Cycle], None]:
    """Strike, and let it last."""

    def both(cycle: Cycle) -> None:
        strike(cycle)
        cycle.hold()

    return both


def normal(cycle: Cycle) -> None:
    """The far side is itself again. The refusals ordered for pairs go as well."""
    cycle.stack.far.order("normal")


def kill_worker(cycle: Cycle) -> None:
    """One worker process; its master notices, and ends."""
    os.kill(cycle.stack.workers[0].workers()[-1], signal.SIGKILL)


def kill_master(cycle: Cycle) -> None:
    """The master alone. Its workers live on as orphans until the supervisor ends them."""
    cycle.stack.workers[0].tell(signal.SIGKILL)


def kill_all(cycle: Cycle) -> None:
    """Everything that works, at once."""
    for group in cycle.stack.workers:
        group.tell_all(signal.SIGKILL)


def stop_group(cycle: Cycle) -> None:
    """A deployment: SIGTERM to the master; the supervisor starts the next."""
    _stop(cycle, again=False)


def stop_group_twice(cycle: Cycle) -> None:
    """An impatient one: a second SIGTERM half a second later."""
    _stop(cycle, again=True)


def _stop(cycle: Cycle, *, again: bool) -> None:
    group = cycle.stack.workers[0]
    before, pid, began = group.restarts, group.pid, time.monotonic()
    group.tell(signal.SIGTERM)
    if again:
        time.sleep(0.5)
        group.tell(signal.SIGTERM)
    # Every send has a deadline, and nothing else may hold up the end.
    limit = DEADLINE + 5
    wait_until(
        lambda: group.restarts > before, limit, "the end of a stopped group", describe=cycle.stack.logs
    )
    cycle.extra[f"stop {pid}"] = time.monotonic() - began


def stop_the_world(cycle: Cycle) -> None:
    """SIGSTOP of one worker process for longer than its lease; then it goes on as if nothing had happened."""
    worker = cycle.stack.workers[0].workers()[-1]
    os.kill(worker, signal.SIGSTOP)
    try:
        time.sleep(LEASE + 2)
    finally:
        os.kill(worker, signal.SIGCONT)


#: The file in the stack's directory that says for how long a loop is blocked.
BLOCK = "block"


def with_loop_to_block(directory: Path) -> dict[int, dict[str, str]]:
    """The first group's workers can be told to block their event loops."""
    hook = "tests.faults.blocked_loop:device_invalid"
    return {0: {"TOCSIN_DEVICE_INVALID_HOOK": hook, blocked_loop.FILE: str(directory / BLOCK)}}


def block_loop(cycle: Cycle) -> None:
    """The event loop of one worker stands still for longer than a lease, and its threads go on claiming."""
    file = cycle.stack.directory / BLOCK
    file.write_text(str(LEASE + 2))
    worker = cycle.stack.workers[0].workers()[-1]
    os.kill(worker, signal.SIGUSR2)

    def noted(word: str) -> bool:
        log = blocked_loop.journal(file)
        return log.exists() and f"{worker} {word}" in log.read_text().splitlines()

    wait_until(lambda: noted("begins"), 5, "the loop to be blocked", describe=cycle.stack.logs)
    wait_until(lambda: noted("ends"), LEASE + 5, "the end of it", describe=cycle.stack.logs)
    blocked_loop.journal(file).unlink()


def close_connections(cycle: Cycle) -> None:
    """All of the broker's connections, in the middle of work."""
    cycle.stack.rabbitmq.rabbitmqctl("close_all_connections", "--vhost", cycle.stack.vhost, "fault")


def close_connections_often(cycle: Cycle) -> None:
    """So that work of an old consumer ends while a new one holds messages of the same numbers (row 2)."""
    for _ in range(3):
        close_connections(cycle)


def broker_restart(cycle: Cycle) -> None:
    """In good order."""
    cycle.stack.rabbitmq.restart()


def broker_killed(cycle: Cycle) -> None:
    """SIGKILL, and started again."""
    cycle.stack.rabbitmq.kill()
    cycle.stack.rabbitmq.start()


def broker_wiped(cycle: Cycle) -> None:
    """SIGKILL, all data removed, started empty."""
    cycle.stack.rabbitmq.wipe()
    cycle.stack.rabbitmq.start()


def broker_away(cycle: Cycle) -> None:
    """Killed, and away for a while."""
    cycle.stack.rabbitmq.kill()
    cycle.hold()
    cycle.stack.rabbitmq.start()


def memory_alarm(cycle: Cycle) -> None:
    """The broker takes no message any more, and says nothing, while retries want to be sent."""
    cycle.stack.far.order("always", answer={"status": 503})
    time.sleep(1)
    cycle.stack.rabbitmq.rabbitmqctl("set_vm_memory_high_watermark", "0.00001")
    cycle.hold()


def memory_alarm_over(cycle: Cycle) -> None:
    """Memory again, and the far side answers."""
    cycle.stack.far.order("normal")
    cycle.stack.rabbitmq.rabbitmqctl("set_vm_memory_high_watermark", "0.4")


def postgres_away(cycle: Cycle) -> None:
    """Stopped, and away for a while."""
    cycle.stack.postgres.stop("immediate")
    cycle.hold()
    cycle.stack.postgres.start()


def boot_without_database(cycle: Cycle) -> None:
    """All workers die while PostgreSQL is away, and their successors find it missing."""
    cycle.stack.postgres.stop("immediate")
    kill_all(cycle)
    cycle.hold()
    cycle.stack.postgres.start()


def boot_without_broker(cycle: Cycle) -> None:
    """The same with RabbitMQ."""
    cycle.stack.rabbitmq.kill()
    kill_all(cycle)
    cycle.hold()
    cycle.stack.rabbitmq.start()


def consumers_time_out(stack: Stack) -> None:
    """The broker takes back what a worker holds for three seconds, instead of half an hour (row 7)."""
    _consumer_timeout(stack, milliseconds=3000, tick=1000)


def consumers_have_time(cycle: Cycle) -> None:
    """As by default, and the far side answers."""
    normal(cycle)
    _consumer_timeout(cycle.stack, milliseconds=1_800_000, tick=60_000)


def _consumer_timeout(stack: Stack, *, milliseconds: int, tick: int) -> None:
    for name, value in (("consumer_timeout", milliseconds), ("channel_tick_interval", tick)):
        stack.rabbitmq.rabbitmqctl("eval", f"application:set_env(rabbit, {name}, {value}).")
    # Channels read it when they open.
    stack.rabbitmq.rabbitmqctl("close_all_connections", "--vhost", stack.vhost, "new limits")


def receiver_down(cycle: Cycle) -> None:
    """Nobody listens."""
    cycle.stack.far.kill()
    cycle.hold()
    cycle.stack.far.start()


def cut(peer: str) -> Callable[[Cycle], None]:
    """Nothing gets through between the workers and a peer, and nobody is told."""

    def strike(cycle: Cycle) -> None:
        cycle.stack.network.cut(peer)
        try:
            cycle.hold()
        finally:
            cycle.stack.network.mend(peer)

    return strike


#: The file in the stack's directory that says by how many seconds the clock of the first group is off.
CLOCK = "clock"


def with_own_clock(directory: Path) -> dict[int, dict[str, str]]:
    """The first group's wall clock is off by what a file says."""
    (directory / CLOCK).write_text("0")
    return {0: stepped_clock(directory, directory / CLOCK)}


def can_step_clocks() -> bool:
    """Whether this machine can: it takes Linux's loader and a C compiler."""
    return sys.platform == "linux" and shutil.which("cc") is not None


def stepped_clock(directory: Path, offset: Path) -> dict[str, str]:
    """The environment of a process whose wall clock is off by the seconds in a file.

    Args:
        directory: where the library is built.
    """
    library = directory / "stepped_clock.so"
    source = Path(__file__).with_name("stepped_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "FAULT_CLOCK": str(offset)}


def step(offset: str) -> Callable[[Cycle], None]:
    """Set the first group's wall clock off, let it be wrong for a while, and set it right."""

    def strike(cycle: Cycle) -> None:
        clock = cycle.stack.directory / CLOCK
        clock.write_text(offset)
        cycle.hold()
        clock.write_text("0")

    return strike


def nothing(_cycle: Cycle) -> None:
    """The fault is in the settings, or in the producer."""


FAULTS: tuple[Fault, ...] = (
    Fault(
        "worker-killed", "SIGKILL of a worker process in mid-send", kill_worker, before=slow(0.3), lease=True
    ),
    Fault(
        "master-killed", "SIGKILL of a group's master in mid-send", kill_master, before=slow(0.3), lease=True
    ),
    Fault(
        "all-killed", "SIGKILL of all workers at once, in mid-send", kill_all, before=slow(0.3), lease=True
    ),
    Fault("stopped", "SIGTERM in mid-send (a deployment)", stop_group, before=slow(0.3)),
    Fault("stopped-twice", "SIGTERM twice in mid-send", stop_group_twice, before=slow(0.3)),
    Fault("zombie", "SIGSTOP of a worker for longer than its lease", stop_the_world, before=slow(0.3)),
    Fault(
        "loop-blocked",
        "the event loop of a worker blocked for longer than its lease",
        block_loop,
        before=slow(0.3),
        group_environment=with_loop_to_block,
    ),
    Fault(
        "wrong-ack",
        "connections closed thrice while workers hold messages",
        close_connections_often,
        before=slow(0.7),
    ),
    Fault("connections-closed", "all broker connections closed", close_connections),
    Fault("broker-restart", "RabbitMQ restarted", broker_restart),
    Fault("broker-killed", "RabbitMQ killed and started again", broker_killed),
    Fault("broker-away", "RabbitMQ away for a while", broker_away),
    Fault("broker-wiped", "RabbitMQ's data wiped under load", broker_wiped),
    Fault("memory-alarm", "RabbitMQ's memory alarm during retries", memory_alarm, memory_alarm_over),
    Fault(
        "postgres-crash",
        "PostgreSQL stopped in `immediate` mode and started again",
        lambda cycle: cycle.stack.postgres.restart("immediate"),
        lease=True,
    ),
    Fault("postgres-away", "PostgreSQL away for a while", postgres_away, lease=True, hold=30.0),
    Fault(
        "boot-without-database",
        "all workers killed while PostgreSQL is away, and started without it",
        boot_without_database,
        lease=True,
    ),
    Fault(
        "boot-without-broker",
        "all workers killed while RabbitMQ is away, and started without it",
        boot_without_broker,
        lease=True,
    ),
    Fault(
        "consumer-timeout",
        "RabbitMQ takes delayed messages back that workers hold (`consumer_timeout`)",
        then_hold(answering(status=503)),
        consumers_have_time,
        before=consumers_time_out,
        settings={"TOCSIN_RETRY_MIN_BACKOFF": "6", "TOCSIN_RETRY_MAX_BACKOFF": "8"},
    ),
    # The push service that comes back has other keys, and the workers have read the old ones: webhooks alone
    Fault("receiver-down", "nobody listens at the receiver", receiver_down, pushes=False),
    Fault(
        "receiver-slow",
        "the receiver answers after the deadline",
        then_hold(answering(delay=DEADLINE + 1)),
        normal,
    ),
    Fault("receiver-resets", "the receiver resets connections", then_hold(answering(reset=True)), normal),
    Fault(
        "receiver-503",
        "the receiver answers 503",
        then_hold(answering(status=503)),
        normal,
        hold=120.0,
        settings={"TOCSIN_MAX_RETRIES": "100"},  # at one and a half seconds each
    ),
    Fault(
        "receiver-429",
        "the receiver answers 429 with Retry-After: 2",
        then_hold(answering(status=429, headers={"Retry-After": "2"})),
        normal,
    ),
    Fault("cut-broker", "the network between workers and broker cut", cut("broker"), cuttable=True),
    Fault(
        "cut-database",
        "the network between workers and database cut",
        cut("database"),
        cuttable=True,
        lease=True,
    ),
    Fault("cut-receiver", "the network between workers and receiver cut", cut("receiver"), cuttable=True),
    # Push services refuse, and rightly, what a machine signs whose clock is an hour ahead: webhooks alone
    Fault(
        "clock-ahead",
        "the wall clock of half the workers stepped an hour ahead and back",
        step("3600"),
        before=slow(0.3),
        possible=can_step_clocks,
        pushes=False,
        group_environment=with_own_clock,
    ),
    Fault(
        "clock-behind",
        "the wall clock of half the workers stepped an hour back and ahead",
        step("-3600"),
        before=slow(0.3),
        possible=can_step_clocks,
        pushes=False,
        group_environment=with_own_clock,
    ),
    Fault(
        "producer-killed",
        "a producer killed between commit and enqueue",
        nothing,
        producer=("--die-at", "6"),
    ),
)

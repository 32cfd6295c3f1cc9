"""The most telling faults, one small cycle each; `make faults` runs all of them, at length."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import pytest

from tests.faults import cycle, embedded
from tests.faults.cycle import Size
from tests.faults.embedded import EMBEDDED_FAULTS, Embedded
from tests.faults.faults import FAULTS
from tests.faults.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from tests.servers import PostgresServer, RabbitServer

T = TypeVar("T")

SIZE = Size(alerts=150, pairs=16, seconds=2, hold=4)

#: Work is back so many seconds after the healing: 15 in the promise, and as many again for a busy machine.
PATIENCE = 30

SHORT = ("worker-killed", "stopped", "wrong-ack", "broker-wiped", "postgres-crash", "producer-killed")

pytestmark = pytest.mark.timeout(300)


class Server(Protocol):
    """What a stack stands on."""

    def is_running(self) -> bool: ...  # a server's own

    def start(self) -> None: ...  # as above


@dataclass
class Stacks(Generic[T]):
    """One stack for all cycles: each leaves it whole. After one that does not, the next gets another."""

    make: Callable[[], AbstractContextManager[T]]
    servers: Sequence[Server]
    _open: ExitStack | None = None
    _stack: T | None = None

    @contextmanager
    def lent(self) -> Iterator[T]:
        """The stack, for one cycle."""
        if self._open is None or self._stack is None:
            self._open = ExitStack()
            self._stack = self._open.enter_context(self.make())
        try:
            yield self._stack
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the stack, on servers that run: a cycle may have left them dead."""
        for server in self.servers:
            if not server.is_running():
                server.start()
        opened, self._open, self._stack = self._open, None, None
        if opened is not None:
            opened.close()


@pytest.fixture(scope="module")
def stacks(
    postgres: PostgresServer, rabbitmq: RabbitServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stacks[Stack]]:
    kept = Stacks(lambda: Stack(postgres, rabbitmq, tmp_path_factory.mktemp("stack")), (postgres, rabbitmq))
    yield kept
    kept.close()


@pytest.mark.parametrize("name", SHORT)
def test_nothing_accepted_is_lost(name: str, stacks: Stacks[Stack]) -> None:
    fault = next(each for each in FAULTS if each.name == name)
    with stacks.lent() as stack:
        account = cycle.run(stack, fault, SIZE, 0)
        assert account.faults() == []
    assert account.accepted >= 3 * SIZE.alerts
    assert account.samples > 0
    assert (account.recovery_seconds or 0) < PATIENCE


class Broker:
    """A server that may be dead."""

    lives = True

    def is_running(self) -> bool:
        return self.lives

    def start(self) -> None:
        self.lives = True


def test_a_cycle_that_fails_leaves_a_whole_stack_to_the_next() -> None:
    broker, made, ended = Broker(), count(1), []

    @contextmanager
    def make() -> Iterator[int]:
        assert broker.lives
        number = next(made)
        yield number
        assert broker.lives, "it could not be taken down"
        ended.append(number)

    stacks = Stacks(make, (broker,))
    # Given a stack that serves cycle after cycle
    for _ in range(2):
        with stacks.lent() as stack:
            assert stack == 1

    # When one ends in mid-fault
    def die() -> None:
        with stacks.lent():
            broker.lives = False
            raise TimeoutError("in mid-fault")

    with pytest.raises(TimeoutError, match="mid-fault"):
        die()

    # Then the next has another, and the old one is gone
    assert ended == [1]
    with stacks.lent() as stack:
        assert stack == 2
    stacks.close()
    assert ended == [1, 2]


def test_the_embedded_mode_resumes_at_its_next_start(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Embedded(tmp_path_factory.mktemp("embedded")) as stack:
        account = embedded.run(stack, EMBEDDED_FAULTS[0], SIZE, 0)
    assert account.faults() == []
    assert account.restarts == 3

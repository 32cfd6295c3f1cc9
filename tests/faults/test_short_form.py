"""The most telling faults, one small cycle each; `make faults` runs all of them, at length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import cycle, embedded
from tests.faults.cycle import Size
from tests.faults.embedded import EMBEDDED_FAULTS, Embedded
from tests.faults.faults import FAULTS
from tests.faults.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import PostgresServer, RabbitServer

SIZE = Size(alerts=225, pairs=20, seconds=3, hold=4)

#: Work is back so many seconds after the healing: 15 in the promise, and as many again for a busy machine.
PATIENCE = 30

SHORT = ("worker-killed", "stopped", "wrong-ack", "broker-wiped", "postgres-crash", "producer-killed")

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def stack(
    postgres: PostgresServer, rabbitmq: RabbitServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """One stack for all: each cycle leaves it whole."""
    with Stack(postgres, rabbitmq, tmp_path_factory.mktemp("stack")) as started:
        yield started


@pytest.mark.parametrize("name", SHORT)
def test_nothing_accepted_is_lost(name: str, stack: Stack) -> None:
    fault = next(each for each in FAULTS if each.name == name)
    account = cycle.run(stack, fault, SIZE, 0)
    assert account.faults() == []
    assert account.accepted >= 3 * SIZE.alerts
    assert account.samples > 0
    assert (account.recovery_seconds or 0) < PATIENCE


def test_the_embedded_mode_resumes_at_its_next_start(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Embedded(tmp_path_factory.mktemp("embedded")) as stack:
        account = embedded.run(stack, EMBEDDED_FAULTS[0], SIZE, 0)
    assert account.faults() == []
    assert account.restarts == 3

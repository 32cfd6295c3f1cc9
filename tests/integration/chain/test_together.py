"""Alerts that are handed in one by one go together where workers fall behind, and suffer apart."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import actors
from model.database import connection
from model.tables import Alert

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.chain.conftest import Chain


class Gate:
    """Stands before `match_rules`, and lets nobody through until it is opened.

    Attributes:
        sizes: of each message that came to it, how many alerts it spoke of.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.opened = threading.Event()
        self.refused: set[int] = set()
        step = actors.match_rules.fn

        def fn(ids: list[int]) -> None:
            self.sizes.append(len(ids))
            self.opened.wait(10)
            if self.refused & set(ids):
                raise LookupError("nobody can match this")
            step(ids)

        monkeypatch.setattr(actors.match_rules, "fn", fn)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.opened.set()


def _hand_in(chain: Chain, gate: Gate, number: int) -> list[int]:
    """Alerts in a message each, all but three of which wait for a thread in the end (the worker has four)."""
    worker = chain.worker
    assert worker is not None
    ids: list[int] = []
    for each in range(number):
        ids.extend(chain.send({"alert_id": each}).ids)
        # One by one: what comes before a thread has woken up is taken along.
        chain.until(lambda: len(gate.sizes) >= min(len(ids), 3))
    chain.until(lambda: worker.work_queue.qsize() == number - 3)
    return ids


def test_what_waits_is_taken_along(chain: Chain, gate: Gate) -> None:
    # Given a worker that is busy, and alerts that came meanwhile
    chain.rule(chain.channel("hook"))
    _hand_in(chain, gate, 8)
    # When it has time
    gate.opened.set()
    # Then it takes all of them at once, and none of them twice
    lines = chain.settled()
    assert gate.sizes == [1, 1, 1, 5]
    assert sorted(line[0] for line in lines) == sorted(str(number) for number in range(8))
    assert {line[3:] for line in lines} == {("DELIVERED", None, 1)}


def test_who_is_to_blame_suffers_alone(chain: Chain, gate: Gate) -> None:
    # Given several alerts that are taken together, one of which nobody can match
    chain.rule(chain.channel("hook"))
    ids = _hand_in(chain, gate, 8)
    gate.refused = {ids[5]}
    # When that is tried
    gate.opened.set()
    # Then each of them comes again by itself
    chain.until(lambda: len(chain.far.webhook.received) == 7)
    assert gate.sizes == [1, 1, 1, 5, *[1] * 5]
    # And the one to blame says so, and lies among the dead letters
    with connection():
        chain.until(lambda: Alert.get_by_id(ids[5]).error is not None)
        unmatched = [row.id for row in Alert.select().where(Alert.matched_at.is_null())]
    assert unmatched == [ids[5]]
    waiting: Any = actors.broker  # Dramatiq's interface of all brokers lacks what the embedded one has
    (dead,) = waiting.dead_letters_by_queue["tocsin.match"]
    assert dead.args == ([ids[5]],)

"""What follows a step in its own thread, and what has a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from peewee import OperationalError

import actors
from model import ledger
from receivers import Answer

if TYPE_CHECKING:
    from tests.integration.chain.conftest import Chain


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that were sent messages, in order."""
    seen: list[str] = []
    enqueue = actors.broker.enqueue

    def spy(message: Any, *, delay: int | None = None) -> Any:
        if delay is None:  # a delayed one comes by again when its time has come
            seen.append(message.actor_name)
        return enqueue(message, delay=delay)

    monkeypatch.setattr(actors.broker, "enqueue", spy)
    return seen


def test_one_destination_needs_no_message(chain: Chain, messages: list[str]) -> None:
    chain.rule(chain.channel("hook"))
    chain.send(*({"alert_id": number} for number in range(5)))

    assert {line[3:] for line in chain.settled()} == {("DELIVERED", None, 1)}
    assert messages == ["match_rules"]


def test_further_destinations_have_a_message_each(chain: Chain, messages: list[str]) -> None:
    for name in ("one", "two", "three"):
        chain.rule(chain.channel(name))
    chain.send({"alert_id": 1}, {"alert_id": 2})

    assert {line[3:] for line in chain.settled()} == {("DELIVERED", None, 1)}
    assert messages == ["match_rules", "deliver", "deliver"]


def test_a_user_with_one_phone_needs_no_message_either(chain: Chain, messages: list[str]) -> None:
    chain.rule(chain.channel("phones", "push", all_users=True))
    chain.device("alice")
    chain.send({"alert_id": 1})
    chain.settled()
    assert messages == ["match_rules"]
    # But each further push service does
    chain.device("alice", "android")
    chain.device("bob", "web")
    chain.send({"alert_id": 2})

    assert {line[3:] for line in chain.settled()} == {("DELIVERED", None, 1)}
    assert messages == ["match_rules", "match_rules", "deliver", "deliver"]


def test_several_fan_outs_have_a_message_unless_they_are_critical(chain: Chain, messages: list[str]) -> None:
    chain.rule(chain.channel("phones", "push", all_users=True))
    chain.device("alice")
    chain.send({"alert_id": "smoke", "severity": 4}, {"alert_id": "fire", "severity": 4})
    chain.settled()
    assert messages == ["match_critical"]
    messages.clear()
    chain.send({"alert_id": 1}, {"alert_id": 2})

    assert {line[3:] for line in chain.settled()} == {("DELIVERED", None, 1)}
    assert messages == ["match_rules", "fanout_devices"]


def test_an_event_that_ends_another_of_its_batch_does_not_wait_for_it(
    chain: Chain, messages: list[str]
) -> None:
    chain.rule(chain.channel("hook"), deliver_on=["OPEN", "CLOSED"])
    chain.send({"alert_id": 1}, {"alert_id": 1, "event_type": "CLOSED"}, {"alert_id": 2})

    assert [line[1:] for line in chain.settled()] == [
        ("OPEN", "hook", "SUPERSEDED", "later_event", 0),
        ("CLOSED", "hook", "DELIVERED", None, 1),
        ("OPEN", "hook", "DELIVERED", None, 1),
    ]
    assert messages == ["match_rules", "deliver"]


def test_what_is_to_be_tried_again_has_a_message(chain: Chain, messages: list[str]) -> None:
    chain.rule(chain.channel("hook"))
    chain.far.webhook.script("hook", [Answer(503), Answer(503), Answer()])
    chain.send({"alert_id": 1})

    assert chain.settled() == [("1", "OPEN", "hook", "DELIVERED", None, 3)]
    assert messages == ["match_rules", "deliver", "deliver"]


@pytest.mark.parametrize(
    "chain",
    [
        {"send_deadline": 0.5, "time_limit": 1, "lease": 1.5, "sweep_grace_idle": 0.1, "max_retries": retries}
        for retries in (3, 0)
    ],
    indirect=True,
)
def test_what_fails_after_the_claim_is_left_to_its_lease(
    chain: Chain, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a database that goes away between the claim and the reading of what was claimed
    chain.rule(chain.channel("hook"))
    load = ledger.load

    def away(*_: Any, **__: Any) -> Any:
        monkeypatch.setattr(ledger, "load", load)
        raise OperationalError("the database is away")

    monkeypatch.setattr(ledger, "load", away)
    # When an alert comes
    chain.send({"alert_id": 1})
    # Then it is matched once, and delivered when its lease has ended
    assert chain.settled() == [("1", "OPEN", "hook", "DELIVERED", None, 2)]
    assert messages[0] == "match_rules"
    assert set(messages[1:]) == {"deliver_later"}


def test_a_fan_out_that_fails_has_a_message(
    chain: Chain, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.rule(chain.channel("phones", "push", all_users=True))
    chain.device("alice")
    step = actors.fanout_devices.fn

    def away(_: list[int]) -> None:
        monkeypatch.setattr(actors.fanout_devices, "fn", step)
        raise OperationalError("the database is away")

    monkeypatch.setattr(actors.fanout_devices, "fn", away)
    chain.send({"alert_id": 1})

    assert {line[3:] for line in chain.settled()} == {("DELIVERED", None, 1)}
    assert messages == ["match_rules", "fanout_devices"]

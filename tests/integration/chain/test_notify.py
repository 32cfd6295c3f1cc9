"""Users notified without a rule: a repeat is the same job, whatever became of what it went by."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import actors
from actors import intake
from admin.prune import prune
from model import bulk
from model.database import connection
from model.problems import InvalidInput
from model.tables import Alert, Channel, Delivery, Job
from tests.support.database import NOW

if TYPE_CHECKING:
    from tests.integration.chain.conftest import Chain

NOTE = {"message": "Your parcel is here", "severity": 1}


def _notify() -> int:
    return actors.dispatch_to_user("alice", NOTE, tenant_id="acme", notification_id="n-1")


def test_a_repeat_is_the_same_job_also_after_its_channel_was_deleted(chain: Chain) -> None:
    # Given a notification that arrived, and whose channel was deleted since
    chain.device("alice")
    job_id = _notify()
    chain.settled()
    with connection():
        Channel.delete().execute()
    # When it comes again, and again after another has made the channel anew
    again = _notify()
    actors.dispatch_to_user("bob", NOTE, tenant_id="acme", notification_id="n-1")
    # Then it is the first one's job, and nothing was sent twice
    assert again == _notify() == job_id
    chain.settled()
    assert len(chain.far.apns.received) == 1


def test_a_repeat_is_a_new_one_where_the_first_is_being_pruned(chain: Chain) -> None:
    # Given a notification of long ago, whose job was pruned, and whose alert is still to be
    chain.device("alice")
    job_id = _notify()
    chain.settled()
    with connection():
        Delivery.delete().execute()
        Job.delete().execute()
    # When it comes again
    again = _notify()
    # Then it is sent, once however often
    assert again > job_id
    assert _notify() == again
    assert [line[3] for line in chain.settled()] == ["DELIVERED"]
    assert len(chain.far.apns.received) == 2
    with connection():
        assert [row.id for row in Alert.select()] == [job.sequence for job in chain.jobs()]


@pytest.mark.parametrize("name", ["user_id", "tenant_id", "notification_id"])
def test_half_of_a_character_is_refused_by_name(name: str) -> None:
    given = {"user_id": "alice", name: "a\ud800"}
    with pytest.raises(InvalidInput, match=f"^{name}: must be valid Unicode"):
        actors.dispatch_to_user(notification=NOTE, **given)
    if name == "tenant_id":
        with pytest.raises(InvalidInput, match=f"^{name}: must be valid Unicode"):
            actors.dispatch_alerts({"alert_id": 1}, tenant_id=given[name])


def test_prune_takes_away_no_alert_that_has_just_been_notified_of_anew(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a notification of long ago, whose job was pruned, and whose alert is still to be
    _notify()
    chain.settled()
    with connection():
        Job.delete().execute()
        Alert.update(accepted_at=NOW - timedelta(days=365)).execute()
    channel, pruning = intake._direct_channel, list[threading.Thread]()

    def meanwhile(tenant_id: str) -> Channel:
        if not pruning:
            pruning.append(threading.Thread(target=prune, kwargs={"days": 30}))
            pruning[0].start()
            pruning[0].join(0.2)
        return channel(tenant_id)

    monkeypatch.setattr(intake, "_direct_channel", meanwhile)
    # When it comes again while prune gets to that alert
    again = _notify()
    pruning[0].join()
    # Then the alert stays with the job, and it is known
    assert _notify() == again
    with connection():
        assert [row.id for row in Alert.select()] == [job.sequence for job in chain.jobs()]


def test_an_alert_that_is_pruned_as_it_is_looked_at_is_new(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a notification whose job was pruned, and whose alert is, just after it was found to be there
    job_id = _notify()
    chain.settled()
    with connection():
        Job.delete().execute()
    insert = bulk.insert

    def meanwhile(model: Any, *args: Any, **options: Any) -> Any:
        found = insert(model, *args, **options)
        if model is Alert and not found:
            Alert.delete().execute()
        return found

    monkeypatch.setattr(bulk, "insert", meanwhile)
    # When it comes again, then it is sent
    assert _notify() > job_id

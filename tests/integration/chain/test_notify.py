"""Users notified without a rule: a repeat is the same job, whatever became of what it went by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import actors
from model.database import connection
from model.problems import InvalidInput
from model.tables import Alert, Channel, Delivery, Job

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

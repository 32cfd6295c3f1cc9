"""From alerts to what came of them: every state that a delivery can end in, by a real cause."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import actors
from actors.broker import runtime
from model.database import connection, utcnow
from model.problems import InvalidInput
from model.results import dispatch_result
from model.tables import Alert, Channel, Delivery, Job
from receivers import Answer
from senders.apprise import AppriseSender
from senders.outcomes import Transient
from tests.support.database import lose_key, make_deliveries, make_job

if TYPE_CHECKING:
    from senders.outcomes import Receipt
    from tests.integration.chain.conftest import Chain

OPEN = {"alert_id": 1, "severity": 3, "message": "Smoke"}


def test_one_alert_reaches_every_channel_that_a_rule_names_once(chain: Chain) -> None:
    # Given two rules that reach one channel, one that reaches another, and one that does not match
    first, second = chain.channel("first"), chain.channel("second")
    for fields in ({"channel": first}, {"channel": first, "min_severity": 1}, {"channel": second}):
        chain.rule(**fields)
    chain.rule(chain.channel("third"), min_severity=4)

    # When an alert comes, and comes again
    accepted = chain.send(OPEN)
    again = chain.send(OPEN, OPEN)

    # Then each channel got it once, signed and valid
    assert (accepted.accepted, accepted.duplicates, again.accepted, again.duplicates) == (1, 0, 0, 2)
    assert chain.settled() == [
        ("1", "OPEN", "first", "DELIVERED", None, 1),
        ("1", "OPEN", "second", "DELIVERED", None, 1),
    ]
    assert sorted((each.target, each.valid) for each in chain.far.webhook.received) == [
        ("first", True),
        ("second", True),
    ]


def test_the_webhooks_body_is_the_alert_as_accepted(chain: Chain) -> None:
    chain.rule(chain.channel("hook"))
    alert = {
        "alert_id": 7, "severity": 5, "device_id": "cam-1", "triggered_at": "2026-03-29T01:30:00+02:00",
        "details": {"device_tags": {"a": 1}, "x": [None, 1.5, "ü"]},
    }  # fmt: skip
    chain.send(alert)
    chain.settled()
    (received,) = chain.far.webhook.received
    (job,) = chain.jobs()
    assert received.content["type"] == "alert.open"
    assert received.content["data"] == {**alert, "event_type": "OPEN", "tenant_id": "acme", "job_id": job.id}


def test_a_transient_failure_is_tried_again_until_it_works(chain: Chain) -> None:
    chain.rule(chain.channel("flaky"))
    chain.far.webhook.script(
        "flaky", [Answer(503), Answer(reset=True), Answer(429, headers={"Retry-After": "0"})]
    )
    chain.send(OPEN)
    assert chain.settled() == [("1", "OPEN", "flaky", "DELIVERED", None, 4)]
    # The same id at every attempt, so that the far side can drop a repeat.
    assert len({each.id for each in chain.far.webhook.received}) == 1
    assert [entry.outcome for entry in chain.log()] == ["transient"] * 3 + ["ok"]
    (job,) = chain.jobs()
    with connection():
        (result,) = dispatch_result(job)["results"]
    assert (result["attempts"], result["retry_count"], result["status"]) == (4, 3, "success")


def test_retries_end(chain: Chain) -> None:
    chain.rule(chain.channel("down"))
    never = chain.channel(
        "never", url=chain.far.webhook.url("never"), secret=chain.far.webhook.secret, max_retries=0
    )
    chain.rule(never)
    chain.far.webhook.always("*", Answer(503))
    chain.send(OPEN)
    assert chain.settled() == [
        ("1", "OPEN", "down", "FAILED", "exhausted", 4),
        ("1", "OPEN", "never", "FAILED", "exhausted", 1),
    ]
    with connection():
        assert {row.health for row in Channel.select()} == {"failing"}


@pytest.mark.parametrize(("config", "sent"), [({}, 2), ({"max_retries": 2}, 3), ({"max_retries": None}, 4)])
def test_a_channel_type_may_have_retries_of_its_own(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], sent: int
) -> None:
    # Given Apprise, which is tried again once unless its channel says otherwise, and a service that refuses
    async def refuse(*_: Any) -> Receipt:
        raise Transient("failed", "Apprise says no more")

    monkeypatch.setattr(AppriseSender, "send", refuse)
    url = "tgram://123456789:the-bots-token/-1001234567890"
    chain.rule(chain.channel("telegram", "apprise", url=url, **config))
    # When an alert comes, then it is sent as often as that
    chain.send(OPEN)
    assert chain.settled() == [("1", "OPEN", "telegram", "FAILED", "exhausted", sent)]
    assert len(chain.log()) == sent


def test_retry_after_is_honoured(chain: Chain) -> None:
    chain.rule(chain.channel("busy"))
    chain.far.webhook.script("busy", [Answer(429, headers={"Retry-After": "2"})])
    chain.send(OPEN)
    assert chain.settled() == [("1", "OPEN", "busy", "DELIVERED", None, 2)]
    first, second = chain.far.webhook.received
    assert second.monotonic - first.monotonic >= 2


@pytest.mark.parametrize(
    ("answer", "state", "reason", "health"),
    [
        (Answer(400), "FAILED", "rejected", "failing"),
        (Answer(302, headers={"Location": "http://127.0.0.1/"}), "FAILED", "misconfigured", "misconfigured"),
        (Answer(410), "FAILED", "misconfigured", "misconfigured"),
    ],
)
def test_a_permanent_failure_is_tried_once(
    chain: Chain, answer: Answer, state: str, reason: str, health: str
) -> None:
    chain.rule(chain.channel("hook"))
    chain.far.webhook.always("hook", answer)
    chain.send(OPEN)
    assert chain.settled() == [("1", "OPEN", "hook", state, reason, 1)]
    with connection():
        assert Channel.get().health == health


def test_a_channels_health_is_its_last_error(chain: Chain) -> None:
    chain.rule(chain.channel("hook"))
    seen = []
    # Given answers of which two say the same
    for number, status in enumerate((404, 413, 413, 401, 200)):
        chain.far.webhook.script("hook", [Answer(status)])
        chain.send({"alert_id": number})
        chain.settled()
        with connection():
            channel = Channel.get()
        seen.append((channel.health, (channel.health_detail or "")[:3], channel.health_at))
    # Then each is told that says something new, and since when
    assert [each[:2] for each in seen] == [
        ("failing", "404"), ("failing", "413"), ("failing", "413"), ("failing", "401"), ("ok", ""),
    ]  # fmt: skip
    assert seen[1] == seen[2]
    assert len({each[2] for each in seen}) == len(seen) - 1


def test_a_provider_that_is_not_configured_fails_its_own_deliveries_only(chain: Chain) -> None:
    runtime.settings = chain.settings.model_copy(update={"fcm_credentials_file": None})
    chain.rule(chain.channel("phones", "push", all_users=True))
    for platform in ("ios", "android", "web"):
        chain.device("alice", platform)
    chain.stop()
    chain.start()
    chain.send(OPEN)
    assert [line[3:5] for line in chain.settled()] == [
        ("DELIVERED", None),
        ("FAILED", "provider_not_configured"),
        ("DELIVERED", None),
    ]


def test_an_expired_delivery_is_not_sent(chain: Chain) -> None:
    chain.rule(chain.channel("slow"))
    chain.far.webhook.always("slow", Answer(503))
    runtime.settings = chain.settings.model_copy(update={"expiry_error": 0.2, "max_retries": 50})
    chain.send(OPEN)
    (line,) = chain.settled()
    assert line[3:5] == ("EXPIRED", "too_late")
    assert chain.jobs()[0].state == "EXPIRED"


def test_a_disabled_channel_and_a_deleted_one(chain: Chain) -> None:
    # Given two channels whose retries wait
    off, gone = chain.channel("off"), chain.channel("gone")
    chain.rule(off)
    chain.rule(gone)
    chain.far.webhook.always("*", Answer(503, headers={"Retry-After": "1"}))
    chain.send(OPEN)
    chain.until(lambda: [line[3] for line in chain.lines()] == ["RETRYING", "RETRYING"])

    # When one is switched off and one deleted meanwhile
    with connection():
        Channel.update(is_enabled=False).where(Channel.id == off.id).execute()
        Channel.delete().where(Channel.id == gone.id).execute()

    # Then neither is tried again, and the record says why
    assert [line[3:] for line in chain.settled()] == [
        ("SUPPRESSED", "channel_disabled", 1),
        ("FAILED", "channel_deleted", 1),
    ]


@pytest.mark.parametrize(
    ("alert", "words"),
    [
        ({"severity": 3}, "alert_id: required"),
        ({"alert_id": 1, "severity": "high"}, "severity: "),
        ({"alert_id": 1, "severty": 3}, "severty: no such field; did you mean severity?"),
        ({"alert_id": 1, "details": {"a": "\0"}}, "details.a: "),
    ],
)
def test_bad_alerts_are_refused_whole(chain: Chain, alert: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        chain.send({"alert_id": 99}, alert)
    assert f"[1].{words}" in str(refused.value)
    with connection():
        assert not Alert.select().exists()


def test_an_unknown_tenant_is_refused(chain: Chain) -> None:
    with pytest.raises(InvalidInput, match="tenant: there is no tenant 'other'"):
        actors.dispatch_alerts([OPEN], tenant_id="other")
    assert not chain.jobs()


def test_a_channel_whose_key_is_lost_hurts_no_other(chain: Chain) -> None:
    # Given three channels, of which no key decrypts two
    hook, lost, phones = (
        chain.channel("hook"),
        chain.channel("lost", "push", all_users=True),
        chain.channel("phones", "push", all_users=True),
    )
    for channel in (hook, lost, phones):
        chain.rule(channel)
    device = chain.device("alice")
    with connection():
        config = Channel.get_by_id(hook.id).config
        lose_key(hook.id)
        lose_key(lost.id)

    # When an alert comes for all of them
    chain.send(OPEN)
    chain.until(lambda: {line[3] for line in chain.lines()} == {"RETRYING", "DELIVERED"})

    # Then who can be sent to is, and the other waits, which is no attempt; whom the third names nobody knows yet
    assert sorted(line[2:] for line in chain.lines()) == [
        ("hook", "RETRYING", "unreadable", 0),
        ("phones", "DELIVERED", None, 1),
    ]
    assert {job.channel_name: job.state for job in chain.jobs()}["lost"] == "PENDING"

    # When one message speaks of deliveries for both push channels
    late = utcnow() + timedelta(hours=1)
    with connection():
        ids = [
            make_deliveries(
                make_job(sequence=9, alert_id="9", channel_id=channel.id, channel_name=channel.name,
                         channel_type="push", expires_at=late),
                channel_id=channel.id, device_id=device.id, user_id="alice", sender="apns", expires_at=late,
            )[0]
            for channel in (lost, phones)
        ]  # fmt: skip
    actors.deliver.send(ids)
    # Then each is seen to
    chain.until(lambda: [line[3] in {"RETRYING", "DELIVERED"} for line in chain.lines()] == [True] * 4)
    assert [line[2:] for line in chain.lines()[2:]] == [
        ("lost", "RETRYING", "unreadable", 0),
        ("phones", "DELIVERED", None, 1),
    ]

    # When the channels are saved anew, and the time has come
    with connection():
        Channel.update(config={"all_users": True}).where(Channel.id == lost.id).execute()
        Channel.update(config=config).where(Channel.id == hook.id).execute()
        Job.update(sweep_at=utcnow()).where(Job.state == "PENDING").execute()
        waiting = [row.id for row in Delivery.select().where(Delivery.state == "RETRYING")]
        Delivery.update(next_attempt_at=utcnow()).where(Delivery.id.in_(waiting)).execute()
    actors.deliver.send(waiting)
    # Then what waited is delivered
    assert {line[3:] for line in chain.settled()} == {("DELIVERED", None, 1)}
    assert len(chain.lines()) == 5

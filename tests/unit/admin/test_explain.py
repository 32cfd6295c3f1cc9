"""Explain's answer: every rule with its reason, every target with its verdict, nothing written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from admin import explain as explain_module
from admin.apply import apply
from admin.explain import explain
from config import load_settings
from model.tables import Alert, Channel, Delivery, Job, RoutingRule
from tests.support.database import KEY, NOW, lose_key, make_job

PUSH = {"name": "phones", "channel_type": "push", "config": {"user_ids": ["alice", "nobody"]}}
HOOK = {"name": "hook", "channel_type": "webhook", "config": {"url": "https://ops.example.org/"}}
OFF = HOOK | {"name": "off", "is_enabled": False}
QUIET = {"quiet_hours_enabled": True, "quiet_hours_start": "11:00", "quiet_hours_end": "13:00"}
TOKEN = "0f" * 32


def ask(alert: dict[str, Any], **options: Any) -> dict[str, Any]:
    settings = load_settings(secret_keys=KEY)
    return explain({"alert_id": 1, **alert}, tenant_id="acme", settings=settings, at=NOW, **options)


def configure(rules: list[dict[str, Any]], **preferences: Any) -> None:
    users = [
        {"user_id": "alice", "devices": [{"platform": "ios", "token": TOKEN}], "preferences": preferences}
    ]
    apply({"tenant": "acme", "channels": [PUSH, HOOK, OFF], "rules": rules, "users": users})


@pytest.mark.usefixtures("db")
def test_each_rule_has_its_first_reason_in_the_order_in_which_rules_are_asked() -> None:
    configure([
        {"name": "last", "channel": "hook", "priority": 900},
        {"name": "disabled", "channel": "hook", "is_enabled": False},
        {"name": "to-off", "channel": "off"},
        {"name": "severe", "channel": "hook", "min_severity": 3},
        {"name": "closed", "channel": "hook", "deliver_on": ["CLOSED"]},
        {"name": "first", "channel": "hook", "priority": 1},
    ])  # fmt: skip
    answer = ask({"severity": 2})
    assert [(each["rule"], each["matched"], each["reason"]) for each in answer["rules"]] == [
        ("first", True, None),
        ("disabled", False, "is_enabled: the rule is disabled"),
        ("to-off", False, "channel: off is disabled"),
        ("severe", False, "min_severity: 2 is less than 3"),
        ("closed", False, "deliver_on: OPEN is not one of CLOSED"),
        ("last", True, "rule first comes first: one job a channel"),
    ]
    assert [
        (each["rule"], each["channel"], each["user_id"], each["device"]) for each in answer["targets"]
    ] == [("first", "hook", None, None)]
    assert Alert.select().count() == Job.select().count() == Delivery.select().count() == 0


@pytest.mark.usefixtures("db")
def test_what_is_configured_while_it_looks_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    configure([{"name": "all", "channel": "hook"}])
    look = explain_module._last_notified

    def and_meanwhile(*given: Any) -> Any:
        if not Channel.select().where(Channel.name == "new").exists():
            channel = Channel.create(tenant="acme", name="new", channel_type="webhook", config=HOOK["config"])
            RoutingRule.create(tenant="acme", channel=channel, name="new")
        return look(*given)

    monkeypatch.setattr(explain_module, "_last_notified", and_meanwhile)
    assert [each["rule"] for each in ask({})["rules"]] == ["all"]
    assert [each["rule"] for each in ask({})["rules"]] == ["all", "new"]


@pytest.mark.usefixtures("db")
def test_devices_have_the_verdict_of_their_users() -> None:
    configure([{"name": "all", "channel": "phones"}], **QUIET, quiet_hours_action="defer")
    target = ask({"severity": 2})["targets"][0]
    assert (target["verdict"], target["reason"], target["until"]) == (
        "defer", "quiet_hours", "2026-03-28T13:00:00+00:00",
    )  # fmt: skip
    assert (target["user_id"], target["platform"]) == ("alice", "ios")
    assert ask({"severity": 4})["targets"][0]["verdict"] == "deliver"


@pytest.mark.usefixtures("db")
def test_so_many_targets_are_listed_and_the_others_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a push to everybody's devices, six of three users, and a webhook
    everybody = PUSH | {"config": {"all_users": True}}
    users = [
        {"user_id": user, "devices": [{"platform": "ios", "token": each * 64} for each in tokens]}
        for user, tokens in (("alice", "01"), ("bob", "234"), ("carol", "5"))
    ]
    rules = [{"name": "p", "channel": "phones", "priority": 1}, {"name": "h", "channel": "hook"}]
    apply({"tenant": "acme", "channels": [everybody, HOOK], "rules": rules, "users": users})

    def found(**options: Any) -> tuple[list[str | None], int]:
        answer = ask({}, **options)
        return [each["user_id"] for each in answer["targets"]], answer["targets_left_out"]

    assert found() == (["alice"] * 2 + ["bob"] * 3 + ["carol", None], 0)
    # When fewer are listed, then the others are counted, and each user can be asked for
    monkeypatch.setattr(explain_module, "LISTED", 4)
    assert found() == (["alice"] * 2 + ["bob"] * 2, 3)
    assert found(user_id="carol") == (["carol", None], 0)
    assert found(user_id="bob") == (["bob"] * 3 + [None], 0)
    apply({"tenant": "acme", "channels": [PUSH]})  # alice and nobody
    assert found(user_id="bob") == ([None], 0)


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("event", "state", "minutes", "throttled"),
    [
        ("OPEN", {"delivered": 1, "finished_at": NOW}, 9, True),
        ("OPEN", {"delivered": 1, "finished_at": NOW}, 10, False),
        ("OPEN", {"failed": 1, "finished_at": NOW}, 9, False),
        ("OPEN", {"targets": 0, "state": "PENDING"}, 9, False),  # a push that may wait for the morning
        ("CLOSED", {"delivered": 1, "finished_at": NOW}, 9, False),  # its own job: this very event
    ],
)
def test_the_throttle_counts_what_was_delivered_or_is_under_way(
    event: str, state: dict[str, Any], minutes: int, *, throttled: bool
) -> None:
    configure([{"name": "r", "channel": "hook", "deliver_on": ["OPEN", "CLOSED"], "throttle_minutes": 10}])
    # No delivery stands behind this row, so it is taken away again before the equation is checked.
    channel_id = Channel.get(name="hook").id
    job = make_job(
        alert_id="1",
        deliver_on_event=event,
        channel_id=channel_id,
        created_at=NOW - timedelta(minutes=minutes),
        **state,
    )
    rule = ask({"event_type": "CLOSED"})["rules"][0]
    assert rule["matched"] is not throttled
    assert ("throttle_minutes: hook was notified" in (rule["reason"] or "")) is throttled
    Job.delete().where(Job.id == job).execute()


@pytest.mark.usefixtures("db")
def test_a_channel_whose_key_is_lost_is_a_reason_and_no_error() -> None:
    configure([{"name": "hooks", "channel": "hook"}, {"name": "phones", "channel": "phones"}])
    lose_key(Channel.get(name="phones").id)
    answer = ask({})
    assert [(each["rule"], each["matched"]) for each in answer["rules"]] == [
        ("hooks", True),
        ("phones", False),
    ]
    assert answer["rules"][1]["reason"].startswith(
        "channel: phones cannot be sent to: none of TOCSIN_SECRET_KEYS"
    )
    assert [each["channel"] for each in answer["targets"]] == ["hook"]

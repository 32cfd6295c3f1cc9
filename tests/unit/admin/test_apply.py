"""Configuration as a document: the whole of it checked, the difference told, a second time without effect."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from admin import yaml_text
from admin.apply import apply
from admin.channels import create_channel
from model.problems import InvalidInput
from model.tables import Channel, Device, PreferenceRow, RoutingRule, Tenant

TEXT = """
tenant: acme
channels:
  - {name: ops-hook, channel_type: webhook, config: {url: "https://ops.example.org/in?sig=canary"}}
  - {name: phones, channel_type: push, config: {user_ids: [alice]}}
rules:
  - {name: all-serious, channel: ops-hook, min_severity: 2, deliver_on: [OPEN, CLOSED], throttle_minutes: 10}
  - {name: to-phones, channel: phones}
users:
  - user_id: alice
    devices: [{platform: ios, token: "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f", name: phone}]
    preferences: {quiet_hours_enabled: true, quiet_hours_start: 22:00, quiet_hours_end: 07:00}
"""

#: Nine lists, each nine times the one before: 43 million words in 200 bytes.
BOMB = "- &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"- &{name} [{','.join(['*' + former] * 9)}]\n" for former, name in pairwise("abcdefgh")
)


def document() -> Any:
    return yaml_text.load(TEXT)


def everything() -> list[Any]:
    tables: tuple[Any, ...] = (Tenant, Channel, RoutingRule, Device, PreferenceRow)
    return [sorted(map(repr, table.select().tuples())) for table in tables]


@pytest.mark.usefixtures("db")
def test_a_dry_run_tells_what_the_run_then_does_and_a_second_run_changes_nothing() -> None:
    before = everything()
    promised = apply(document(), dry_run=True).document()
    assert everything() == before

    done = apply(document()).document()
    assert done == promised | {"dry_run": False}
    assert [(each["kind"], each["name"]) for each in done["added"]] == [
        ("channel", "ops-hook"), ("channel", "phones"), ("rule", "all-serious"), ("rule", "to-phones"),
        ("device", "alice: ios phone"), ("preferences", "alice"),
    ]  # fmt: skip
    assert "canary" not in str(done)
    assert "give CLOSED a rule of its own" in done["warnings"][0]

    after = everything()
    again = apply(document()).document()
    assert (again["added"], again["changed"], again["removed"], again["unchanged"]) == ([], [], [], 6)
    assert everything() == after


@pytest.mark.usefixtures("db")
def test_changes_are_told_by_field_and_never_by_value() -> None:
    apply(document())
    changed = document()
    changed["channels"][0]["config"] = {"url": "https://new.example.org/in?sig=canary", "method": "PUT"}
    changed["rules"][0] |= {"min_severity": 3, "channel": "phones"}
    changed["users"][0]["preferences"]["quiet_hours_end"] = "08:00"
    told = apply(changed).document()
    assert told["changed"] == [
        {"kind": "channel", "name": "ops-hook", "fields": ["config.method", "config.url"]},
        {"kind": "rule", "name": "all-serious", "fields": ["channel", "min_severity"]},
        {"kind": "preferences", "name": "alice", "fields": ["quiet_hours_end"]},
    ]
    assert "canary" not in str(told)


@pytest.mark.usefixtures("db")
def test_prune_removes_what_a_list_lacks_but_nothing_of_a_list_that_is_missing_and_never_direct() -> None:
    apply(document())
    create_channel("acme", {"name": "direct", "channel_type": "push", "config": {"all_users": True}})
    create_channel("other", {"name": "theirs", "channel_type": "push", "config": {"all_users": True}})
    less = document()
    del less["channels"][1], less["rules"][1], less["users"]

    told = apply(less, prune=True).document()
    assert told["removed"] == [{"kind": "rule", "name": "to-phones"}, {"kind": "channel", "name": "phones"}]
    assert Device.select().count() == 1

    told = apply({"tenant": "acme", "channels": [], "users": None}, prune=True).document()
    assert [(each["kind"], each["name"]) for each in told["removed"]] == [
        ("rule", "all-serious"), ("channel", "ops-hook"), ("device", "alice: ios phone"), ("preferences", "alice"),
    ]  # fmt: skip
    assert {channel.name for channel in Channel.select()} == {"direct", "theirs"}


@pytest.mark.usefixtures("db")
def test_a_rule_may_not_lead_to_a_channel_that_goes_or_to_another_tenants() -> None:
    apply(document())
    foreign = create_channel(
        "other", {"name": "theirs", "channel_type": "push", "config": {"all_users": True}}
    )
    less = document()
    del less["channels"][1]
    less["rules"].append({"name": "spy", "channel": foreign.id})
    before = everything()
    with pytest.raises(InvalidInput) as refused:
        apply(less, prune=True)
    assert [str(each) for each in refused.value.problems] == [
        "rules[1].channel: there is no channel 'phones' in tenant 'acme' any more: it is pruned",
        f"rules[2].channel: there is no channel {foreign.id} in tenant 'acme'",
    ]
    assert everything() == before


@pytest.mark.usefixtures("db")
def test_all_that_is_wrong_is_told_at_once_and_nothing_written() -> None:
    wrong = document()
    wrong["chanels"] = wrong["channels"]
    wrong["channels"][0]["config"]["urll"] = "x"
    wrong["channels"].append(copy.deepcopy(wrong["channels"][1]))
    wrong["rules"][0]["min_severty"] = 1
    wrong["users"][0]["devices"][0]["token"] = "ab/cd"
    wrong["users"][0]["preferences"]["quiet_hours_timezone"] = "Mars/Olympus"
    before = everything()
    with pytest.raises(InvalidInput) as refused:
        apply(wrong)
    told = [str(each) for each in refused.value.problems]
    assert told == [
        "chanels: no such field; did you mean channels?",
        "channels[0].config.urll: no such field; did you mean url?",
        "rules[0].min_severty: no such field; did you mean min_severity?",
        "users[0].devices[0].token: must be 64 to 200 hexadecimal digits, of an even number",
        "users[0].preferences.quiet_hours_timezone: must be an IANA time zone such as Europe/Berlin",
        "channels[2].name: channels[1] is called 'phones' already",
    ]
    assert everything() == before


@pytest.mark.usefixtures("db")
def test_a_dead_device_stays_dead_however_often_it_is_applied() -> None:
    apply(document())
    Device.update(disabled_at=Device.registered_at, disabled_reason="410 Unregistered").execute()
    told = apply(document()).document()
    assert told["changed"] == []
    assert any("users[0].devices[0]: disabled (410 Unregistered)" in warning for warning in told["warnings"])
    assert Device.get().disabled_at is not None


@pytest.mark.usefixtures("db")
def test_the_tenant_of_the_document_and_of_the_command_must_agree() -> None:
    with pytest.raises(InvalidInput, match="tenant: is 'acme' here and 'other' on the command line"):
        apply(document(), tenant_id="other")
    told = apply({"channels": []}, tenant_id="new").document()
    assert told["added"] == [{"kind": "tenant", "name": "new"}]


def test_times_and_no_are_words_in_yaml() -> None:
    assert yaml_text.load("{a: 22:00, b: no, c: 007, d: 7, e: true, f: 1.5, g: ~, h: 2026-01-01}") == {
        "a": "22:00", "b": "no", "c": "007", "d": 7, "e": True, "f": 1.5, "g": None, "h": "2026-01-01",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: is no valid YAML: the key 'a' is there twice"),
        ("a: [1", "line 2, column 1: is no valid YAML"),
        ("!!python/object/apply:os.system [ls]", "line 1"),
        ("[" * 5000, "is no"),
        ("a: \0", "is no valid YAML"),
        (BOMB, "must not hold more"),
    ],
)
def test_yaml_that_is_none_or_a_bomb_is_refused_in_a_line(text: str, told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        yaml_text.load(text)
    assert told in str(refused.value)


@given(
    st.recursive(
        st.text(st.characters(min_codepoint=32, max_codepoint=126))
        | st.integers(-(10**9), 10**9)
        | st.booleans()
        | st.none(),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
        ),
        max_leaves=12,
    )
)
def test_what_is_written_as_json_is_read_back(value: Any) -> None:
    assert yaml_text.load(json.dumps(value)) == value


@pytest.mark.usefixtures("db")
def test_yaml_of_others_is_read_alike() -> None:
    assert apply(yaml_text.load(yaml.safe_dump(document()))).document()["added"]

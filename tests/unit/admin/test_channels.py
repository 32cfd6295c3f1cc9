"""Channels and rules: what is refused and in which words, secrets that do not come back, times that only grow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.intake import DIRECT
from admin import channels, rules
from admin.apply import apply
from admin.lookup import find_channel
from admin.secrets import MASK, mask, unmask
from model.database import Unreadable
from model.problems import InvalidInput
from model.tables import RoutingRule, Tenant
from senders.webhook import WebhookConfig
from tests.support.database import lose_key, make_channel

SECRET = "whsec_" + "QUJD" * 11
HOOK: dict[str, Any] = {
    "name": "ops",
    "channel_type": "http",
    "config": {
        "url": "https://ops.example.org/in?sig=canary",
        "secret": SECRET,
        "headers": {"x-key": "canary"},
    },
}


def problems(call: Any, *arguments: Any, **options: Any) -> list[str]:
    with pytest.raises(InvalidInput) as refused:
        call(*arguments, **options)
    return [str(problem) for problem in refused.value.problems]


def test_the_reserved_name_is_the_one_that_notify_uses() -> None:
    assert channels.RESERVED == DIRECT


@pytest.mark.usefixtures("db")
def test_a_channel_is_saved_under_its_types_own_name_and_shown_without_secrets() -> None:
    channel = channels.create_channel("acme", HOOK)
    shown = channels.channel_document(find_channel("acme", "ops"))
    assert channel.channel_type == "webhook"
    assert shown["config"] == {"url": MASK, "secret": MASK, "headers": {"x-key": MASK}}
    assert "canary" not in str(channels.list_channels("acme"))
    assert find_channel("acme", channel.id).config == HOOK["config"]


@pytest.mark.usefixtures("db")
def test_a_mask_given_back_keeps_the_secret_unless_the_destination_moves() -> None:
    channels.create_channel("acme", HOOK)
    shown = channels.list_channels("acme")[0]["config"]
    channels.update_channel("acme", "ops", {"config": shown | {"method": "PUT"}})
    assert find_channel("acme", "ops").config == HOOK["config"] | {"method": "PUT"}

    moved = shown | {"url": "https://thief.example.org/"}
    told = problems(channels.update_channel, "acme", "ops", {"config": moved})
    assert sorted(told) == sorted(
        [
            "config.secret: give the secret again: url changes, and it would go there",
            "config.headers.x-key: give the secret again: url changes, and it would go there",
        ]
    )
    assert find_channel("acme", "ops").config["url"] == HOOK["config"]["url"]


def test_a_mask_of_nothing_is_no_secret() -> None:
    told = problems(channels.check_channel, HOOK | {"config": {"url": MASK}})
    assert told == [f"config.url: {MASK} stands for a stored secret, and there is none; give the secret"]


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.from_regex(r"[!-~]{1,20}", fullmatch=True)
    )
)
def test_masking_hides_every_secret_and_unmasking_brings_each_back(headers: dict[str, str]) -> None:
    names = {"host", "te", "expect", "upgrade", "connection"}
    stored = {
        "url": "https://a.example.org/",
        "headers": {f"x-{name}": value for name, value in headers.items() if name not in names},
    }
    shown = mask(WebhookConfig, stored)
    assert set(shown["headers"].values()) <= {MASK}
    assert unmask(shown, stored, prefix="config") == (stored, [])


def test_a_config_that_its_type_no_longer_knows_is_hidden_whole() -> None:
    assert mask(WebhookConfig, {"url": "https://a.example.org/", "formerly": "canary"}) == {
        "url": MASK,
        "formerly": MASK,
    }
    assert mask(None, {"token": "canary"}) == {"token": MASK}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"channel_type": "smoke"}, "channel_type: must be one of "),
        ({"config": {"urll": "https://ops.example.org/"}}, "config.urll: no such field; did you mean url?"),
        ({"config": {}}, "config.url: required"),
        ({"nmae": "x"}, "nmae: no such field; did you mean name?"),
        ({"name": "direct"}, "name: 'direct' is reserved for a channel of type push"),
        ({"is_enabled": "yes"}, "is_enabled: input should be a valid boolean"),
    ],
)
def test_what_is_wrong_with_a_channel_is_named(change: dict[str, Any], told: str) -> None:
    assert any(line.startswith(told) for line in problems(channels.check_channel, HOOK | change))


def test_one_mistake_is_one_problem() -> None:
    mail = {"name": "mail", "channel_type": "email", "config": {"to": ["Ann <ann@example.org>"]}}
    rule = "must be an address such as ops@example.org (international domains as xn--...)"
    assert problems(channels.check_channel, mail) == [f"config.to[0]: {rule}"]
    assert problems(channels.check_channel, HOOK | {"name": ""}) == ["name: must have at least 1 character"]


@pytest.mark.usefixtures("db")
def test_names_are_unique_within_a_tenant_only() -> None:
    channels.create_channel("acme", HOOK)
    channels.create_channel("other", HOOK)
    assert problems(channels.create_channel, "acme", HOOK) == [
        "name: tenant 'acme' has a channel 'ops' already"
    ]


@pytest.mark.usefixtures("db")
def test_updated_at_grows_with_every_change_and_with_no_other_write() -> None:
    first = channels.create_channel("acme", HOOK).updated_at
    same = channels.update_channel("acme", "ops", HOOK).updated_at
    times = [
        channels.update_channel("acme", "ops", {"is_enabled": bool(turn % 2)}).updated_at for turn in range(4)
    ]
    assert same == first
    assert sorted({first, *times}) == [first, *times]


@pytest.mark.usefixtures("db")
def test_a_rule_reaches_channels_of_its_own_tenant_only_and_cannot_tell_others_from_none() -> None:
    mine = channels.create_channel("acme", HOOK)
    theirs = channels.create_channel("other", HOOK | {"name": "theirs"})

    assert problems(rules.create_rule, "acme", {"name": "r", "channel_id": theirs.id}) == [
        f"channel_id: there is no channel {theirs.id} in tenant 'acme'"
    ]
    assert problems(rules.create_rule, "acme", {"name": "r", "channel": "theirs"}) == [
        "channel: there is no channel 'theirs' in tenant 'acme'"
    ]
    assert problems(rules.create_rule, "acme", {"name": "r", "channel": 999_999}) == [
        "channel: there is no channel 999999 in tenant 'acme'"
    ]
    rule = rules.create_rule("acme", {"name": "r", "channel": str(mine.id), "min_severity": 2})
    with pytest.raises(LookupError, match=f"there is no rule {rule.id} in tenant 'other'"):
        rules.update_rule("other", rule.id, {"min_severity": 0})
    assert RoutingRule.get_by_id(rule.id).min_severity == 2


@pytest.mark.usefixtures("db")
def test_a_changed_rule_is_a_new_version_and_an_unchanged_one_is_not() -> None:
    channels.create_channel("acme", HOOK)
    rules.create_rule("acme", {"name": "r", "channel": "ops"})
    before = Tenant.get_by_id("acme").version
    rules.update_rule("acme", "r", {"min_severity": None})
    assert Tenant.get_by_id("acme").version == before
    rules.update_rule("acme", "r", {"min_severity": 3})
    assert Tenant.get_by_id("acme").version == before + 1
    assert rules.list_rules("acme")[0]["channel"] == "ops"


@pytest.mark.usefixtures("db")
def test_a_deleted_channel_takes_its_rules_along() -> None:
    channels.create_channel("acme", HOOK)
    rules.create_rule("acme", {"name": "r", "channel": "ops"})
    assert channels.delete_channel("acme", "ops") == 1
    assert rules.list_rules("acme") == []
    with pytest.raises(LookupError, match="there is no channel 'ops' in tenant 'acme'"):
        channels.delete_channel("acme", "ops")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"name": "r"}, "channel: required: the name or id of a channel"),
        ({"name": "r", "channel": "a", "channel_id": 1}, "channel_id: give channel or channel_id, not both"),
        ({"name": "r", "channel": True}, "channel: must be the name or id of a channel"),
        (
            {"name": "r", "channel": "a", "min_severty": 1},
            "min_severty: no such field; did you mean min_severity?",
        ),
        ({"name": "r", "channel": "a", "min_severity": "3"}, "min_severity: input should be a valid integer"),
    ],
)
def test_what_is_wrong_with_a_rule_is_named(data: dict[str, Any], told: str) -> None:
    assert problems(rules.check_rule, data) == [told]


def test_a_closed_behind_a_throttle_is_warned_of() -> None:
    data = {"name": "r", "channel": "a", "throttle_minutes": 5, "deliver_on": ["OPEN", "CLOSED"]}
    assert "give CLOSED a rule of its own" in rules.warnings_of(rules.check_rule(data).spec)[0]
    assert rules.warnings_of(rules.check_rule(data | {"deliver_on": ["CLOSED"]}).spec) == []


@pytest.mark.usefixtures("db")
def test_a_channel_whose_key_is_lost_is_shown_as_that_and_saved_anew_by_every_way() -> None:
    # Given a channel that none of the keys decrypts, and one that is well
    channels.create_channel("acme", HOOK | {"name": "well"})
    lost = channels.create_channel("acme", HOOK)
    again: dict[str, Any] = {
        "put": lambda: channels.update_channel("acme", "ops", HOOK, partial=False),
        "patch": lambda: channels.update_channel("acme", "ops", {"config": HOOK["config"]}),
        "apply": lambda: apply({"tenant": "acme", "channels": [HOOK]}),
    }
    for way, save in again.items():
        lose_key(lost.id)
        # When it is shown, then as what it is, and the others as ever
        shown = {each["name"]: each for each in channels.list_channels("acme")}
        assert (shown["ops"]["config"], shown["ops"]["health"]) == ({}, "misconfigured")
        assert "save it anew" in shown["ops"]["health_detail"]
        assert shown["well"]["health"] == "unknown"
        # When it is saved anew, then it is as good as new
        save()
        assert find_channel("acme", "ops").config == HOOK["config"], way
        assert channels.list_channels("acme")[0]["health"] == "unknown"
    lose_key(lost.id)
    assert channels.delete_channel("acme", "ops") == 0


@pytest.mark.usefixtures("db")
def test_what_cannot_be_read_is_not_kept_by_a_change_of_something_else() -> None:
    channel = channels.create_channel("acme", HOOK)
    lose_key(channel.id)
    masked = {"config": {"url": "https://ops.example.org/", "secret": MASK}}
    for change in ({"is_enabled": False}, {"name": "other"}):
        assert problems(channels.update_channel, "acme", "ops", change) == [f"config: {Unreadable.WHY}"]
    for partial in (True, False):
        assert problems(channels.update_channel, "acme", "ops", HOOK | masked, partial=partial) == [
            f"config.secret: {MASK} stands for a stored secret, and there is none that can be read; give the secret"
        ]
    # Nor does any other way of writing it make an empty one of it
    with pytest.raises(TypeError, match="what no key decrypts"):
        find_channel("acme", "ops").save()


@pytest.mark.usefixtures("db")
def test_an_empty_config_replaces_one_that_cannot_be_read() -> None:
    lost = find_channel("acme", make_channel(config={"secret": "canary"}))
    lose_key(lost.id)
    spec = channels.ChannelSpec("ops", "webhook", is_enabled=True, config={})
    assert channels.changed_fields(find_channel("acme", "ops"), spec) == ["config"]

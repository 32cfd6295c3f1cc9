"""Routing rules: each filter alone and with the others, what empty means, the throttle's edge, the order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model.problems import problems_of
from model.rules import Rule, RuleSpec, in_order

ALERT: dict[str, Any] = {
    "alert_id": 7,
    "alert_type": "person",
    "severity": 3,
    "device_id": "cam-3",
    "site_id": "berlin",
    "details": {
        "device_tags": {"floor": 2, "indoor": True, "zone": "north", "gone": None, "off": False, "blank": ""}
    },
}
NOW = datetime(2026, 3, 28, 12, tzinfo=UTC)


def _rule(**fields: Any) -> Rule:
    return Rule.compile(1, 10, RuleSpec.model_validate({"name": "r", **fields}))


@pytest.mark.parametrize(
    ("filters", "event", "named"),
    [
        ({}, "OPEN", None),
        ({}, "CLOSED", "deliver_on"),
        ({"deliver_on": ["CLOSED", "ESCALATED"]}, "CLOSED", None),
        ({"deliver_on": ["CLOSED", "ESCALATED"]}, "OPEN", "deliver_on"),
        ({"min_severity": 3}, "OPEN", None),
        ({"min_severity": 4}, "OPEN", "min_severity"),
        ({"alert_type": "person"}, "OPEN", None),
        ({"alert_type": "Person"}, "OPEN", "alert_type"),
        ({"device_tag_key": "zone", "device_tag_val": "north"}, "OPEN", None),
        ({"device_tag_key": "zone", "device_tag_val": "nort"}, "OPEN", "device_tag"),
        ({"device_tag_key": "floor", "device_tag_val": "2"}, "OPEN", None),
        ({"device_tag_key": "indoor", "device_tag_val": "true"}, "OPEN", None),
        ({"device_tag_key": "indoor", "device_tag_val": "True"}, "OPEN", "device_tag"),
        ({"device_tag_key": "off", "device_tag_val": "false"}, "OPEN", None),
        ({"device_tag_key": "gone", "device_tag_val": "None"}, "OPEN", "device_tag"),
        ({"device_tag_key": "missing", "device_tag_val": "x"}, "OPEN", "device_tag"),
        ({"device_tag_key": "zone"}, "OPEN", None),
        ({"device_tag_key": "off", "device_tag_val": ""}, "OPEN", None),
        ({"device_tag_key": "blank", "device_tag_val": None}, "OPEN", None),
        ({"device_tag_key": "gone"}, "OPEN", "device_tag"),
        ({"device_tag_key": "missing"}, "OPEN", "device_tag"),
        ({"site_ids": ["paris", "berlin"]}, "OPEN", None),
        ({"site_ids": ["paris"]}, "OPEN", "site_ids"),
        ({"device_prefixes": ["door-", "cam-"]}, "OPEN", None),
        ({"device_prefixes": ["cam-3"]}, "OPEN", None),
        ({"device_prefixes": ["cam-33", "am-3"]}, "OPEN", "device_prefixes"),
    ],
)
def test_each_filter_alone(filters: dict[str, Any], event: str, named: str | None) -> None:
    reason = _rule(**filters).mismatch(event, ALERT)

    assert (reason and reason.split(":")[0]) == named
    assert _rule(**filters).matches(event, ALERT) is (named is None)


@pytest.mark.parametrize(
    "filters",
    [
        {"min_severity": None, "alert_type": None, "device_tag_key": None, "device_tag_val": None},
        {"min_severity": 0, "alert_type": "", "device_tag_key": "", "device_tag_val": ""},
        {"site_ids": [], "device_prefixes": []},
        {"site_ids": None, "device_prefixes": None},
    ],
)
def test_a_filter_that_is_null_or_empty_matches_all(filters: dict[str, Any]) -> None:
    assert _rule(**filters).matches("OPEN", ALERT)
    assert _rule(**filters).matches("OPEN", {"alert_id": 8})


@pytest.mark.parametrize("bare", [{"alert_id": 8}, dict.fromkeys(ALERT), {"details": {"device_tags": None}}])
@pytest.mark.parametrize(
    "filters",
    [
        {"min_severity": 1},
        {"alert_type": "person"},
        {"device_tag_key": "floor", "device_tag_val": "2"},
        {"device_tag_key": "floor"},
        {"site_ids": ["berlin"]},
        {"device_prefixes": ["cam"]},
    ],
)
def test_no_filter_matches_what_the_alert_does_not_have(
    bare: dict[str, Any], filters: dict[str, Any]
) -> None:
    assert not _rule(**filters).matches("OPEN", bare)


@pytest.mark.parametrize("alert", [{}, {"severity": None}, {"severity": 0}])
def test_a_missing_severity_counts_as_zero(alert: dict[str, Any]) -> None:
    assert _rule(min_severity=0).matches("OPEN", alert)
    assert _rule(min_severity=1).mismatch("OPEN", alert) == "min_severity: 0 is less than 1"


FILTERS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "deliver_on": st.lists(st.sampled_from(["OPEN", "CLOSED"]), min_size=1).map(lambda v: {"deliver_on": v}),
    "min_severity": st.integers(0, 5).map(lambda v: {"min_severity": v}),
    "alert_type": st.sampled_from(["person", "smoke"]).map(lambda v: {"alert_type": v}),
    "tag": st.tuples(st.sampled_from(["floor", "indoor"]), st.sampled_from(["2", "true"])).map(
        lambda v: {"device_tag_key": v[0], "device_tag_val": v[1]}
    ),
    "site_ids": st.lists(st.sampled_from(["berlin", "paris"]), min_size=1).map(lambda v: {"site_ids": v}),
    "device_prefixes": st.lists(st.sampled_from(["cam", "cam-3", "door"]), min_size=1).map(
        lambda v: {"device_prefixes": v}
    ),
}
ALERTS = st.fixed_dictionaries(
    {},
    optional={
        "severity": st.none() | st.integers(0, 6),
        "alert_type": st.sampled_from(["person", "smoke", None]),
        "device_id": st.sampled_from(["cam-3", "cam-4", "door-1", None]),
        "site_id": st.sampled_from(["berlin", "rome", None]),
        "details": st.fixed_dictionaries(
            {
                "device_tags": st.dictionaries(
                    st.sampled_from(["floor", "indoor"]), st.sampled_from([2, True, "2"])
                )
            }
        ),
    },
)


@given(data=st.data(), alert=ALERTS, event=st.sampled_from(["OPEN", "CLOSED"]))
def test_filters_are_joined_by_and(data: st.DataObject, alert: dict[str, Any], event: str) -> None:
    """A rule matches just if each of its filters, alone, does; so another filter never makes a match."""
    names = data.draw(st.sets(st.sampled_from(sorted(FILTERS))))
    parts = [data.draw(FILTERS[name]) for name in sorted(names)]
    # deliver_on is always there: without one of its own a rule has the default.
    default = {} if "deliver_on" in names else {"deliver_on": ["OPEN"]}
    anything = {"deliver_on": ["OPEN", "CLOSED"]}

    together = _rule(**{key: value for part in [default, *parts] for key, value in part.items()})
    alone = [_rule(**(anything | part)).matches(event, alert) for part in [default, *parts] if part]

    assert together.matches(event, alert) is all(alone)
    added = data.draw(st.sampled_from(sorted(set(FILTERS) - names - {"deliver_on"}) or ["min_severity"]))
    if added not in names and not together.matches(event, alert):
        wider = {
            key: value for part in [default, *parts, data.draw(FILTERS[added])] for key, value in part.items()
        }
        assert not _rule(**wider).matches(event, alert)


@given(values=st.lists(st.sampled_from(["berlin", "paris", "rome"]), min_size=1), alert=ALERTS)
def test_the_members_of_a_list_are_joined_by_or(values: list[str], alert: dict[str, Any]) -> None:
    assert _rule(site_ids=values).matches("OPEN", alert) is any(
        _rule(site_ids=[value]).matches("OPEN", alert) for value in values
    )


@given(minutes=st.integers(1, 525_600), microseconds=st.integers(0, 10**10))
def test_the_throttle_ends_exactly_when_its_minutes_are_over(minutes: int, microseconds: int) -> None:
    rule = _rule(throttle_minutes=minutes)
    edge = timedelta(minutes=minutes)

    assert rule.is_throttled(NOW - edge + timedelta(microseconds=1), NOW)
    assert not rule.is_throttled(NOW - edge, NOW)
    assert not rule.is_throttled(NOW - edge - timedelta(microseconds=microseconds), NOW)
    assert not rule.is_throttled(None, NOW)


@pytest.mark.parametrize("minutes", [None, 0])
def test_without_minutes_there_is_no_throttle(minutes: int | None) -> None:
    assert not _rule(throttle_minutes=minutes).is_throttled(NOW, NOW)


def test_a_tag_that_is_not_there_is_told() -> None:
    assert _rule(device_tag_key="lift").mismatch("OPEN", ALERT) == "device_tag: the alert has no lift"


def test_rules_come_by_priority_and_then_by_id() -> None:
    pairs = [(5, 3), (1, 9), (5, 1), (-1, 7), (1, 2)]
    rules = [(priority, Rule.compile(rule_id, 10, RuleSpec(name="r"))) for priority, rule_id in pairs]

    assert [rule.rule_id for rule in in_order(rules)] == [7, 2, 9, 1, 3]


@given(pairs=st.lists(st.tuples(st.integers(), st.integers()), unique=True))
def test_the_order_does_not_depend_on_how_rules_came(pairs: list[tuple[int, int]]) -> None:
    rules = [
        (priority, Rule.compile(rule_id, 10, RuleSpec(name=str(priority)))) for priority, rule_id in pairs
    ]

    assert [(int(rule.name), rule.rule_id) for rule in in_order(reversed(rules))] == sorted(pairs)


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"name": ""}, "name", "at least 1"),
        ({"name": "a\0"}, "name", "NUL"),
        ({"min_severity": "3"}, "min_severity", "integer"),
        ({"min_severity": -1}, "min_severity", "greater than or equal to 0"),
        ({"alert_type": 5}, "alert_type", "string"),
        ({"device_tag_val": "2"}, "", "device_tag_val must have a device_tag_key beside it"),
        ({"device_tag_key": "floor", "device_tag_val": 2}, "device_tag_val", "string"),
        ({"site_ids": "berlin"}, "site_ids", "list"),
        ({"site_ids": [5]}, "site_ids[0]", "string"),
        ({"device_prefixes": ["a", "\ud800"]}, "device_prefixes[1]", "Unicode"),
        ({"deliver_on": []}, "deliver_on", "at least 1"),
        ({"deliver_on": None}, "deliver_on", "list"),
        ({"deliver_on": ["OPENED"]}, "deliver_on[0]", "'OPEN'"),
        ({"throttle_minutes": -1}, "throttle_minutes", "greater than or equal to 0"),
        ({"throttle_minutes": 1.5}, "throttle_minutes", "integer"),
        ({"throttle_minutes": 525_601}, "throttle_minutes", "less than or equal to 525600"),
        ({"priority": 2**31}, "priority", "less than 2147483648"),
        ({"is_enabled": "yes"}, "is_enabled", "boolean"),
        ({"throtle_minutes": 5}, "throtle_minutes", "did you mean throttle_minutes?"),
    ],
)
def test_a_wrong_rule_is_refused_by_field(changes: dict[str, Any], field: str, rule: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RuleSpec.model_validate({"name": "r", **changes})

    (problem,) = problems_of(caught.value, known=RuleSpec.model_fields)
    assert problem.field == field
    assert rule in problem.rule

"""The index leaves no rule out that matches, and looks at few of many."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from model.rule_index import RuleIndex
from model.rules import Rule, RuleSpec

WORDS = st.sampled_from(["a", "ab", "b", "true", "3"])
NOTHING = st.none() | st.just("")

RULES = st.fixed_dictionaries(
    {
        "name": st.just("r"),
        "min_severity": st.none() | st.integers(0, 4),
        "alert_type": NOTHING | WORDS,
        "site_ids": st.lists(WORDS, max_size=3),
        "device_prefixes": st.lists(WORDS, max_size=3),
    }
).flatmap(
    lambda fields: (
        st.just(fields)
        | st.builds(
            lambda key, val: {**fields, "device_tag_key": key, "device_tag_val": val}, WORDS, NOTHING | WORDS
        )
    )
)
ALERTS = st.fixed_dictionaries(
    {},
    optional={
        "severity": st.none() | st.integers(0, 4),
        "alert_type": NOTHING | WORDS,
        "site_id": NOTHING | WORDS,
        "device_id": NOTHING | st.text("ab3", max_size=4),
        "details": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "device_tags": st.dictionaries(WORDS, NOTHING | WORDS | st.booleans() | st.integers(2, 4))
            },
        ),
    },
)


def _rules(specs: list[dict[str, Any]]) -> list[Rule]:
    return [Rule.compile(number, number, RuleSpec.model_validate(spec)) for number, spec in enumerate(specs)]


@given(specs=st.lists(RULES, max_size=12), alert=ALERTS)
def test_every_rule_that_matches_is_found_in_its_place(
    specs: list[dict[str, Any]], alert: dict[str, Any]
) -> None:
    rules = _rules(specs)

    places = RuleIndex(rules).places(alert)

    assert places == sorted(set(places))
    assert {place for place, rule in enumerate(rules) if rule.matches("OPEN", alert)} <= set(places)


def test_an_alert_is_held_against_the_rules_of_its_site_alone() -> None:
    rules = _rules([{"name": "r", "site_ids": [f"site-{number}"]} for number in range(10_000)])

    assert RuleIndex(rules).places({"site_id": "site-4711"}) == [4711]

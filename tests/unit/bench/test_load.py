"""The messages and rules of the benchmarks are real ones."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from bench import load, matching
from model.alert import parse_alert
from model.rules import Rule, RuleSpec
from receivers.apns_payload import payload_problems
from receivers.webhook import body_problems


def test_what_bare_clients_send_would_be_taken_by_those_who_verify() -> None:
    assert body_problems(orjson.loads(load.webhook_body("a-1"))) == []
    assert payload_problems(load.apns_body("a-1")) == []
    assert len(load.fcm_body("a-1", "t" * 150)) < 4096
    assert len(load.webpush_plaintext("a-1")) < 2700


def test_the_alert_is_of_ordinary_size() -> None:
    told = parse_alert(load.alert("a-1"))
    assert 250 < len(orjson.dumps(told.snapshot)) < 450


@given(st.integers(1, 60), st.integers(0, 500))
def test_an_alert_meets_the_one_rule_that_it_is_about(rules: int, number: int) -> None:
    alert = parse_alert(matching.event(number, rules))
    met = [each for each in range(rules) if _compiled(each).matches("OPEN", alert.snapshot)]
    assert met == [number % rules]


def _compiled(number: int) -> Rule:
    row: dict[str, Any] = matching.rule(number, 1)
    spec = RuleSpec(**{name: value for name, value in row.items() if name in RuleSpec.model_fields})
    return Rule.compile(number, 1, spec)

"""The alert rules for operators: Prometheus' own tool reads them, and each fires when it should and not otherwise."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from actors.roads import ACCEPT
from model.states import DeliveryState, Reason
from tests.support import alert_rules

PROGRAM = shutil.which("promtool")
INSTALL = "apt-get install prometheus   (macOS: brew install prometheus)"
TESTS = alert_rules.RULES.with_name("tocsin.rules.test.yml")


@pytest.mark.parametrize(("what", "file"), [("check", alert_rules.RULES), ("test", TESTS)])
def test_promtool_is_content(what: str, file: object) -> None:
    if PROGRAM is None:
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(f"promtool is missing: {INSTALL}", pytrace=False)
        pytest.skip(f"promtool is missing: {INSTALL}")
    done = subprocess.run(
        [PROGRAM, what, "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_says_how_bad_it_is_and_what_to_do_and_is_tried() -> None:
    tried = TESTS.read_text()
    for rule in alert_rules.alerts():
        assert rule["for"]
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert re.search(rf'ALERTS\{{alertname="{rule["alert"]}"', tried), rule["alert"]


def test_the_values_that_they_choose_by_are_the_codes_own() -> None:
    chosen = re.findall(
        r'(state|reason|queue)(?:=~|!=|=)"([^"]*)"', "".join(each["expr"] for each in alert_rules.alerts())
    )
    known = {"state": {*DeliveryState}, "reason": {*Reason}, "queue": {ACCEPT}}
    assert {name for name, _ in chosen} == known.keys()
    assert [
        (name, value) for name, values in chosen for value in values.split("|") if value not in known[name]
    ] == []

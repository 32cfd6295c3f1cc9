"""Whatever Alertmanager and Grafana send: what is too large is cut, and what cannot be stored is replaced."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from api import examples
from api.ingest.alertmanager import from_alertmanager
from api.ingest.bounds import bearable, fitted
from api.ingest.grafana import from_grafana
from api.ingest.mapping import MESSAGE, Mapping
from model.alert import MAX_ALERT_BYTES, parse_alert


def alert(**changes: Any) -> dict[str, Any]:
    """The one alert of Grafana's example, translated after changes."""
    document = examples.GRAFANA | {"alerts": [examples.GRAFANA["alerts"][0] | changes]}
    [found] = from_grafana(document, Mapping())
    assert from_alertmanager(document, Mapping())[0]["alert_id"] == found["alert_id"]
    parse_alert(found)
    return found


def test_what_cannot_be_stored_is_replaced() -> None:
    assert bearable("a\0b\ud800c\udfff😀") == "a\ufffdb\ufffdc\ufffd😀"
    found = alert(labels={"a\0": "\ud800"}, annotations={"summary": "\0"}, silenceURL="http://x/\0")
    assert found["details"]["labels"] == {"a\ufffd": "\ufffd"}
    assert found["message"] == "\ufffd"
    assert found["details"]["silence_url"] == "http://x/\ufffd"


@pytest.mark.parametrize("text", ["x", "😀", "\x01", '"', "é"])
def test_a_text_that_is_too_large_is_cut_and_the_rest_is_left(text: str) -> None:
    found = alert(annotations={"description": text * 300_000, "runbook": "http://runbook"})
    assert found["details"]["truncated"] is True
    assert found["details"]["annotations"]["runbook"] == "http://runbook"
    assert found["details"]["labels"] == examples.GRAFANA["alerts"][0]["labels"]
    description = found["details"]["annotations"]["description"]
    assert description.endswith(f"{text}…")
    assert 8 * 1024 <= len(orjson.dumps(description)) <= 16 * 1024
    assert found["message"] == description


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": {f"label{number}": "x" * 100 for number in range(10_000)}},
        {"labels": {"x" * 5000 + str(number): "\x01" * 5000 for number in range(100)}},
        {"annotations": {f"a{number}": "😀" * 2000 for number in range(1000)}},
        {"fingerprint": "f" * 1_000_000},
        {"valueString": "v" * 1_000_000, "generatorURL": "u" * 1_000_000},
    ],
    ids=["many labels", "long names", "many annotations", "fingerprint", "values"],
)
def test_any_of_it_may_be_too_large(changes: dict[str, Any]) -> None:
    found = alert(**changes)
    assert found["details"]["truncated"] is True
    assert len(orjson.dumps(found)) <= MAX_ALERT_BYTES


def test_what_fits_is_as_it_was() -> None:
    plain = alert()
    assert fitted(plain) is plain
    assert "truncated" not in plain["details"]


def test_a_message_that_is_longer_than_one_may_be_says_so() -> None:
    message = alert(annotations={"summary": "x" * (MESSAGE + 1)})["message"]
    assert (len(message), message[-2:]) == (MESSAGE, "x…")

"""Words, and making them fit: properties over any text."""

from __future__ import annotations

import html
import itertools
import json
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from senders.base import ChannelConfig
from senders.text import (
    body,
    clean,
    clip,
    facts,
    json_length,
    lead,
    level,
    one_line,
    rfc3339,
    severity_word,
    symbol,
    title,
    to_json,
    utf8_length,
)
from tests.unit.senders.support import notification

NASTY = (
    st.text(alphabet=st.sampled_from("ab \n&<>\"'\\é👍🏽\u200d👩🔬🇩🇪\u0301\ufe0f한글\u1100\u1161"))
    | st.text()
)
VALID = NASTY.filter(lambda text: text.isascii() or not any(0xD800 <= ord(char) < 0xE000 for char in text))
MEASURES: dict[str, Any] = {
    "characters": len,
    "utf8": utf8_length,
    "json": json_length,
    "html": lambda text: len(html.escape(text)),
}
CONFIG = ChannelConfig()


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
@given(text=VALID, limit=st.integers(0, 60))
def test_a_clipped_text_fits_and_is_cut_between_graphemes(measure: Any, text: str, limit: int) -> None:
    clipped = clip(text, limit, measure)
    assert measure(clipped) <= limit
    if measure(text) <= limit:
        assert clipped == text
    elif clipped:
        kept = clipped.removesuffix("…")
        assert clipped.endswith("…")
        assert text.startswith(kept)
        # The cut is at a boundary of the text, or in the white space that followed one.
        boundaries = {0, *(cluster.end() for cluster in regex.finditer(r"\X", text))}
        rest = text[len(kept) :]
        assert any(len(kept) + spaces in boundaries for spaces in range(len(rest) - len(rest.lstrip()) + 1))


@given(text=VALID, limit=st.integers(1, 40))
def test_no_more_is_cut_than_must_be(text: str, limit: int) -> None:
    if len(text) > limit:
        beginnings = itertools.accumulate(regex.findall(r"\X", text), initial="")
        longest = max((one for one in beginnings if len(one) + 1 <= limit), key=len)
        assert clip(text, limit) == longest.rstrip() + "…"


@pytest.mark.parametrize("whole", ["👩‍🔬", "👍🏽", "🇩🇪", "é", "한", "❤️", "🏴\U000e0067\U000e0062\U000e007f"])
def test_what_one_sees_as_one_character_is_kept_whole_or_dropped(whole: str) -> None:
    for limit in range(1, len(whole) + 3):
        assert clip(f"a{whole}bc", limit) in {"…", "a…", f"a{whole}…", f"a{whole}bc"}


@given(NASTY)
def test_cleaned_text_is_taken_by_every_encoder(text: str) -> None:
    cleaned = clean(text)
    assert cleaned.encode() == orjson.loads(orjson.dumps(cleaned)).encode()
    assert not any(unicodedata.category(char) == "Cc" and char not in "\t\n" for char in cleaned)
    assert clean(cleaned) == cleaned
    assert "\n" not in one_line(text)
    assert "\r" not in one_line(text)


def test_cleaning_takes_controls_overrides_and_lone_surrogates() -> None:
    assert (
        clean(" a\r\nb\x00\x1b[31m\x85c\u2028d \u202etxt.exe\u202c \ud800 ")
        == "a\nb[31m\nc\nd txt.exe \ufffd"
    )
    assert one_line("Subject\r\nBcc: x\x00") == "Subject Bcc: x"
    assert clean(value=True) == "true"
    assert clean({"a": [1, "ü"]}) == '{"a":[1,"ü"]}'


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (2**70, 2**70),
        ({"deep": [-(2**64)]}, {"deep": [-(2**64)]}),
        ("a\ud800", "a\ufffd"),
        ({"\udfff": [2**70, "é"]}, {"\ufffd": [2**70, "é"]}),
    ],
)
def test_json_that_orjson_refuses_is_written_all_the_same(value: Any, read: Any) -> None:
    assert json.loads(to_json(value)) == read
    if not isinstance(read, int):
        assert orjson.loads(to_json(value))


@pytest.mark.parametrize(
    ("severity", "word"),
    [
        (-1, "info"),
        (0, "info"),
        (1, "info"),
        (2, "warning"),
        (3, "error"),
        (4, "critical"),
        (10**30, "critical"),
    ],
)
def test_severity_words(severity: int, word: str) -> None:
    assert severity_word(severity) == word


def test_an_alert_that_is_declared_critical_is_called_so() -> None:
    assert level(notification(CONFIG, severity=1, is_critical=True)) == "critical"
    assert level(notification(CONFIG, severity=1)) == "info"


def test_events_differ_in_word_and_symbol() -> None:
    events = ["OPEN", "ACKNOWLEDGED", "ESCALATED", "CLOSED"]
    assert len({lead(notification(CONFIG, event)) for event in events}) == 4
    assert len({symbol(notification(CONFIG, event)) for event in events}) == 4
    assert title(notification(CONFIG, "CLOSED")) == "Resolved: smoke detected at cam-3, berlin"


@pytest.mark.parametrize(
    ("alert", "expected"),
    [
        ({}, "Error: smoke detected at cam-3, berlin"),
        ({"device_id": None, "site_id": ""}, "Error: smoke detected"),
        ({"alert_type": None, "site_id": None}, "Error: Smoke in the hall at cam-3"),
        ({"alert_type": None, "message": None, "device_id": None, "site_id": None}, "Error: Alert 4711"),
        ({"alert_type": "x\r\ny", "device_id": None, "site_id": None}, "Error: x y"),
    ],
)
def test_titles(alert: dict[str, Any], expected: str) -> None:
    assert title(notification(CONFIG, alert=alert)) == expected


@given(message=NASTY, kind=NASTY, device=NASTY)
def test_title_and_body_are_never_empty_nor_unclean(message: str, kind: str, device: str) -> None:
    sent = notification(CONFIG, alert={"message": message, "alert_type": kind, "device_id": device})
    assert title(sent) == one_line(title(sent))
    assert body(sent) == clean(body(sent)) != ""


def test_an_alert_of_nothing_that_can_be_shown_is_an_alert() -> None:
    sent = notification(CONFIG, alert={"alert_id": "_", "alert_type": " ", "message": "\a"})
    assert body(sent) == "Alert"
    assert title(sent).startswith("Error: Alert")


def test_facts_hold_what_the_alert_holds_and_nothing_empty() -> None:
    alert = {"details": {"camera_id": "c", "zone": ["a", 1], "empty": "", "device_tags": {"floor": "2"}}}
    rows = dict(facts(notification(CONFIG, alert=alert)))
    assert rows == {
        "Severity": "error (3)",
        "Type": "smoke_detected",
        "Device": "cam-3",
        "Site": "berlin",
        "Triggered": "2026-11-03T20:26:09Z",
        "Alert": "4711",
        "Camera": "c",
        "floor": "2",
        "zone": '["a",1]',
    }
    assert ("Triggered", "2026-11-03T20:26:10.344Z") in facts(
        notification(CONFIG, alert={"triggered_at": None, "details": None})
    )


def test_moments_are_written_in_utc() -> None:
    berlin = timezone(timedelta(hours=1))
    assert rfc3339(datetime(2026, 11, 3, 21, 26, 10, tzinfo=berlin)) == "2026-11-03T20:26:10.000Z"
    assert rfc3339(datetime(2026, 11, 3, 20, 26, 10, 344999, tzinfo=UTC)) == "2026-11-03T20:26:10.344Z"

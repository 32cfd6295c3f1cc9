from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ingest.mapping import IDENTIFIER, Mapping, canonical, identifier, name, parse_severities
from model.alert import MAX_SEVERITY
from model.problems import InvalidInput


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("info", 1),
        ("Warning", 2),
        (" CRITICAL ", 4),
        ("error", 3),
        ("none", 0),
        ("3", 3),
        ("0", 0),
        ("9999999", MAX_SEVERITY),
    ],
)
def test_words_and_numbers(word: str, number: int) -> None:
    assert Mapping().severity(word) == number


@pytest.mark.parametrize("word", [None, "", "blue", "-1", "1.5", "²", "99999999"])
def test_what_nobody_taught_us_has_the_default(word: str | None) -> None:
    assert Mapping(default_severity=3).severity(word) == 3


def test_a_producer_s_own_words_win() -> None:
    mapping = Mapping(severities=parse_severities("page=5, ticket=2 ,critical=1,7=3"))
    assert [mapping.severity(word) for word in ("page", "Ticket", "critical", "7", "error")] == [
        5,
        2,
        1,
        3,
        3,
    ]


@pytest.mark.parametrize(
    "text", ["page", "page=", "=4", "page=x", "page=-1", "page=1.5", "a=1;b=2", "page=1234567"]
)
def test_a_table_of_words_is_checked(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_severities(text)


@given(st.text())
def test_any_word_has_a_severity_that_an_alert_may_have(word: str) -> None:
    assert 0 <= Mapping().severity(word) <= MAX_SEVERITY


@given(st.text(max_size=2000))
def test_any_text_becomes_an_identifier_that_fits_and_stays_itself_if_it_can(text: str) -> None:
    found = identifier(text)
    assert len(found) <= IDENTIFIER
    assert (found == text) == (len(text) <= IDENTIFIER)


def test_long_texts_that_differ_have_identifiers_that_differ() -> None:
    assert identifier("a" * 300) != identifier("a" * 299 + "b")


def test_labels_that_become_tags() -> None:
    labels = {"team": "web", "instance": "db-1"}
    assert Mapping().device_tags(labels) == labels
    assert Mapping(tags=frozenset({"team"})).device_tags(labels) == {"team": "web"}
    assert Mapping(tags=frozenset()).device_tags(labels) == {}


@given(
    st.datetimes(timezones=st.just(UTC)),
    st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_a_moment_has_one_text_in_every_zone(moment: datetime, zone: timezone) -> None:
    try:
        elsewhere = moment.astimezone(zone)
    except OverflowError:
        return
    assert canonical(elsewhere) == canonical(moment)
    assert datetime.fromisoformat(canonical(moment)) == moment


def test_the_first_moment_there_is() -> None:
    assert canonical(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2)))) == "0001-01-01T00:00:00.000000Z"


def test_names_are_cut_and_empty_ones_are_none() -> None:
    assert name("x" * 300) == "x" * IDENTIFIER
    assert name("") is None
    assert name(None) is None

"""What an answer means: its status, its Retry-After, and what may be shown of its body."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from senders.http import MAX_RETRY_AFTER, Answer, classify, parse_retry_after
from senders.outcomes import Misconfigured, Receipt, Rejected, SendError, Transient
from senders.redaction import url_secrets
from tests.unit.senders.support import CANARY, client, receiving

NOW = datetime(2026, 11, 3, 20, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, Receipt) for status in (200, 201, 202, 204, 299)),
        *((status, Misconfigured) for status in (301, 302, 303, 304, 307, 308)),
        *((status, Transient) for status in (408, 425, 429, 500, 501, 502, 503, 504, 520, 599)),
        *((status, Rejected) for status in (400, 401, 403, 404, 405, 409, 410, 411, 413, 415, 418, 422, 451)),
    ],
)
async def test_statuses(status: int, outcome: type[Any]) -> None:
    async with receiving(status=status, body=b"") as receiver, client() as http:
        answer = await http.post(receiver.url, content=b"{}", headers={})
        try:
            got: Any = classify(answer, detail="why")
        except SendError as error:
            got = error
        assert type(got) is outcome
        assert got.code.startswith(str(status))
        if outcome is not Misconfigured:
            assert got.detail == "why"


def test_a_provider_may_say_which_statuses_concern_the_channel() -> None:
    with pytest.raises(Misconfigured, match="404 no_service: gone"):
        classify(Answer(404, {}, b""), code="404 no_service", detail="gone", misconfigured={404})
    with pytest.raises(Transient):
        classify(Answer(429, {}, b""), misconfigured={429})
    assert classify(Answer(202, {}, b""), detail="taken", note="clipped") == Receipt(
        "202 Accepted", None, "clipped"
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("3601", MAX_RETRY_AFTER),
        ("9" * 5000, MAX_RETRY_AFTER),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=1), usegmt=True), MAX_RETRY_AFTER),
        ("Tuesday, 03-Nov-26 20:01:00 GMT", 60),
        ("Tue Nov  3 20:01:00 2026", 60),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("Mon, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds
    answer = Answer(503, httpx.Headers([(b"Retry-After", value.encode("latin-1"))]), b"")
    assert answer.retry_after(NOW) == seconds


@given(st.text(), st.datetimes(timezones=st.just(UTC)))
def test_no_retry_after_hurts(value: str, now: datetime) -> None:
    seconds = parse_retry_after(value, now)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)), st.integers(-9999, 9999))  # noqa: DTZ001  # the zone is added below
def test_an_http_date_is_counted_from_now(naive: datetime, offset: int) -> None:
    now = naive.replace(tzinfo=UTC, microsecond=0)
    header = format_datetime(now + timedelta(seconds=offset), usegmt=True)
    assert parse_retry_after(header, now) == min(max(offset, 0), MAX_RETRY_AFTER)


async def test_retry_after_reaches_the_outcome() -> None:
    async with receiving(status=429, headers={"Retry-After": "7"}) as receiver, client() as http:
        answer = await http.post(receiver.url, content=b"", headers={})
        with pytest.raises(Transient) as caught:
            classify(answer)
        assert caught.value.retry_after == 7


def test_an_answer_is_read_without_raising() -> None:
    assert Answer(200, {}, b'{"a": 1}').json() == {"a": 1}
    assert Answer(200, {}, b"\xff{").json() is None
    assert Answer(200, {}, b"\xff{").text == "\ufffd{"
    assert Answer(599, {}, b"").code == "599"
    assert CANARY not in repr(Answer(200, {"x": CANARY}, CANARY.encode()))


def test_excerpts_are_short_clean_and_redacted() -> None:
    url = f"https://example.org/services/T000/{CANARY}?sig=a%2Fb%2B{CANARY}&x=1#{CANARY}"
    body = f"Bad\r\n\x1b[31m {url} sig=a/b+{CANARY} a\\/b+{CANARY} a%2fb%2b " + "👍" * 300
    excerpt = Answer(400, {}, body.encode()).excerpt(url_secrets(url))
    assert excerpt.startswith("Bad [31m *** sig=***")
    assert CANARY not in excerpt
    assert len(excerpt) <= 200
    assert Answer(400, {}, f"got {url}".encode()).excerpt(url_secrets(url)) == "got ***"


def test_an_excerpt_is_made_of_the_beginning_alone() -> None:
    answer = Answer(400, {}, b" " * 4000 + b"key: canary-secret " * 4000)
    assert re.fullmatch(r"(key: \*\*\* )+k?…?", answer.excerpt(["canary-secret"]))
    assert Answer(400, {}, b" " * 4096 + b"said").excerpt() == "said"  # what is blank is no beginning

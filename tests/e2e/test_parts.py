"""What the pages are made of, alone: plots, weeks, words, sessions, masks, the pulse."""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peewee import OperationalError

from admin.keys import create_key, revoke_key
from api.console import cameras, live, plots, quiet, session, words
from api.console.figures import percentile
from api.console.live import Pulse
from api.console.page import age, bdi, clock, digits, excerpt, json_text, milliseconds
from api.console.plots import Series
from api.console.routes.entrance import inside
from api.console.routes.users import preferences_of
from model.database import connection
from model.preferences import DAYS, Preference
from model.states import DeliveryState, JobState, Reason
from model.tables import ApiKey
from model.vault import vault

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)

clocks = st.integers(0, 24 * 60 - 1).map(lambda minutes: f"{minutes // 60:02}:{minutes % 60:02}")
values = st.lists(st.none() | st.floats(0, 1e9, allow_nan=False), min_size=1, max_size=80)


def parsed(drawn: object) -> ET.Element:
    """Markup of ours, which is XML too."""
    return ET.fromstring(str(drawn))  # noqa: S314  # made a line before


# Plots.


@given(st.floats(0, 1e12, allow_nan=False))
def test_an_axis_ends_at_a_round_number_not_far_above(value: float) -> None:
    top = plots.nice(value)
    assert value <= top
    assert top <= max(1, value * 5)
    assert str(int(top)).rstrip("0") in {"1", "2", "5"}


@given(values, st.sampled_from([plots.bars, plots.lines]))
def test_a_plot_is_whole_svg_within_its_frame(found: list[float | None], draw: Any) -> None:
    times = [NOW + timedelta(minutes=index) for index in range(len(found))]
    drawn = draw("name", times, [Series("<b>one</b>", "good", found)], lambda value: f"{value:.3g}")
    root = parsed(drawn)
    assert root.find("title") is not None
    for each in root.iter("rect"):
        assert 0 <= float(each.attrib["x"]) <= plots.WIDTH
        assert 0 <= float(each.attrib["y"]) <= plots.HEIGHT
        assert float(each.attrib["height"]) >= 0
    for each in root.iter("path"):
        heights = [float(pair) for pair in re.findall(r"[ML][\d.]+ (-?[\d.]+)", each.attrib["d"])]
        assert all(0 <= height <= plots.HEIGHT for height in heights)


def test_large_numbers_are_whole_in_words_and_fit_the_axis() -> None:
    times = [NOW + timedelta(minutes=index) for index in range(4)]
    root = parsed(plots.bars("name", times, [Series("one", "good", [3, 1_234_567, 12_345, 999.6])], digits))
    axis = [each.text for each in root.iter("text") if each.attrib.get("text-anchor") == "end"]
    assert axis == ["0", "1M", "2M"]
    assert root.findtext("desc") == "one: at most 1,234,567, last 1,000."
    assert [plots.short(value) for value in (0.5, 25, 500, 2500, 20_000)] == [
        "0.5",
        "25",
        "500",
        "2.5k",
        "20k",
    ]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=5))
def test_a_share_adds_up(numbers: list[int]) -> None:
    drawn = plots.share([(f"part {index}", "good", number) for index, number in enumerate(numbers)])
    root = parsed(drawn)
    total = sum(float(each.attrib["width"]) for each in root.iter("rect"))
    assert total == pytest.approx(100 if sum(numbers) else 0, abs=0.1)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    found: list[float], wanted: int
) -> None:
    value = percentile(found, wanted)
    assert value in found
    assert sum(each <= value for each in found) * 100 >= wanted * len(found)
    assert sum(each < value for each in found) * 100 < wanted * len(found)


# The week.


@given(
    start=clocks,
    end=clocks,
    days=st.sets(st.sampled_from(DAYS)),
    enabled=st.booleans(),
    minute=st.integers(0, 7 * 24 * 60 - 1),
)
def test_the_week_shows_what_decides(
    start: str, end: str, days: set[Any], *, enabled: bool, minute: int
) -> None:  # drawn
    if start == end:
        return
    preference = Preference(
        quiet_hours_enabled=enabled,
        quiet_hours_start=start,
        quiet_hours_end=end,
        quiet_hours_days=[day for day in DAYS if day in days],
        quiet_hours_timezone="Asia/Tokyo",  # whose clocks never change, so that every minute is there once
    )
    monday = datetime(2026, 3, 30, tzinfo=ZoneInfo("Asia/Tokyo"))
    moment = monday + timedelta(minutes=minute)
    day = quiet.week(preference)[minute // (24 * 60)]
    of_day = minute % (24 * 60)
    assert any(begin <= of_day < over for begin, over in day.quiet) == preference.is_quiet(moment)
    spans = list(day.quiet)
    assert spans == sorted(spans)
    assert all(one[1] < two[0] for one, two in pairwise(spans))
    parsed(quiet.drawn(preference, at=moment))


# Words.


def test_reasons_and_states_are_explained_as_in_the_document() -> None:
    text = (ROOT / "docs/outcomes.md").read_text().replace("`", "")
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    states = {row[0]: row[1] for row in rows if len(row) == 2}
    reasons = {name.strip(): row[2] for row in rows if len(row) == 3 for name in row[0].split(",")}
    assert {state.value: states[state] for state in DeliveryState} == words.STATES
    assert {reason.value: reasons[reason] for reason in Reason} == words.REASONS


@pytest.mark.parametrize(
    "name", [*DeliveryState, *JobState, "ok", "failing", "misconfigured", "unknown", "deliver"]
)
def test_every_state_has_a_sign_and_a_word_besides_its_colour(name: str) -> None:
    shown = str(words.state(name))
    assert name.lower() in shown
    assert re.search(r'<span aria-hidden="true">[^·]</span>', shown) or 'class="badge mute"' in shown


@given(st.text())
def test_no_text_becomes_markup(text: str) -> None:
    for shown, tag in (
        (words.state(text), "span"),
        (words.outcome(text), "span"),
        (words.badge("good", "✓", text, text), "span"),
        (bdi(f"x{text}"), "bdi"),
    ):
        assert parsed(re.sub("[\x00-\x1f\ud800-\udfff\ufffe\uffff]", "", shown)).tag == tag


def test_numbers_are_short() -> None:
    shown = [milliseconds(value) for value in (None, 0, 4.21, 812.4, 3100)]
    assert shown == ["-", "0 ms", "4.2 ms", "812 ms", "3.1 s"]
    shown = [digits(value) for value in (0, 1 / 30, 12.34, 99.96, 100.4, 1234, 1e6)]
    assert shown == ["0", "0.0333", "12.3", "100", "100", "1,234", "1,000,000"]
    assert [age(value) for value in (0, 42, 300, 10_000, 400_000)] == [
        "0 s",
        "42 s",
        "5 min",
        "3 h",
        "5 days",
    ]


def test_json_shows_characters_that_change_directions() -> None:
    given_ = {"\u2066name": "\u202egnp.exe", "kept": "שלום 👨\u200d👩"}
    shown = json_text(given_)
    assert shown.splitlines()[1:3] == ['  "\\u2066name": "\\u202egnp.exe",', '  "kept": "שלום 👨\u200d👩"']
    assert orjson.loads(shown) == given_


@given(st.text(), st.integers(2, 50))
def test_an_excerpt_is_one_line_of_its_length(text: str, limit: int) -> None:
    shown = excerpt(text, limit)
    assert len(shown) <= limit
    assert "\n" not in shown


def test_a_moment_is_utc_until_the_script_knows_better() -> None:
    moment = datetime(2026, 3, 29, 3, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert clock(moment) == '<time datetime="2026-03-29T01:30:00.000Z">2026-03-29 01:30:00 UTC</time>'


# Doors.


@given(st.text() | st.builds("/{}".format, st.text(alphabet="/\\.:ab[]%?#\t\n ")))
def test_the_way_on_is_always_inside(address: str) -> None:
    found = inside(address)
    assert found.startswith("/")
    assert not found.startswith(("//", "/\\"))
    assert urlsplit(found)[:2] == ("", "")  # no scheme, no host


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["camera", "camera_wants", "camera_kinds", "camera_was", "quiet_hours_days"]),
            st.text(),
        )
    )
)
def test_whatever_a_form_says_is_read(fields: list[tuple[str, str]]) -> None:
    found = preferences_of(session.Form(fields))
    assert set(found) == set(Preference.model_fields)
    assert all(name.strip() for name in found["cameras"])


words_stored = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
kinds = st.lists(words_stored | st.sampled_from(["person, masked", " vehicle", "a\nb"]))
stored = st.dictionaries(
    words_stored | st.sampled_from([" cam 9", "cam 9", "a\r\nb"]),
    st.fixed_dictionaries({"enabled": st.booleans(), "smart_detection_types": st.none() | kinds}),
)


@given(stored)
def test_cameras_that_nobody_touched_stay_what_they_were(found: dict[str, Any]) -> None:
    sent = cameras.lines(found, spare=2)
    assert cameras.cameras_of(sent) == found
    assert not any(mark in field for line in sent for field in (line.name, line.kinds) for mark in "\r\n")


def test_what_a_form_changes_of_a_camera_is_changed_and_nothing_else() -> None:
    (line,) = cameras.lines(
        {" gate": {"enabled": True, "smart_detection_types": ["person, masked"]}}, spare=0
    )
    masked = ["person, masked"]
    for change, name, enabled, kinds in (
        ({"wants": "off"}, " gate", False, masked),
        ({"wants": "all"}, " gate", True, None),
        ({"kinds": "vehicle, , person"}, " gate", True, ["vehicle", "person"]),
        ({"name": " door "}, "door", True, masked),
        ({"was": "[]"}, "gate", True, ["person", "masked"]),
    ):
        changed = cameras.cameras_of([replace(line, **change)])
        assert changed == {name: {"enabled": enabled, "smart_detection_types": kinds}}, change
    assert cameras.cameras_of([replace(line, name=" ")]) == {}


@pytest.mark.usefixtures("database")
def test_a_session_lasts_as_long_as_its_key_and_no_longer_than_it_may() -> None:
    row, _ = create_key("acme", "admin", name="mine")
    now = 1_800_000_000.0
    cookie = session.cookie_of(row, "token", now)
    found = session.session_of(cookie, now + session.LIFETIME)
    assert found is not None
    assert (found.tenant_id, found.csrf, found.key_name, found.is_admin) == ("acme", "token", "mine", True)
    assert session.session_of(cookie, now + session.LIFETIME + 1) is None
    # An id that was given again, another document under the same key, a role that may not look.
    with connection():
        ApiKey.update(key_hash="0" * 64).where(ApiKey.id == row.id).execute()
    assert session.session_of(cookie, now) is None
    others: list[Any] = [{"purpose": "console session"}, [], "x", {"url": "https://example.org"}]
    for content in others:
        assert session.session_of(vault.encrypt(orjson.dumps(content)), now) is None
    producer, _ = create_key("acme", "ingest")
    assert session.session_of(session.cookie_of(producer, "t", now), now) is None
    other, _ = create_key("acme", "read")
    cookie = session.cookie_of(other, "t", now)
    assert session.session_of(cookie, now) is not None
    revoke_key("acme", other.id)
    assert session.session_of(cookie, now) is None


# The pulse.


class _Database:
    """A fingerprint that is what it was told."""

    def __init__(self) -> None:
        self.now = 0
        self.asked = 0

    def look(self, _tenant_id: str) -> tuple[object, ...]:
        self.asked += 1
        return (self.now,)


async def _next(stream: Any) -> str:
    async with asyncio.timeout(5):
        part: bytes = await anext(stream)
        return part.decode()


async def test_one_look_serves_every_page_of_a_tenant() -> None:
    database, stopping = _Database(), False
    pulse = Pulse(lambda: stopping, look=database.look, pause=0.01)
    streams = [pulse.listen("acme") for _ in range(20)]
    assert all(["event: hello" in await _next(each) for each in streams])
    asked = database.asked
    database.now = 1
    assert all(["event: change" in await _next(each) for each in streams])
    assert database.asked - asked < 20

    # Once nobody listens, nobody looks.
    for each in streams:
        await each.aclose()  # type: ignore[attr-defined]  # an async generator has it
    assert len(pulse) == 0
    await asyncio.sleep(0.05)
    asked = database.asked
    await asyncio.sleep(0.05)
    assert database.asked == asked
    await pulse.close()


async def test_that_the_database_is_away_and_back_is_told_once_each() -> None:
    away: list[int] = []

    def look(tenant_id: str) -> tuple[object, ...]:
        if away:
            raise OperationalError("away")
        return (tenant_id,)

    async def hear(tenant_id: str) -> None:
        async for _ in pulse.listen(tenant_id):
            heard.put_nowait(tenant_id)

    async def each_heard_once() -> None:
        async with asyncio.timeout(5):
            assert {await heard.get(), await heard.get()} == {"acme", "other"}
        await asyncio.sleep(0.1)
        assert heard.empty()

    heard: asyncio.Queue[str] = asyncio.Queue()
    pulse = Pulse(lambda: False, look=look, pause=0.01)
    listeners = [asyncio.create_task(hear(tenant_id)) for tenant_id in ("acme", "other")]
    await each_heard_once()
    away.append(1)
    await each_heard_once()
    away.clear()
    await each_heard_once()
    for each in listeners:
        each.cancel()
    await pulse.close()


async def test_streams_are_bounded_and_end_with_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "STREAMS", 2)
    stopping: list[int] = []
    pulse = Pulse(lambda: bool(stopping), look=_Database().look, pause=0.01)
    streams = [pulse.listen("acme") for _ in range(2)]
    for each in streams:
        await _next(each)
    with pytest.raises(live.FullError):
        await _next(pulse.listen("acme"))
    stopping.append(1)
    for each in streams:
        with pytest.raises(StopAsyncIteration):
            await _next(each)
    await pulse.close()


async def test_a_stream_ends_so_that_its_key_is_looked_at_again() -> None:
    pulse = Pulse(lambda: False, look=_Database().look, pause=0.01)
    parts = [part async for part in pulse.listen("acme", lifetime=0)]
    assert len(parts) == 1
    await pulse.close()


async def test_a_page_that_goes_while_the_first_look_is_under_way_is_not_counted() -> None:
    looking, go_on = threading.Event(), threading.Event()

    def look(_tenant_id: str) -> tuple[object, ...]:
        looking.set()
        go_on.wait(5)
        return ()

    pulse = Pulse(lambda: False, look=look, pause=0.01)
    listener = asyncio.create_task(_next(pulse.listen("acme")))
    assert await asyncio.to_thread(looking.wait, 5)
    listener.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await listener
    assert len(pulse) == 0
    await pulse.close()

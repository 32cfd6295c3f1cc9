"""Preferences: the order of the verdicts, and quiet hours as the clock on the user's wall shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from model.preferences import DAYS, DELIVER, Preference, Verdict
from model.problems import problems_of
from model.states import Reason

MINUTE = timedelta(minutes=1)
BERLIN = ZoneInfo("Europe/Berlin")


def _quiet(
    start: str = "22:00", end: str = "07:00", zone: str = "Europe/Berlin", **fields: Any
) -> Preference:
    return Preference.model_validate(
        {
            "quiet_hours_enabled": True,
            "quiet_hours_start": start,
            "quiet_hours_end": end,
            "quiet_hours_timezone": zone,
            **fields,
        }
    )


def _berlin(day: int, clock: str, *, month: int = 6, fold: int = 0) -> datetime:
    """A time of 2026 on Berlin's walls."""
    hour, minute = map(int, clock.split(":"))
    return datetime(2026, month, day, hour, minute, tzinfo=BERLIN, fold=fold)


NIGHT = _berlin(10, "23:00")
DAY = _berlin(10, "12:00")


def test_the_default_wants_everything_at_any_time() -> None:
    preference = Preference()

    assert preference.verdict({}, is_critical=False, at=NIGHT) == DELIVER
    assert preference.quiet_until(NIGHT) == NIGHT


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"camera_id": "off"}, Reason.CAMERA_DISABLED),
        ({"camera_id": "off", "smart_detection_type": "cat"}, Reason.CAMERA_DISABLED),
        ({"camera_id": "people", "smart_detection_type": "cat"}, Reason.DETECTION_TYPE),
        ({"camera_id": "people", "smart_detection_type": "person"}, Reason.QUIET_HOURS),
        ({"camera_id": "people"}, Reason.QUIET_HOURS),
        ({"camera_id": "people", "smart_detection_type": None}, Reason.QUIET_HOURS),
        ({"camera_id": "nothing", "smart_detection_type": "person"}, Reason.DETECTION_TYPE),
        ({"camera_id": "all", "smart_detection_type": "cat"}, Reason.QUIET_HOURS),
        ({"camera_id": 7}, Reason.CAMERA_DISABLED),
        ({"camera_id": "unknown", "smart_detection_type": "cat"}, Reason.QUIET_HOURS),
        ({"camera_id": None}, Reason.QUIET_HOURS),
        ({}, Reason.QUIET_HOURS),
        (None, Reason.QUIET_HOURS),
    ],
)
def test_the_first_verdict_wins_camera_then_detection_type_then_quiet_hours(
    details: dict[str, Any] | None, expected: Reason
) -> None:
    # Given every reason there is to keep a notification back
    preference = _quiet(
        cameras={
            "off": {"enabled": False, "smart_detection_types": []},
            "people": {"smart_detection_types": ["person"]},
            "nothing": {"smart_detection_types": []},
            "all": {},
            "7": {"enabled": False},
            "None": {"enabled": False},
        }
    )
    alert = {} if details is None else {"details": details}

    # Then the first that applies is the one that is told, at night and, but for the quiet hours, at noon
    assert preference.verdict(alert, is_critical=False, at=NIGHT) == Verdict("suppress", expected)
    at_noon = DELIVER if expected is Reason.QUIET_HOURS else Verdict("suppress", expected)
    assert preference.verdict(alert, is_critical=False, at=DAY) == at_noon


@pytest.mark.parametrize("overrides", [True, False])
def test_what_is_critical_overrides_quiet_hours_if_the_user_lets_it(overrides: bool) -> None:  # noqa: FBT001  # a case
    preference = _quiet(critical_overrides_quiet_hours=overrides)

    verdict = preference.verdict({}, is_critical=True, at=NIGHT)

    assert verdict == (DELIVER if overrides else Verdict("suppress", Reason.QUIET_HOURS))


def test_what_is_critical_does_not_switch_a_camera_on() -> None:
    preference = _quiet(cameras={"c": {"enabled": False}})

    verdict = preference.verdict({"details": {"camera_id": "c"}}, is_critical=True, at=NIGHT)

    assert verdict == Verdict("suppress", Reason.CAMERA_DISABLED)


def test_defer_says_until_when() -> None:
    preference = _quiet(quiet_hours_action="defer")

    assert preference.verdict({}, is_critical=False, at=NIGHT) == Verdict(
        "defer", Reason.QUIET_HOURS, _berlin(11, "07:00").astimezone(UTC)
    )
    assert preference.verdict({}, is_critical=False, at=DAY) == DELIVER


@pytest.mark.parametrize(
    ("start", "end", "quiet", "loud"),
    [
        ("22:00", "07:00", ["22:00", "23:59", "00:00", "06:59"], ["21:59", "07:00", "12:00"]),
        ("09:00", "17:30", ["09:00", "17:29"], ["08:59", "17:30", "00:00"]),
        ("22:00", "24:00", ["22:00", "23:59"], ["21:59", "00:00"]),
        ("22:00", "00:00", ["22:00", "23:59"], ["21:59", "00:00"]),
        ("00:00", "24:00", ["00:00", "12:00", "23:59"], []),
        ("00:00", "06:00", ["00:00", "05:59"], ["23:59", "06:00"]),
        ("22:00", "21:59", ["22:00", "21:58", "00:00"], ["21:59"]),
    ],
)
def test_the_start_belongs_to_a_window_and_the_end_does_not(
    start: str, end: str, quiet: list[str], loud: list[str]
) -> None:
    preference = _quiet(start, end)

    assert [clock for clock in quiet + loud if preference.is_quiet(_berlin(10, clock))] == quiet


def test_a_window_belongs_to_the_day_on_which_it_starts() -> None:
    # 2026-06-12 is a Friday.
    preference = _quiet("22:00", "07:00", quiet_hours_days=["fri"])

    assert not preference.is_quiet(_berlin(12, "06:00"))
    assert not preference.is_quiet(_berlin(12, "21:59"))
    assert preference.is_quiet(_berlin(12, "22:00"))
    assert preference.is_quiet(_berlin(13, "06:59"))
    assert not preference.is_quiet(_berlin(13, "07:00"))
    assert not preference.is_quiet(_berlin(13, "22:00"))


def test_without_days_it_is_never_quiet() -> None:
    assert not _quiet("00:00", "24:00", quiet_hours_days=[]).is_quiet(NIGHT)


def test_the_zone_is_the_users_whatever_the_caller_counts_in() -> None:
    preference = _quiet("22:00", "07:00", "Asia/Kathmandu")

    # 16:15 UTC is 22:00 in Kathmandu, which is 5:45 ahead.
    for zone in (UTC, timezone(timedelta(hours=-11)), BERLIN):
        at = datetime(2026, 6, 10, 16, 15, tzinfo=UTC).astimezone(zone)
        assert preference.is_quiet(at)
        assert not preference.is_quiet(at - MINUTE)
        assert preference.quiet_until(at) == datetime(2026, 6, 11, 1, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "at", "until"),
    [
        # 2026-03-29: 02:00 becomes 03:00 at 01:00 UTC. The night is an hour shorter.
        (("22:00", "07:00"), "2026-03-28T21:00Z", "2026-03-29T05:00Z"),
        # The end is skipped: then it is the moment of the jump.
        (("22:00", "02:30"), "2026-03-28T23:00Z", "2026-03-29T01:00Z"),
        (("22:00", "02:00"), "2026-03-28T23:00Z", "2026-03-29T01:00Z"),
        # 2026-10-25: 03:00 becomes 02:00 at 01:00 UTC. The night is an hour longer.
        (("22:00", "07:00"), "2026-10-24T20:00Z", "2026-10-25T06:00Z"),
        # The end comes twice: the first ends it, and the clock goes back into the window for a second time.
        (("22:00", "02:30"), "2026-10-24T23:00Z", "2026-10-25T00:30Z"),
        (("22:00", "02:30"), "2026-10-25T01:10Z", "2026-10-25T01:30Z"),
        # The clock goes back to before the start.
        (("02:30", "07:00"), "2026-10-25T00:45Z", "2026-10-25T01:00Z"),
    ],
)
def test_both_days_of_the_clock_change_in_berlin(window: tuple[str, str], at: str, until: str) -> None:
    assert _quiet(*window).quiet_until(datetime.fromisoformat(at)) == datetime.fromisoformat(until)


def test_a_user_who_is_never_to_be_disturbed_gets_a_moment_a_week_away() -> None:
    preference = _quiet("00:00", "24:00", quiet_hours_action="defer")

    until = preference.verdict({}, is_critical=False, at=NIGHT).until

    assert until is not None
    assert timedelta(days=7) <= until - NIGHT <= timedelta(days=8)


# The days of the clock changes: at different hours, by half an hour, at midnight, or never.
CHANGES = {
    "Europe/Berlin": ["2026-03-29", "2026-10-25"],
    "America/New_York": ["2026-03-08", "2026-11-01"],
    "Australia/Lord_Howe": ["2026-04-05", "2026-10-04"],
    "Asia/Kathmandu": ["2026-06-10"],
    "America/Santiago": ["2026-04-05", "2026-09-06"],
    "Africa/Cairo": ["2026-04-24", "2026-10-30"],
}


@st.composite
def _moments(draw: st.DrawFn) -> tuple[str, datetime]:
    zone = draw(st.sampled_from(sorted(CHANGES)))
    day = datetime.fromisoformat(draw(st.sampled_from(CHANGES[zone]))).replace(tzinfo=UTC)
    return zone, day + draw(st.integers(-36 * 60, 36 * 60)) * MINUTE


def _clocks(*, last: int) -> st.SearchStrategy[str]:
    """Times of day, half of them near the hours in which clocks are changed."""
    minutes = st.integers(0, last) | st.integers(0, 4 * 6).map(lambda n: n * 10)
    return minutes.map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")


def _scanned(preference: Preference, at: datetime) -> datetime | None:
    """The answer by brute force: look at every minute of four days."""
    minute = at
    while minute < at + timedelta(days=4):
        if not preference.is_quiet(minute):
            return minute
        minute += MINUTE
    return None


@hypothesis_settings(max_examples=400)
@given(
    moment=_moments(),
    start=_clocks(last=24 * 60 - 1),
    end=_clocks(last=24 * 60),
    days=st.lists(st.sampled_from(DAYS), unique=True) | st.just(list(DAYS)),
)
@example(("Europe/Berlin", datetime(2026, 10, 25, 0, 50, tzinfo=UTC)), "02:45", "02:15", list(DAYS))
@example(("America/Santiago", datetime(2026, 4, 5, 2, 30, tzinfo=UTC)), "00:00", "24:00", ["sat"])
@example(("Africa/Cairo", datetime(2026, 4, 23, 12, 0, tzinfo=UTC)), "12:00", "24:00", ["thu"])
def test_the_end_of_the_quiet_is_what_looking_at_every_minute_finds(
    moment: tuple[str, datetime], start: str, end: str, days: list[str]
) -> None:
    if start == end:
        return
    zone, at = moment
    preference = _quiet(start, end, zone, quiet_hours_days=days)

    until = preference.quiet_until(at)

    assert until >= at
    expected = _scanned(preference, at)
    if expected is None:
        assert until >= at + timedelta(days=4)
    else:
        assert until == expected
        assert until.tzinfo is UTC
    if until > at:
        assert preference.is_quiet(until - timedelta(microseconds=1))


@given(moment=_moments(), seconds=st.integers(0, 59), microseconds=st.integers(0, 999_999))
def test_the_end_is_on_the_minute_whenever_one_asks(
    moment: tuple[str, datetime], seconds: int, microseconds: int
) -> None:
    zone, at = moment
    preference = _quiet("22:00", "07:00", zone)
    asked = at.replace(second=seconds, microsecond=microseconds)

    until = preference.quiet_until(asked)

    assert not preference.is_quiet(until)
    if preference.is_quiet(asked):
        assert (until.second, until.microsecond) == (0, 0)
        assert preference.is_quiet(until - timedelta(microseconds=1))
    else:
        assert until == asked


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"quiet_hours_enabled": "yes"}, "quiet_hours_enabled", "boolean"),
        ({"quiet_hours_start": "7:00"}, "quiet_hours_start", '"HH:MM"'),
        ({"quiet_hours_start": "24:00"}, "", "must be before 24:00"),
        ({"quiet_hours_end": "24:01"}, "quiet_hours_end", '"HH:MM"'),
        ({"quiet_hours_end": "07:60"}, "quiet_hours_end", '"HH:MM"'),
        ({"quiet_hours_end": "07:00\n"}, "quiet_hours_end", '"HH:MM"'),
        ({"quiet_hours_end": "0\u0667:00"}, "quiet_hours_end", '"HH:MM"'),
        ({"quiet_hours_end": 700}, "quiet_hours_end", "string"),
        ({"quiet_hours_start": "07:00"}, "", "must differ from quiet_hours_start"),
        ({"quiet_hours_timezone": "Berlin"}, "quiet_hours_timezone", "IANA time zone"),
        ({"quiet_hours_timezone": "../../etc/passwd"}, "quiet_hours_timezone", "IANA time zone"),
        ({"quiet_hours_timezone": ""}, "quiet_hours_timezone", "IANA time zone"),
        ({"quiet_hours_days": ["monday"]}, "quiet_hours_days[0]", "'mon'"),
        ({"quiet_hours_days": ["mon"] * 8}, "quiet_hours_days", "at most 7"),
        ({"quiet_hours_action": "drop"}, "quiet_hours_action", "'skip' or 'defer'"),
        ({"critical_overrides_quiet_hours": 1}, "critical_overrides_quiet_hours", "boolean"),
        ({"cameras": []}, "cameras", "dictionary"),
        ({"cameras": {"c": {"enabled": "no"}}}, "cameras.c.enabled", "boolean"),
        ({"cameras": {"c": {"smart_detection_types": "cat"}}}, "cameras.c.smart_detection_types", "list"),
        ({"cameras": {"c": {"enable": True}}}, "cameras.c.enable", "no such field"),
        ({"quiet_hour_start": "07:00"}, "quiet_hour_start", "did you mean quiet_hours_start?"),
    ],
)
def test_a_wrong_preference_is_refused_by_field(changes: dict[str, Any], field: str, rule: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Preference.model_validate(changes)

    (problem,) = problems_of(caught.value, known=Preference.model_fields)
    assert problem.field == field
    assert rule in problem.rule


@pytest.mark.parametrize("camera", ["", "a\0", "\ud800", "x" * 256])
def test_a_camera_has_a_name_that_can_be_stored(camera: str) -> None:
    with pytest.raises(ValidationError):
        Preference.model_validate({"cameras": {camera: {}}})

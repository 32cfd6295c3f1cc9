"""What an attempt's outcome means: every outcome, every limit at its edge."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.decide import KEY, TURN, Attempt, after_sending, backoff, before_sending, outcome_name
from config import load_settings
from model.channels import ChannelRef
from model.database import Unreadable
from model.ledger import Claim, Settlement
from model.states import DeliveryState, Reason
from model.tables import NO_DEVICE
from senders import outcomes
from senders.outcomes import (
    Misconfigured,
    NotConfigured,
    Receipt,
    Rejected,
    SendError,
    TargetGone,
    Transient,
)

NOW = datetime(2026, 3, 28, 12, tzinfo=UTC)
PAUSE = timedelta(seconds=7)
CHANNEL = ChannelRef(10, "acme", "push", is_enabled=True, health="ok", updated_at=NOW, config={})


def _claim(**fields: Any) -> Claim:
    claim = Claim(
        delivery_id=1,
        job_id=2,
        tenant_id="acme",
        channel_id=10,
        device_id=5,
        user_id="alice",
        sender="apns",
        attempts=1,
        lease_until=NOW + timedelta(minutes=1),
        expires_at=NOW + timedelta(hours=1),
        alert_id="7",
        event="OPEN",
        payload={"alert_id": 7},
        severity=3,
        is_critical=False,
        accepted_at=NOW - timedelta(seconds=1),
        claimed_at=NOW,
        later=False,
        earlier_under_way=False,
        platform="ios",
        token="0f",
        subscription=None,
        device_disabled=False,
    )
    return replace(claim, **fields)


def _after(
    result: Receipt | BaseException, *, max_retries: int = 3, now: datetime = NOW, **fields: Any
) -> Settlement:
    attempt = Attempt(_claim(**fields), result, 12.5)
    return after_sending(attempt, max_retries=max_retries, pause=PAUSE, now=now)


# Worst first: a claim to which several apply gets the first one's reason.
BARRIERS: list[tuple[dict[str, Any], ChannelRef | None, DeliveryState, Reason]] = [
    ({}, None, DeliveryState.FAILED, Reason.CHANNEL_DELETED),
    ({}, replace(CHANNEL, tenant_id="other"), DeliveryState.FAILED, Reason.CHANNEL_DELETED),
    ({"platform": None}, CHANNEL, DeliveryState.FAILED, Reason.DEVICE_DELETED),
    ({}, replace(CHANNEL, channel_type="slack"), DeliveryState.FAILED, Reason.MISCONFIGURED),
    ({"later": True}, CHANNEL, DeliveryState.SUPERSEDED, Reason.LATER_EVENT),
    ({"expires_at": NOW}, CHANNEL, DeliveryState.EXPIRED, Reason.TOO_LATE),
    ({}, replace(CHANNEL, is_enabled=False), DeliveryState.SUPPRESSED, Reason.CHANNEL_DISABLED),
    ({"device_disabled": True}, CHANNEL, DeliveryState.SUPPRESSED, Reason.DEVICE_DISABLED),
    ({"attempts": 5}, CHANNEL, DeliveryState.FAILED, Reason.EXHAUSTED),
    ({"earlier_under_way": True}, CHANNEL, DeliveryState.RETRYING, Reason.EARLIER_EVENT_UNDER_WAY),
]


LOST = replace(CHANNEL, config=Unreadable())


@pytest.mark.parametrize(
    ("left", "state", "reason", "pause"),
    [
        (timedelta(hours=1), DeliveryState.RETRYING, Reason.UNREADABLE, KEY),
        (KEY / 2, DeliveryState.RETRYING, Reason.UNREADABLE, KEY / 2),
        (timedelta(0), DeliveryState.FAILED, Reason.MISCONFIGURED, None),
    ],
)
@pytest.mark.parametrize("attempts", [1, 9])
def test_what_no_key_decrypts_waits_for_one_as_long_as_it_is_worth_sending(
    left: timedelta, state: DeliveryState, reason: Reason, pause: timedelta | None, attempts: int
) -> None:
    # How often it may be tried is in the config too.
    settlement = before_sending(
        _claim(expires_at=NOW + left, attempts=attempts), LOST, max_retries=3, now=NOW
    )

    assert settlement is not None
    assert (settlement.state, settlement.reason, settlement.counts_attempt) == (state, reason, False)
    assert settlement.next_attempt_at == (None if pause is None else NOW + pause)


@pytest.mark.parametrize(("fields", "channel", "state", "reason"), BARRIERS)
def test_what_keeps_a_claim_from_being_sent(
    fields: dict[str, Any], channel: ChannelRef | None, state: DeliveryState, reason: Reason
) -> None:
    settlement = before_sending(_claim(**fields), channel, max_retries=3, now=NOW)

    assert settlement is not None
    assert (settlement.state, settlement.reason) == (state, reason)
    # Nothing was sent, so no attempt is used up.
    assert not settlement.counts_attempt
    assert settlement.next_attempt_at == (NOW + TURN if state is DeliveryState.RETRYING else None)


@given(chosen=st.sets(st.integers(0, len(BARRIERS) - 1), min_size=1))
def test_of_several_barriers_the_first_is_told(chosen: set[int]) -> None:
    fields: dict[str, Any] = {}
    channel: ChannelRef | None = CHANNEL
    for number in sorted(chosen, reverse=True):
        changes, mine, _, _ = BARRIERS[number]
        fields |= changes
        channel = mine if mine is not CHANNEL else channel

    settlement = before_sending(_claim(**fields), channel, max_retries=3, now=NOW)

    assert settlement is not None
    assert settlement.reason == BARRIERS[min(chosen)][3]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"expires_at": NOW + timedelta(microseconds=1)},
        {"attempts": 4},
    ],
)
def test_what_nothing_keeps_back_is_sent(fields: dict[str, Any]) -> None:
    assert before_sending(_claim(**fields), CHANNEL, max_retries=3, now=NOW) is None


def test_a_channel_itself_is_sent_to_as_what_it_is() -> None:
    claim = _claim(device_id=NO_DEVICE, platform=None, sender="webhook")
    for channel_type in ("webhook", "http"):
        assert (
            before_sending(claim, replace(CHANNEL, channel_type=channel_type), max_retries=3, now=NOW) is None
        )


@pytest.mark.parametrize(
    ("attempts", "max_retries", "sent"),
    [(1, 0, True), (3, 0, True), (4, 0, False), (3, 1, True), (4, 2, False), (4, 3, True), (5, 3, False)],
)
def test_claims_that_came_to_nothing_are_made_again_a_few_times(
    attempts: int, max_retries: int, *, sent: bool
) -> None:
    settlement = before_sending(_claim(attempts=attempts), CHANNEL, max_retries=max_retries, now=NOW)

    assert (settlement is None) is sent


@pytest.mark.parametrize(
    ("result", "state", "reason", "name"),
    [
        (Receipt("200", "id-1"), DeliveryState.DELIVERED, None, "ok"),
        (Rejected("413"), DeliveryState.FAILED, Reason.REJECTED, "rejected"),
        (TargetGone("410"), DeliveryState.FAILED, Reason.TARGET_GONE, "target_gone"),
        (Misconfigured("403"), DeliveryState.FAILED, Reason.MISCONFIGURED, "misconfigured"),
        (NotConfigured("apns", "x"), DeliveryState.FAILED, Reason.PROVIDER_NOT_CONFIGURED, "not_configured"),
        (Transient("503"), DeliveryState.RETRYING, Reason.TRANSIENT, "transient"),
        (SendError("?"), DeliveryState.FAILED, Reason.INTERNAL, "internal"),
        (ValueError("secret"), DeliveryState.FAILED, Reason.INTERNAL, "internal"),
        (KeyboardInterrupt(), DeliveryState.FAILED, Reason.INTERNAL, "internal"),
    ],
)
def test_each_outcome_has_its_state_reason_and_name(
    result: Receipt | BaseException, state: DeliveryState, reason: Reason | None, name: str
) -> None:
    settlement = _after(result)

    assert (settlement.state, settlement.reason) == (state, reason)
    assert outcome_name(result) == name
    assert settlement.latency_ms == 12.5
    assert settlement.counts_attempt
    assert (settlement.next_attempt_at is not None) is (state is DeliveryState.RETRYING)
    assert "secret" not in str(settlement.code)


def test_every_error_of_the_senders_has_a_name_of_its_own() -> None:
    kinds = [
        kind for kind in vars(outcomes).values() if isinstance(kind, type) and issubclass(kind, SendError)
    ]
    results = [kind("a", "b") for kind in kinds if kind is not SendError]

    names = [outcome_name(result) for result in results]

    assert len(results) == 5
    assert len(set(names)) == len(names)
    assert "internal" not in names


@pytest.mark.parametrize(
    ("result", "code", "provider_id"),
    [
        (Receipt("202 queued", "id-1"), "202 queued", "id-1"),
        (Transient("429", provider_id="id-2"), "429", "id-2"),
        (Rejected("413"), "413", None),
        (ZeroDivisionError("x"), "ZeroDivisionError", None),
    ],
)
def test_the_providers_words_are_kept(
    result: Receipt | BaseException, code: str, provider_id: str | None
) -> None:
    settlement = _after(result)

    assert (settlement.code, settlement.provider_id) == (code, provider_id)


@pytest.mark.parametrize(("retry_after", "wait"), [(None, 7), (0, 7), (3, 7), (7, 7), (7.5, 7.5), (120, 120)])
def test_the_longer_of_backoff_and_retry_after_counts(retry_after: float | None, wait: float) -> None:
    settlement = _after(Transient("429", retry_after=retry_after))

    assert settlement.next_attempt_at == NOW + timedelta(seconds=wait)


@pytest.mark.parametrize(("attempts", "max_retries"), [(1, 0), (4, 3), (101, 100), (5, 3)])
def test_the_last_attempt_that_may_be_made_exhausts_a_delivery(attempts: int, max_retries: int) -> None:
    settlement = _after(Transient("503"), attempts=attempts, max_retries=max_retries)

    assert (settlement.state, settlement.reason) == (DeliveryState.FAILED, Reason.EXHAUSTED)
    assert settlement.code == "503"


def test_a_retry_that_would_be_due_when_it_is_worthless_expires() -> None:
    at_the_edge = _after(Transient("503"), expires_at=NOW + PAUSE)
    just_before = _after(Transient("503"), expires_at=NOW + PAUSE + timedelta(microseconds=1))

    assert (at_the_edge.state, at_the_edge.reason) == (DeliveryState.EXPIRED, Reason.TOO_LATE)
    assert just_before.state is DeliveryState.RETRYING


def test_a_delivery_that_succeeds_after_its_expiry_is_delivered() -> None:
    assert _after(Receipt("200"), expires_at=NOW - PAUSE).state is DeliveryState.DELIVERED


@given(
    attempts=st.integers(1, 10),
    max_retries=st.integers(0, 10),
    retry_after=st.none() | st.floats(0, 86_400),
    life=st.integers(0, 90_000),
)
def test_only_what_has_attempts_and_time_left_is_tried_again(
    attempts: int, max_retries: int, retry_after: float | None, life: int
) -> None:
    expires_at = NOW + timedelta(seconds=life)

    settlement = _after(
        Transient("x", retry_after=retry_after),
        attempts=attempts,
        max_retries=max_retries,
        expires_at=expires_at,
    )

    if settlement.state is DeliveryState.RETRYING:
        assert settlement.next_attempt_at is not None
        assert attempts <= max_retries
        assert NOW + PAUSE <= settlement.next_attempt_at < expires_at
    else:
        assert settlement.next_attempt_at is None
        assert attempts > max_retries or settlement.state is DeliveryState.EXPIRED


@given(attempts=st.integers(1, 100), least=st.floats(0.01, 100), factor=st.floats(1, 1000))
def test_the_backoff_doubles_with_jitter_and_stays_within_its_bounds(
    attempts: int, least: float, factor: float
) -> None:
    most = least * factor
    settings = load_settings(retry_min_backoff=least, retry_max_backoff=most)

    seconds = backoff(settings, attempts).total_seconds()

    expected = least * 2 ** min(attempts - 1, 32)
    assert seconds <= most
    # Half of the most, where the doubling would exceed it; a millisecond for the rounding.
    assert seconds >= min(expected, most / 2) - 0.002
    assert seconds <= 2 * expected


def test_the_first_backoff_is_drawn_anew_each_time() -> None:
    settings = load_settings()

    draws = {backoff(settings, 1) for _ in range(50)}

    assert len(draws) > 10
    assert all(timedelta(seconds=5) <= draw <= timedelta(seconds=10) for draw in draws)

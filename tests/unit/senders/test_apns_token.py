"""The provider token: one for all connections, for forty minutes, and what Apple says of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import jwt
import pytest

from receivers.keys import pem
from senders.apns_pool import ProviderToken
from senders.outcomes import Misconfigured, Transient
from tests.unit.senders.apns_support import KEY, alert_push
from tests.unit.senders.push_support import Clock, apns_sender, faulty_apns
from tests.unit.senders.support import outcome

if TYPE_CHECKING:
    from pathlib import Path


async def test_all_connections_share_one_token(tmp_path: Path) -> None:
    async with (
        faulty_apns(tmp_path, on_request=lambda _: None, max_streams=1) as apns,
        apns_sender(apns) as sender,
    ):
        sends = [asyncio.create_task(sender.send(alert_push())) for _ in range(4)]
        for request in list(await apns.arrived(4)):
            request.answer()
        await asyncio.gather(*sends)
    assert len(apns.connections) == 4
    assert len({request.headers["authorization"] for request in apns.requests}) == 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def token(clock: Clock) -> ProviderToken:
    return ProviderToken(pem(KEY).decode(), "KEY1234567", "TEAM123456", clock)


def test_a_token_lives_forty_minutes(token: ProviderToken, clock: Clock) -> None:
    first = token.get_header()
    clock.pass_by(40 * 60 - 1)
    assert token.get_header() == first
    clock.pass_by(1)
    assert token.get_header() != first


def test_an_expired_token_is_replaced_once(token: ProviderToken, clock: Clock) -> None:
    # Given a hundred sends with one token
    first = token.get_header()
    # When Apple calls it expired a hundred times
    assert all(token.expired(first) for _ in range(100))
    # Then one new one was made, and if that counts as expired as well the clock is wrong
    second = token.get_header()
    assert second != first
    assert not token.expired(second)
    assert token.get_header() == second
    clock.pass_by(20 * 60)
    assert token.expired(second)


def test_too_many_updates_brings_the_old_token_back_for_twenty_minutes(
    token: ProviderToken, clock: Clock
) -> None:
    first = token.get_header()
    clock.pass_by(40 * 60)
    second = token.get_header()
    token.too_many_updates(second)
    assert token.get_header() == first
    assert not token.expired(first)
    clock.pass_by(20 * 60 - 1)
    assert token.get_header() == first
    clock.pass_by(1)
    assert token.get_header() not in {first, second}


@pytest.mark.parametrize("seconds", [-7200, 7200])
def test_a_clock_that_is_set_makes_another_token(token: ProviderToken, clock: Clock, seconds: float) -> None:
    first = token.get_header()
    clock.wall += seconds
    second = token.get_header()
    assert [_issued(header) for header in (first, second)] == [Clock.BEGIN, Clock.BEGIN + seconds]
    # And it counts as many minutes as any other
    clock.pass_by(40 * 60 - 1)
    assert token.get_header() == second
    clock.pass_by(1)
    assert token.get_header() != second


def test_a_clock_that_is_set_back_lengthens_no_pause(token: ProviderToken, clock: Clock) -> None:
    token.too_many_updates(token.get_header())
    assert not token.expired(first := token.get_header())
    clock.wall -= 7200
    assert token.get_header() == first  # Apple wants no other
    clock.pass_by(20 * 60)
    assert token.expired(first)
    assert token.get_header() != first


def _issued(header: str) -> float:
    claims = jwt.decode(header.removeprefix("bearer "), options={"verify_signature": False})
    return float(claims["iat"])


async def test_an_expired_token_costs_one_retry_and_no_more(tmp_path: Path) -> None:
    async with (
        faulty_apns(tmp_path, on_request=lambda r: r.answer(403, "ExpiredProviderToken")) as apns,
        apns_sender(apns) as sender,
    ):
        assert type(await outcome(sender, alert_push())) is Transient
        assert type(await outcome(sender, alert_push())) is Misconfigured
    assert len({request.headers["authorization"] for request in apns.requests}) == 2

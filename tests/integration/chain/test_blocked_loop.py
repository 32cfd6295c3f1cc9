"""What was claimed before the event loop stood still, and not begun, is left to its lease."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from actors.broker import runtime

if TYPE_CHECKING:
    from tests.integration.chain.conftest import Chain

PACE = {"send_deadline": 1, "time_limit": 2, "lease": 3, "sweep_grace_idle": 0.1}


@pytest.mark.alone("a claim while the loop is blocked, for less than a lease")
@pytest.mark.parametrize("chain", [PACE], indirect=True)
def test_a_send_that_comes_too_late_is_not_begun(chain: Chain) -> None:
    chain.rule(chain.channel("hook"))
    assert runtime._loop is not None
    # Given a loop that is blocked for longer than a lease leaves time for a send, while threads live and claim
    runtime._loop.call_soon_threadsafe(time.sleep, 2.7)

    chain.send({"alert_id": 1})

    # Then the claim that waited for the loop is not sent: the next one is
    assert chain.settled() == [("1", "OPEN", "hook", "DELIVERED", None, 2)]
    assert len(chain.far.webhook.received) == 1

"""A request of the HTTP client that fails, and a canary that its error must not show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from senders.outcomes import SendError
from tests.unit.senders.support import CANARY

if TYPE_CHECKING:
    from senders.http import HttpClient


async def failure(http: HttpClient, url: str, **more: Any) -> SendError:
    """The error of a request, with nothing of the URL in it or hanging on it."""
    with pytest.raises(SendError) as caught:
        await http.post(f"{url}/{CANARY}?sig={CANARY}", content=b"{}", headers={"x-token": CANARY}, **more)
    error = caught.value
    chain: list[BaseException | None] = [error, error.__cause__, error.__context__]
    assert not any(CANARY in f"{one!r} {one}" for one in chain)
    return error

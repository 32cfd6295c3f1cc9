"""What is kept for each set of credentials is bounded, and not taken from under who uses it."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from senders.kept import Kept, Opened
from senders.registry import ALL
from tests.unit.senders.support import loopback_settings

if TYPE_CHECKING:
    from senders.base import Sender


class Closing:
    def __init__(self) -> None:
        self.closed: list[str] = []

    async def __call__(self, value: str) -> None:
        await asyncio.sleep(0)
        self.closed.append(value)


def use(kept: Kept[str, str], *keys: str) -> None:
    for key in keys:
        with kept.use(key, lambda key=key: key.upper()) as value:  # type: ignore[misc]  # mypy cannot infer it
            assert value == key.upper()


async def test_what_was_used_longest_ago_goes_first() -> None:
    closing = Closing()
    kept: Kept[str, str] = Kept(2, closing)
    use(kept, "a", "b", "a", "c")
    assert list(kept) == ["A", "C"]
    await kept.aclose()
    assert closing.closed == ["B", "A", "C"]
    assert not list(kept)


async def test_what_is_in_use_stays_however_many_there_are() -> None:
    closing = Closing()
    kept: Kept[str, str] = Kept(2, closing)
    with ExitStack() as stack:
        for key in "abc":
            stack.enter_context(kept.use(key, key.upper))
        stack.enter_context(kept.use("a", pytest.fail))
        await asyncio.sleep(0.001)
        assert list(kept) == ["B", "C", "A"]
        assert not closing.closed
    use(kept, "d")
    assert list(kept) == ["A", "D"]


async def test_what_nobody_uses_for_long_goes_when_another_comes() -> None:
    kept: Kept[str, str] = Kept(9, Closing(), unused=0.0)
    with kept.use("a", "A".upper):
        use(kept, "b")
        await asyncio.sleep(0.001)
        use(kept, "c")
        assert list(kept) == ["A", "C"]
    await kept.aclose()


async def test_what_cannot_be_made_is_not_kept() -> None:
    async def fail() -> str:
        raise OSError

    opened: Opened[str, str] = Opened(Closing())
    with pytest.raises(OSError), opened.open("a", fail) as making:  # noqa: PT011  # it is ours
        await asyncio.shield(making)
    assert not list(opened)


async def test_what_is_still_being_made_is_given_up() -> None:
    closing = Closing()
    opened: Opened[str, Any] = Opened(closing, most=1)
    with opened.open("a", asyncio.Event().wait) as making:
        pass
    with opened.open("b", asyncio.Event().wait):
        await asyncio.wait([making], timeout=1)
    assert making.cancelled()
    await opened.aclose()
    assert not closing.closed


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
async def test_no_sender_has_a_cache_without_bounds(kind: type[Sender[Any]]) -> None:
    sender = kind(loopback_settings(), None)  # type: ignore[arg-type]  # sends nothing
    assert not [name for name, value in vars(sender).items() if isinstance(value, dict)]
    await sender.aclose()

"""Where blocking work runs: never on the event loop.

Calls that publish run in threads of their own that live as long as the app. The broker keeps one connection a thread,
and the server's common threads come and go with the load: each would leave a connection behind.
"""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

P = ParamSpec("P")
T = TypeVar("T")

#: Threads that commit and publish. Each waits for the disk and the broker in turn; more would only queue there.
PUBLISHERS = 8
#: Channel tests at one time: each waits for the far side, up to TOCSIN_SEND_DEADLINE.
TESTERS = 4


class Workshop:
    """The app's threads."""

    def __init__(self) -> None:
        self.publishers = ThreadPoolExecutor(PUBLISHERS, thread_name_prefix="tocsin-publish")
        self.testers = ThreadPoolExecutor(TESTERS, thread_name_prefix="tocsin-test")

    def close(self) -> None:
        """Wait for what runs, and end."""
        self.publishers.shutdown()
        self.testers.shutdown()


async def publishing(request: Request, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what commits and publishes, and wait for it."""
    return await _run(request.app.state.workshop.publishers, partial(function, *args, **kwargs))


async def testing(request: Request, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what waits for a provider, and wait for it."""
    return await _run(request.app.state.workshop.testers, partial(function, *args, **kwargs))


async def _run(executor: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    # With this request's context, so that its id stands in every line that is logged there.
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(executor, context.run, call)

"""Where blocking work runs: never on the event loop.

Each kind of call has threads of its own, so that no other kind can take them: whoever searches, and a broker that does
not answer a probe, keep no alert from being accepted. The console runs in the server's common threads (api.app).

They live as long as the app. The broker keeps one connection a thread, and the server's common threads come and go with
the load: each would leave a connection behind.
"""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

from fastapi.routing import APIRoute

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

P = ParamSpec("P")
T = TypeVar("T")

#: Threads of intake: they look at its keys, commit and publish. One at a time does it for all who come together
#: (api.gather); the others are there for while that one waits for the database or the broker.
INTAKE = 10
#: Whatever else publishes: replays, which take turns, and messages from the console.
PUBLISHERS = 2
#: Probes and metrics, which anybody may ask for.
PROBES = 2
#: What readers and the console have at least, each.
FEWEST = 2
#: Bytes beyond which a body is a large one, which may take forty times as much once it is decoded, and requests with
#: such bodies that are worked on at a time.
LARGE = 1024 * 1024
LARGE_ONES = 2

#: Where a blocking endpoint of this request runs.
_threads: contextvars.ContextVar[ThreadPoolExecutor] = contextvars.ContextVar("threads")
_turn: contextvars.ContextVar[AbstractAsyncContextManager[None]] = contextvars.ContextVar("turn")


class Workshop:
    """The app's threads.

    Args:
        readers: threads of all calls of the API but intake.
    """

    def __init__(self, readers: int) -> None:
        self.intake = ThreadPoolExecutor(INTAKE, thread_name_prefix="tocsin-intake")
        self.readers = ThreadPoolExecutor(readers, thread_name_prefix="tocsin-read")
        self.probes = ThreadPoolExecutor(PROBES, thread_name_prefix="tocsin-probe")
        self.publishers = ThreadPoolExecutor(PUBLISHERS, thread_name_prefix="tocsin-publish")
        self.large = asyncio.Semaphore(LARGE_ONES)

    def close(self) -> None:
        """Wait for what runs, and end."""
        for each in (self.intake, self.readers, self.probes, self.publishers):
            each.shutdown()


class Call(APIRoute):
    """A route whose endpoint, where it blocks, runs in threads of its kind, and not in those that all share."""

    #: The name of a workshop's threads.
    threads: ClassVar[str] = "readers"

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, _in_its_threads(endpoint), **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, told where to run the endpoint."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            _threads.set(getattr(request.app.state.workshop, self.threads))
            return await inner(request)

        return handle


class Probe(Call):
    """The same for probes and metrics."""

    threads = "probes"


def _in_its_threads(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    if iscoroutinefunction(endpoint):
        return endpoint

    @wraps(endpoint)  # FastAPI reads the parameters of what was wrapped
    async def run(**values: Any) -> Any:
        return await _run(_threads.get(), partial(endpoint, **values))

    return run


async def accepting(request: Request, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what accepts alerts and notifications, and wait for it."""
    return await _run(request.app.state.workshop.intake, partial(function, *args, **kwargs))


async def reading(request: Request, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a part of any other call of the API, and wait for it."""
    return await _run(request.app.state.workshop.readers, partial(function, *args, **kwargs))


async def publishing(request: Request, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what publishes and is no intake, and wait for it."""
    return await _run(request.app.state.workshop.publishers, partial(function, *args, **kwargs))


def begin() -> None:
    """A request begins. It may come in the context of the one before it on its connection."""
    _turn.set(nullcontext())


def take_turns(request: Request, size: int) -> None:
    """Have the work of a request wait its turn from here on, if its body is a large one."""
    if size > LARGE:
        _turn.set(request.app.state.workshop.large)


def turn() -> AbstractAsyncContextManager[None]:
    """What the work of this request waits for before it takes a thread."""
    return _turn.get(nullcontext())


async def publishing_in_turns(request: Request, steps: Iterator[T]) -> T:
    """Run what publishes step by step, and other calls between them: of threads that all share, nobody keeps one.

    Args:
        steps: as many as it likes, one at least, in whichever thread.

    Returns:
        What the last step gave.
    """
    found: list[T] = []

    def step() -> bool:
        for each in steps:
            found[:] = [each]
            return True
        return False

    while await publishing(request, step):
        pass
    return found[0]


async def _run(executor: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    # With this request's context, so that its id stands in every line that is logged there.
    context = contextvars.copy_context()
    async with turn():
        return await asyncio.get_running_loop().run_in_executor(executor, context.run, call)

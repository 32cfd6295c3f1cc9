"""What all receivers share: the list of what arrived, and the answers that were ordered."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from receivers.records import Answer, Arrival, Received, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ANY = "*"
ORDINARY = Answer()


class Receiver(ABC):
    """The far side of one provider. Its public methods may be called from any thread.

    Args:
        verify: False records without verifying, for benchmarks: whatever arrives is answered as if it were
            right.
        on_received: called with each `Received` on the receiver's event loop; it must be quick.

    Attributes:
        name: apns, fcm, webpush, slack, teams, pagerduty or webhook.
        dead: what `Answer(dead=True)` means here.
    """

    name: ClassVar[str]
    dead: ClassVar[Answer]

    def __init__(self, *, verify: bool = True, on_received: Callable[[Received], None] | None = None) -> None:
        self.verify = verify
        self._on_received = on_received
        self._received: list[Received] = []
        self._changed = threading.Condition()
        self._scripts: dict[str, deque[Answer]] = {}
        self._standing: dict[str, Answer] = {}

    # What is ordered.

    def script(self, target: str, answers: Iterable[Answer]) -> None:
        """Order the next answers for a target (`*`: for any), one a request; after them all is as before."""
        with self._changed:
            self._scripts.setdefault(target, deque()).extend(answers)

    def always(self, target: str, answer: Answer) -> None:
        """Order the answer to every request for a target (`*`: for any) until `normal`."""
        with self._changed:
            self._standing[target] = answer

    def normal(self, target: str | None = None) -> None:
        """Forget what was ordered, for one target or (None) for all."""
        with self._changed:
            for orders in (self._scripts, self._standing):
                if target is None:
                    orders.clear()
                else:
                    orders.pop(target, None)

    # What arrived.

    @property
    def received(self) -> list[Received]:
        """All that arrived, oldest first: a copy."""
        with self._changed:
            return self._received.copy()

    def received_for(self, target: str) -> list[Received]:
        """All that arrived for one target, oldest first."""
        return [each for each in self.received if each.target == target]

    def wait_for(self, count: int, timeout: float = 10.0, target: str | None = None) -> list[Received]:
        """Block until at least `count` requests have arrived (for one target, or at all), and give them.

        Raises:
            TimeoutError: fewer arrived within `timeout` seconds.
        """
        found: list[Received] = []

        def enough() -> bool:
            nonlocal found
            found = [each for each in self._received if target is None or each.target == target]
            return len(found) >= count

        with self._changed:
            if not self._changed.wait_for(enough, timeout):
                raise TimeoutError(f"{self.name}: {len(found)} of {count} arrived within {timeout} s")
            return found

    def clear(self) -> None:
        """Forget what arrived. What was ordered stays: see `normal`."""
        with self._changed:
            self._received.clear()

    def __len__(self) -> int:
        return len(self._received)

    def __bool__(self) -> bool:
        return True  # a receiver that has received nothing is still one

    # What a provider's module says.

    @abstractmethod
    def accept(self, arrival: Arrival) -> Reply:
        """Give the provider's answer to a request without fault, and do what it asks for."""

    @abstractmethod
    def refuse(self, status: int, reason: str | None, arrival: Arrival) -> Reply:
        """Give the provider's answer of this status; without a reason, the usual one of the status."""

    def settle(self, arrival: Arrival, headers: dict[str, str]) -> tuple[Reply | None, Answer]:
        """Decide what a request is answered and keep it.

        Returns:
            The reply, None where there shall be none; and the order that it follows, for its delay, reset
            or stall.
        """
        answer = self._ordered(arrival.target)
        reply = self._reply(answer, arrival)
        received = Received(
            at=time.time(),
            monotonic=time.monotonic(),
            receiver=self.name,
            target=arrival.target,
            id=arrival.id,
            content=arrival.content,
            headers=headers,
            valid=not arrival.problems,
            problems=arrival.problems,
            status=reply.status if reply else None,
            reason=reply.reason if reply else "",
            provider_id=reply.provider_id if reply else "",
        )
        if self._on_received:
            self._on_received(received)
        with self._changed:
            self._received.append(received)
            self._changed.notify_all()
        return reply, answer

    def _ordered(self, target: str) -> Answer:
        """Take the next order: one for the target before one for all, a script before a standing order."""
        if not self._scripts and not self._standing:
            return ORDINARY
        return self._ordered_exactly(target) or self._ordered_exactly(ANY) or ORDINARY

    def _ordered_exactly(self, key: str) -> Answer | None:
        with self._changed:
            if script := self._scripts.get(key):
                return script.popleft()
            return self._standing.get(key)

    def _reply(self, answer: Answer, arrival: Arrival) -> Reply | None:
        if answer.reset or answer.stall:
            return None
        order = self.dead if answer.dead else answer
        if order.status is not None and order.status >= 300:  # noqa: PLR2004  # no 2xx
            reply = self.refuse(order.status, answer.reason or order.reason, arrival)
        elif arrival.refusal and order.status is None:
            reply = arrival.refusal
        else:
            reply = self.accept(arrival)
        body = answer.encoded_body
        if body is None and not answer.headers and order.status in {None, reply.status}:
            return reply
        return Reply(
            status=order.status or reply.status,
            body=reply.body if body is None else body,
            headers={**reply.headers, **answer.headers},
            reason=reply.reason,
            provider_id=reply.provider_id,
        )

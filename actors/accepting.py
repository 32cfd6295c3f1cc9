"""Alerts of several callers, accepted together: each caller is answered as if it had come alone."""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from peewee import OperationalError

from actors.handing import batches
from actors.intake import MAX_ALERTS, Accepted, Call, accept
from model.database import DATABASE_AWAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from model.alert import AlertEvent


class HandedIn(NamedTuple):
    """What one caller brings.

    Attributes:
        read: its alerts, decoded and checked; of more than a thousand each thousand is accepted by itself.
    """

    tenant_id: str
    read: Callable[[], list[AlertEvent]]


class PartlyAcceptedError(OperationalError):
    """The database went away when the first thousands of a caller's alerts were committed, and the others were not.

    Attributes:
        done: what became of those that were.
    """

    def __init__(self, done: Accepted, why: Exception) -> None:
        super().__init__(str(why).strip() or type(why).__name__)
        self.done = done


class _Part(NamedTuple):
    """A call, and the place of the caller that it is of."""

    caller: int
    call: Call


def accept_all(given: Sequence[HandedIn]) -> list[Accepted | Exception]:
    """Accept what callers bring: for each what became of it, or the error that it alone is to have.

    A database that is away is so for all of them: to ask it once for each would have them wait for as many limits.
    Whoever had thousands accepted before has a PartlyAcceptedError.
    """
    outcomes: list[Accepted | Exception] = [Accepted(0, 0, ()) for _ in given]
    parts: list[_Part] = []
    for number, each in enumerate(given):
        try:
            alerts = each.read()
        except DATABASE_AWAY as error:
            return [_sum(before, error) for before in outcomes]
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this caller's
            outcomes[number] = error
        else:
            some = list(batches(alerts, MAX_ALERTS)) or [()]
            parts += [_Part(number, Call(each.tenant_id, chosen)) for chosen in some]
    waiting = deque(_packs(parts))
    while waiting:
        pack = waiting.popleft()
        found: Sequence[Accepted | Exception]
        try:
            found = accept([part.call for part in pack])
        except DATABASE_AWAY as error:
            pack += chain.from_iterable(waiting)
            waiting.clear()
            found = [error] * len(pack)
        except Exception as error:  # noqa: BLE001  # of one of them, perhaps: the others need not suffer by it
            if len(pack) > 1:
                waiting.extendleft([part] for part in reversed(pack))
                continue
            found = [error]
        for part, outcome in zip(pack, found, strict=True):
            outcomes[part.caller] = _sum(outcomes[part.caller], outcome)
    return outcomes


def _packs(parts: Sequence[_Part]) -> Iterator[list[_Part]]:
    """As many as have a thousand alerts together, in their order."""
    pack: list[_Part] = []
    size = 0
    for part in parts:
        size += len(part.call.alerts)
        if pack and size > MAX_ALERTS:
            yield pack
            pack, size = [], len(part.call.alerts)
        pack.append(part)
    if pack:
        yield pack


def _sum(before: Accepted | Exception, now: Accepted | Exception) -> Accepted | Exception:
    if isinstance(before, Exception):
        return before
    if isinstance(now, Exception):
        is_partly = isinstance(now, DATABASE_AWAY) and before.accepted + before.duplicates
        return PartlyAcceptedError(before, now) if is_partly else now
    return Accepted(before.accepted + now.accepted, before.duplicates + now.duplicates, before.ids + now.ids)

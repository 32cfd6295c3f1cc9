"""The scenarios, in the order in which they run. Each is a function of the stack and the sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.scenarios.critical import critical
from bench.scenarios.deferred import deferred
from bench.scenarios.log_size import log_size
from bench.scenarios.memory import memory
from bench.scenarios.pushes import pushes
from bench.scenarios.rules import rules
from bench.scenarios.sick import sick
from bench.scenarios.single import single
from bench.scenarios.storm import storm
from bench.scenarios.trickle import trickle

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.results import Scenario
    from bench.sizes import Sizes
    from bench.stack import Stack

#: By the letter that the command line and the document know them by.
SCENARIOS: dict[str, Callable[[Stack, Sizes], Scenario]] = {
    "a": pushes,
    "b": storm,
    "c": trickle,
    "d": critical,
    "e": sick,
    "f": rules,
    "g": log_size,
    "h": deferred,
    "i": memory,
    "j": single,
}

#: What the short form runs: each in well under a minute.
IN_SHORT = ("a", "b", "c", "f")

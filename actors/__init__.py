"""The chain: `dispatch_alerts` -> `match_rules` -> `fanout_devices` -> `deliver`, and `sweep` beneath it.

`dramatiq actors` finds the broker and the actors here, and alert producers that share the database their two calls.
"""

from actors.accept_alerts import accept_alerts
from actors.boot import prepare
from actors.broker import broker, runtime
from actors.deliver import deliver, deliver_critical, deliver_later
from actors.fanout_devices import fanout_critical, fanout_devices
from actors.intake import Accepted, dispatch_alerts, dispatch_to_user
from actors.match_rules import match_critical, match_rules
from actors.results import wait_for_result
from actors.runtime import RuntimeMiddleware
from actors.sweep import sweep
from actors.unmatched import UnmatchedMiddleware

broker.add_middleware(RuntimeMiddleware(runtime, boot=prepare, sweep=sweep))
broker.add_middleware(UnmatchedMiddleware())

__all__ = [
    "Accepted",
    "accept_alerts",
    "broker",
    "deliver",
    "deliver_critical",
    "deliver_later",
    "dispatch_alerts",
    "dispatch_to_user",
    "fanout_critical",
    "fanout_devices",
    "match_critical",
    "match_rules",
    "runtime",
    "sweep",
    "wait_for_result",
]

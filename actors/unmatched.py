"""Why an alert could not be matched, written beside it: who looks for it finds it, and not only who reads the log."""

from __future__ import annotations

import contextlib
import traceback
from typing import TYPE_CHECKING, Any

from dramatiq.middleware import Middleware

from model.database import DATABASE_AWAY, connection
from model.tables import Alert

if TYPE_CHECKING:
    from dramatiq import Broker
    from dramatiq.broker import MessageProxy

#: The step whose failures these are, by both its roads.
STEP = ("match_rules", "match_critical")

#: Packages of ours: of a traceback, the last line of ours says most.
OURS = ("actors.", "model.", "config.")

#: But for this one, by which every statement goes.
PLUMBING = "model.pools"


class UnmatchedMiddleware(Middleware):
    """Writes `alerts.error` after a failure; `match_rules` clears it when it succeeds.

    A message that speaks of several alerts says nothing of which is to blame. Where one fails, each comes again alone
    (`actors.match_rules`); where they take too long, the sweep sends them in ever smaller ones (`actors.sweep.SIZES`).
    A database that is away is nobody's fault but its own.
    """

    def after_process_message(
        self,
        broker: Broker,  # noqa: ARG002  # Dramatiq's signature
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002  # as above
        exception: BaseException | None = None,
    ) -> None:
        """After each message of this process's workers."""
        if exception is None or message.actor_name not in STEP or isinstance(exception, DATABASE_AWAY):
            return
        ids = message.args[0]
        if len(ids) == 1:
            with contextlib.suppress(*DATABASE_AWAY), connection():
                still_waits = (Alert.id == ids[0]) & Alert.matched_at.is_null()
                Alert.update(error=explain(exception)).where(still_waits).execute()


def explain(error: BaseException) -> str:
    """An error's type and place. Not its text, which may quote what the alert or a channel holds."""
    ours = [
        f" in {name}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if (name := str(frame.f_globals.get("__name__"))).startswith(OURS) and name != PLUMBING
    ]
    return f"{type(error).__name__}{ours[-1] if ours else ''}; the worker's log has it whole"

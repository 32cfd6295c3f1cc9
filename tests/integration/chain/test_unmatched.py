"""An alert that cannot be matched says so, holds nobody else up, and is matched once that can be."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from actors.accepting import HandedIn, accept_all
from actors.intake import parse_alerts
from actors.unmatched import explain
from api import pages
from api.console import lists
from model.database import connection, database, is_sqlite, utcnow
from model.tables import Alert, Channel, RoutingRule, Tenant

if TYPE_CHECKING:
    from tests.integration.chain.conftest import Chain


def _error(chain: Chain) -> str | None:
    del chain
    with connection():
        return Alert.get(Alert.tenant == "acme").error


def _write_by_hand(rule: RoutingRule, events: str) -> None:
    """As with a database's own shell: the column wants JSON, and gets a word."""
    with connection():
        placeholder = "?" if is_sqlite() else "%s"
        sql = f"UPDATE notification_routing_rules SET deliver_on = {placeholder} WHERE id = {placeholder}"  # noqa: S608  # a test's own
        database.execute_sql(sql, (events, rule.id))


def _due_again(sweeps: int) -> None:
    """Let the sweep find what is unmatched now, as it would after so many sweeps before."""
    with connection():
        unmatched = Alert.matched_at.is_null()
        Alert.update(sweep_at=utcnow() - timedelta(hours=1), sweeps=sweeps).where(unmatched).execute()


def test_an_alert_whose_rule_nobody_understands_says_so_until_it_is_matched(chain: Chain) -> None:
    # Given a rule that somebody wrote past us
    rule = chain.rule(chain.channel("hook"))
    _write_by_hand(rule, "EXPLODED")

    # When an alert comes
    chain.send({"alert_id": 1, "message": "canary-4711"})
    chain.until(lambda: _error(chain) is not None)

    # Then people find it, with what kind of error it was and where, and nothing of what it says
    error = _error(chain) or ""
    assert error.startswith("JSONDecodeError in model.")
    assert "4711" not in error
    assert "EXPLODED" not in error
    with connection():
        (shown,) = lists.alerts("acme", text="", event="", outcome="error", cursor=None).items
        (listed,) = pages.alerts("acme", alert_id="1", event_type=None, limit=10, cursor=None)["items"]
    assert shown.error == listed["error"] == error

    # And when the rule is mended, the sweep is enough: it is matched, and the error is history
    with connection():
        RoutingRule.update(deliver_on=["OPEN"]).where(RoutingRule.id == rule.id).execute()
    _due_again(0)
    chain.until(lambda: bool(chain.lines()))
    assert chain.settled() == [("1", "OPEN", "hook", "DELIVERED", None, 1)]
    assert _error(chain) is None


def test_of_several_alerts_in_one_message_only_the_one_to_blame_waits(chain: Chain) -> None:
    _write_by_hand(chain.rule(chain.channel("hook")), "EXPLODED")
    with connection():
        Tenant.create(tenant_id="other")
        config = {"url": chain.far.webhook.url("other"), "secret": chain.far.webhook.secret}
        theirs = Channel.create(tenant="other", name="hook", channel_type="webhook", config=config)
        RoutingRule.create(tenant="other", channel=theirs, name="all")

    # When two tenants hand in at the same time, and the rules of one cannot be read
    alerts = [partial(parse_alerts, [{"alert_id": number}]) for number in (1, 2)]
    accept_all([HandedIn("acme", alerts[0]), HandedIn("other", alerts[1])])

    # Then the other's is delivered at once, and not by way of the sweep
    chain.until(lambda: _error(chain) is not None and bool(chain.lines()))
    chain.until(lambda: chain.lines() == [("2", "OPEN", "hook", "DELIVERED", None, 1)])
    with connection():
        assert Alert.get(Alert.tenant == "other").sweeps == 0


def test_an_error_from_elsewhere_is_told_by_its_type_alone() -> None:
    assert explain(KeyError("canary-4711")) == "KeyError; the worker's log has it whole"

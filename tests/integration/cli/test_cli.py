"""The `tocsin` command as people run it: from a file to the far side, and back to a table."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pika
import pytest
from dramatiq import Message

from receivers.records import Answer
from tests.integration.cli.conftest import ROOT
from tests.servers.programs import wait_until

if TYPE_CHECKING:
    from tests.integration.cli.conftest import Tocsin


def test_from_a_file_to_the_far_side_and_back_to_a_table(tocsin: Tocsin) -> None:
    # Given a configuration that was tried, applied, and applied again
    text = json.dumps(tocsin.configuration())
    tried = tocsin.json("apply", "-", "--dry-run", text=text)
    assert tocsin.json("apply", "-", text=text) == tried | {"dry_run": False}
    again = tocsin.json("apply", "-", text=text)
    assert (again["added"], again["changed"], again["removed"], again["unchanged"]) == ([], [], [], 7)

    # When it explains an alert and then gets it
    alert = tocsin.directory / "alert.json"
    alert.write_text(json.dumps({"alert_id": "door", "severity": 3, "message": "Somebody at the door"}))
    explained = tocsin.json("explain", str(alert))
    assert [(each["rule"], each["matched"]) for each in explained["rules"]] == [("all", True), ("push", True)]
    assert [each["verdict"] for each in explained["targets"]] == ["deliver"] * 3
    assert not tocsin.far.webhook.received
    done = tocsin("send", str(alert), "--json")
    sent = json.loads(done.stdout)

    # Then the answer says it all, and no line of the log besides
    assert done.stderr == ""
    # And what was explained has arrived, once, verified by the far side
    assert (sent["accepted"], sent["duplicates"]) == (1, 0)
    assert (sent["totals"]["targets"], sent["totals"]["delivered"]) == (3, 3)
    for receiver in (tocsin.far.webhook, tocsin.far.apns, tocsin.far.webpush):
        assert len(receiver.received) == 1
    # And the record says so, by id or name, in JSON and in a table
    jobs = tocsin.json("jobs", "--channel", "phones")
    assert [(job["state"], job["totals"]["delivered"]) for job in jobs] == [("COMPLETED", 2)]
    job = tocsin.json("job", str(jobs[0]["job_id"]))
    assert job["result"]["all_succeeded"] is True
    assert {each["platform"] for each in job["result"]["results"]} == {"ios", "web"}
    assert "DELIVERED" in tocsin("job", str(jobs[0]["job_id"])).stdout
    status = tocsin.json("status")
    assert status["deliveries"]["DELIVERED"] == 3
    assert status["recovery"] == {"leases_recovered": 0, "duplicates_avoided": 0}
    assert status["dead_letters"] == {}
    assert "leases recovered: 0, duplicates avoided: 0" in tocsin("status").stderr.splitlines()
    # And a repeat changes nothing
    assert tocsin.json("send", str(alert))["duplicates"] == 1
    assert len(tocsin.far.webhook.received) == 1


def test_what_fails_is_said_by_the_status_and_can_be_replayed(tocsin: Tocsin) -> None:
    tocsin.apply()
    tocsin.far.webhook.always("*", Answer(503))
    lines = "\n".join(json.dumps({"alert_id": number}) for number in range(25))
    done = tocsin("send", "-", "--json", text=lines, status=2)
    sent = json.loads(done.stdout)
    assert (sent["accepted"], sent["totals"]["failed"]) == (25, 25)
    assert done.stderr == ""
    assert tocsin.json("status")["failed_by_reason"] == {"exhausted": 25}
    assert "failed: 25 exhausted" in tocsin("status").stderr.splitlines()
    tested = tocsin.json("channel", "test", "hook", status=2)
    assert (tested["status"], tested["outcome"]) == ("failed", "transient")
    assert tested["provider_response"]["code"].startswith("503")

    tocsin.far.normal()
    tocsin.far.clear()
    done = tocsin("replay", "--channel", "hook", "--limit", "5")
    assert "more could go: the limit is 5; run it again" in done.stderr.splitlines()
    replayed = tocsin.json("replay", "--channel", "hook", "--reason", "exhausted")
    assert (replayed["deliveries"], replayed["totals"]["delivered"], replayed["more"]) == (20, 20, False)
    assert tocsin.json("status")["failed_by_reason"] == {}
    assert len(tocsin.far.webhook.received) == 25
    assert tocsin.json("channel", "test", "phones")["outcome"] == "ok"


def test_send_does_not_wait_for_what_is_due_much_later(tocsin: Tocsin) -> None:
    configuration = tocsin.configuration()
    configuration["channels"][0]["config"]["max_retries"] = 3
    tocsin("apply", "-", text=json.dumps(configuration))
    tocsin.far.webhook.always("*", Answer(503, headers={"retry-after": "300"}))
    began = time.monotonic()
    done = tocsin("send", "-", text='{"alert_id": 1}')
    assert time.monotonic() - began < 30
    assert "still waiting: 1 RETRYING" in done.stderr


@pytest.mark.parametrize(
    ("options", "log_format", "level", "told"),
    [
        ([], "json", "info", ["worker_started", "delivery", "worker_stopped"]),
        (["--json"], "console", "info", ["worker_started", "delivery", "worker_stopped"]),
        ([], "json", "error", []),
    ],
)
def test_a_worker_on_the_same_file_takes_what_a_send_left_and_ends_when_told(
    tocsin: Tocsin, options: list[str], log_format: str, level: str, told: list[str]
) -> None:
    # Given a send that found the far side down, and its retry due soon
    configuration = tocsin.configuration()
    configuration["channels"][0]["config"]["max_retries"] = 3
    tocsin("apply", "-", text=json.dumps(configuration))
    tocsin.far.webhook.script("*", [Answer(503)])
    quick = {"TOCSIN_SWEEP_INTERVAL": "0.2", "TOCSIN_SWEEP_GRACE": "0.2", "TOCSIN_RETRY_MIN_BACKOFF": "0.5"}
    tocsin.environment |= quick
    tocsin("send", "-", "--timeout", "0", text='{"alert_id": 1}')
    # When a worker runs
    worker = subprocess.Popen(
        [sys.executable, "-m", "cli", "worker", *options],
        env=tocsin.environment | {"TOCSIN_LOG_FORMAT": log_format, "TOCSIN_LOG_LEVEL": level},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # Then the alert arrives, and the worker ends by itself
        arrived = tocsin.far.webhook.wait_for(2, timeout=30)
        assert {each.target for each in arrived} == {"ops"}
    finally:
        worker.send_signal(signal.SIGTERM)
        _, log = worker.communicate(timeout=30)
    assert worker.returncode == 0, log
    # And its log is what the settings and options say
    lines = [json.loads(line)["event"] for line in log.splitlines()]
    assert [line for line in lines if line in told] == told
    assert bool(lines) == bool(told)


def _dead_letter(tocsin: Tocsin, *options: str) -> str:
    """What lists the one dead letter, which takes a moment to die, and to be back after each list."""
    listed: list[str] = []

    def is_there() -> bool:
        listed.append(tocsin("dead-letters", "list", "--queue", "tocsin.match", *options).stdout)
        return "of_tomorrow" in listed[-1]

    wait_until(is_there, 20, "the dead letter")
    return listed[-1]


def test_on_rabbitmq_the_worker_is_elsewhere_and_send_waits_if_asked(
    tocsin: Tocsin, postgres_url: str, rabbitmq_url: str
) -> None:
    # Given `tocsin worker` on PostgreSQL and RabbitMQ
    embedded = tocsin.environment
    tocsin("migrate")
    tocsin.environment = embedded | {
        "TOCSIN_DATABASE_URL": postgres_url, "TOCSIN_BROKER_URL": rabbitmq_url, "TOCSIN_METRICS_PORT": "0",
    }  # fmt: skip
    tocsin("migrate")
    tocsin.apply()
    command = [sys.executable, "-m", "cli", "worker", "--processes", "1", "--threads", "2", "--json"]
    tocsin.environment["TOCSIN_LOG_FORMAT"] = "console"
    worker = subprocess.Popen(command, env=tocsin.environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        # When an alert is sent, and waited for
        sent = tocsin.json("send", "-", "--wait", "--timeout", "40", text='{"alert_id": 1, "severity": 2}')
        # Then the worker has delivered it
        assert sent["totals"]["delivered"] == 3
        broker = next(each for each in tocsin.json("doctor") if each["part"] == "broker")
        assert broker["found"].startswith("ready+delayed: tocsin.match 0+0")
        # Alerts that nobody accepted lie there alone, and so are looked for too
        assert "tocsin.accept 0+0" in broker["found"]
        # And what no worker understands is among the dead letters, and says why
        body = Message("tocsin.match", "of_tomorrow", ([1],), {}, {}, message_id="m-1").encode()
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(rabbitmq_url))) as connection:
            connection.channel().basic_publish("", "tocsin.match", body)
        letter = json.loads(_dead_letter(tocsin, "--json"))[0]
        assert letter["why"] == "unknown actor: no worker of this version knows it"
        assert letter["message_id"] == "m-1"
        assert letter["deaths"] == [
            {"queue": "tocsin.match", "reason": "rejected", "count": 1, "time": letter["died_at"]}
        ]
        heading, line = _dead_letter(tocsin).splitlines()
        assert heading.split("\t") == [
            "queue", "died_at", "death", "actor", "arguments", "why", "importable",
        ]  # fmt: skip
        assert line.split("\t")[2:] == [
            "rejected in tocsin.match", "of_tomorrow", "[[1]]", letter["why"], "no",
        ]  # fmt: skip
    finally:
        worker.send_signal(signal.SIGTERM)
        _, log = worker.communicate(timeout=30)
        tocsin.environment = embedded
    assert worker.returncode == 0, log
    assert "delivery" in [json.loads(line)["event"] for line in log.splitlines()]

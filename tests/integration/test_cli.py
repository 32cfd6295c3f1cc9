"""The `tocsin` command as people run it: a process of its own, the embedded default, and a far side that verifies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pika
import pytest
from dramatiq import Message

from model import ledger
from model.database import connection
from receivers import FarSide
from receivers.records import Answer
from tests.servers.programs import wait_until
from tests.support.database import KEY, open_test_database

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@dataclass
class Done:
    """What a command wrote."""

    stdout: str
    stderr: str


class Preloaded:
    """See preloaded_cli.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.preloaded_cli"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments: tuple[str, ...], environment: dict[str, str], streams: list[Path]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"arguments": arguments, "environment": environment, "streams": [*map(str, streams)]}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=10)


@dataclass
class Tocsin:
    """The command, in a directory of its own."""

    preloaded: Preloaded
    environment: dict[str, str]
    directory: Path
    far: FarSide

    def __call__(self, *arguments: str, status: int = 0, text: str | None = None) -> Done:
        streams = [self.directory / name for name in ("stdin", "stdout", "stderr")]
        for stream, content in zip(streams, (text or "", "", ""), strict=True):
            stream.write_text(content)
        found = self.preloaded.run(arguments, self.environment, streams)
        done = Done(*(stream.read_text() for stream in streams[1:]))
        assert found == status, done
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, status: int = 0, text: str | None = None) -> Any:
        return json.loads(self(*arguments, "--json", status=status, text=text).stdout)

    def error(self, *arguments: str, text: str | None = None) -> list[str]:
        return self(*arguments, status=1, text=text).stderr.splitlines()

    def configuration(self) -> dict[str, Any]:
        hook = {"url": self.far.webhook.url("ops"), "secret": self.far.webhook.secret, "max_retries": 0}
        return {
            "tenant": "acme",
            "channels": [
                {"name": "hook", "channel_type": "http", "config": hook},
                {"name": "phones", "channel_type": "push", "config": {"user_ids": ["alice"]}},
            ],
            "rules": [
                {"name": "all", "channel": "hook", "deliver_on": ["OPEN", "CLOSED"]},
                {"name": "push", "channel": "phones", "min_severity": 2},
            ],
            "users": [
                {
                    "user_id": "alice",
                    "devices": [
                        {"platform": "ios", "token": "0f" * 32, "name": "phone"},
                        {"platform": "web", "subscription": self.far.webpush.subscribe()},
                    ],
                    "preferences": {"cameras": {"garden": {"enabled": False}}},
                }
            ],
        }

    def apply(self) -> None:
        self("apply", "-", text=json.dumps(self.configuration()))


@pytest.fixture(scope="module")
def far_side() -> Iterator[FarSide]:
    with FarSide() as far:
        yield far


@pytest.fixture(scope="module")
def preloaded() -> Iterator[Preloaded]:
    process = Preloaded()
    yield process
    process.close()


@pytest.fixture
def tocsin(far_side: FarSide, preloaded: Preloaded, tmp_path: Path) -> Iterator[Tocsin]:
    far_side.normal()
    far_side.clear()
    url = f"sqlite:///{tmp_path / 'cli.db'}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    environment = kept | far_side.environment() | {"TOCSIN_DATABASE_URL": url, "TOCSIN_SECRET_KEYS": KEY}
    yield Tocsin(preloaded, environment, tmp_path, far_side)
    with open_test_database(url), connection():
        ledger.conservation()


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


def test_each_mistake_is_one_line_that_names_the_field(tocsin: Tocsin) -> None:
    tocsin.apply()
    assert tocsin.error("send", "-", text='{"severity": 1}') == ["error: alert_id: required"]
    assert tocsin.error("send", "-", text='[{"alert_id": 1}, {"alert_id": 2, "severity": "high"}]') == [
        "error: [1]: severity: input should be a valid integer"
    ]
    assert tocsin.error("send", "missing.json") == ["error: missing.json: No such file or directory"]
    assert tocsin.error("send", "-", "--tenant", "nobody", text='{"alert_id": 1}') == [
        "error: there is no tenant 'nobody'; `tocsin apply` makes one"
    ]
    assert tocsin.error("job", "99") == ["error: there is no job '99' in tenant 'acme'"]
    assert "list" in tocsin("channel", status=1).stderr
    assert tocsin.error("nonsense") == ["error: No such command 'nonsense'; see `tocsin --help`"]
    assert tocsin.json("jobs") == []


def test_a_wrong_configuration_is_refused_whole_with_every_mistake(tocsin: Tocsin) -> None:
    tocsin.apply()
    text = """
tenant: other
channels:
  - {name: c, chanel_type: webhook, config: {}}
rules:
  - {name: r, channel: hook}
users:
  - {user_id: u, devices: [{platform: android, token: "a/b"}], preferences: {quiet_hours_timezone: Mars/Olympus}}
"""
    told = tocsin.error("apply", "-", text=text)
    assert told == [
        "error: channels[0].channel_type: required",
        "error: channels[0].chanel_type: no such field; did you mean channel_type?",
        "error: users[0].devices[0].token: must be 8 to 4096 printable ASCII characters without space and slash",
        "error: users[0].preferences.quiet_hours_timezone: must be an IANA time zone such as Europe/Berlin",
    ]
    foreign = "tenant: other\nrules: [{name: r, channel: hook}]"
    assert tocsin.error("apply", "-", text=foreign) == [
        "error: rules[0].channel: there is no channel 'hook' in tenant 'other'"
    ]
    # Neither made the tenant: there is still one, which commands find by themselves.
    assert tocsin.json("jobs") == []
    tocsin("apply", "-", text="tenant: other")
    assert tocsin.error("jobs") == ["error: there are several tenants; give --tenant, one of acme, other"]


def test_settings_and_servers_that_are_wrong_are_one_line(tocsin: Tocsin) -> None:
    tocsin.environment["TOCSIN_BROKER_URL"] = "carrier-pigeon://"
    assert tocsin.error("status") == [
        "error: TOCSIN_BROKER_URL: must be memory:// or amqp(s)://USER:PASSWORD@HOST:PORT/VHOST, several separated by ;"
    ]
    tocsin.environment["TOCSIN_BROKER_URL"] = "amqp://127.0.0.1:1/"
    checks = {each["part"]: each for each in tocsin.json("doctor", status=1)}
    assert (checks["broker"]["status"], checks["database"]["status"]) == ("fail", "ok")
    # A status without the broker is a status still
    assert tocsin.json("status")["dead_letters"] is None
    assert "dead letters: unknown, the broker is away" in tocsin("status").stderr.splitlines()
    assert tocsin.json("rotate-keys", "--generate")["key"]
    del tocsin.environment["TOCSIN_BROKER_URL"]
    file = tocsin.environment["TOCSIN_DATABASE_URL"]
    tocsin.environment["TOCSIN_DATABASE_URL"] = "postgresql://127.0.0.1:1/x"
    (told,) = tocsin.error("status")
    assert told.startswith("error: the database is away or refuses: ")
    tocsin.environment["TOCSIN_DATABASE_URL"] = file


def test_an_unmigrated_postgresql_asks_for_the_step_that_makes_it(tocsin: Tocsin, postgres_url: str) -> None:
    file = tocsin.environment["TOCSIN_DATABASE_URL"]
    tocsin.environment["TOCSIN_DATABASE_URL"] = postgres_url
    assert tocsin.error("status") == ["error: the database's schema is not up to date; run `tocsin migrate`"]
    assert tocsin.json("migrate")["applied"]
    assert tocsin.json("migrate")["applied"] == []
    tocsin.apply()
    assert tocsin.json("send", "-", text='{"alert_id": 1}')["totals"]["delivered"] == 1
    tocsin.environment["TOCSIN_DATABASE_URL"] = file
    tocsin("migrate")


def test_a_time_that_no_calendar_can_hold_is_an_error_that_says_so(tocsin: Tocsin) -> None:
    tocsin.apply()
    end, rule = "0001-01-01T00:00:00+14:00", "must be in the years 2 to 9998"
    assert tocsin.error("explain", "-", "--at", end, text='{"alert_id": 1}') == [f"error: --at: {rule}"]
    for option in ("--since", "--until"):
        assert tocsin.error("replay", option, end) == [f"error: {option}: {rule}"]
    for option in ("--days", "--device-days"):
        for age in ("1000000", "nan", "-1"):
            assert tocsin.error("prune", option, age) == [f"error: {option}: must be from 0 to 36500"]


def test_keys_are_shown_once_and_help_comes_at_once(tocsin: Tocsin) -> None:
    tocsin.apply()
    made = tocsin.json("key", "create", "--role", "ingest", "--name", "sensors")
    assert made["key"] not in tocsin("key", "list").stdout
    assert tocsin.json("key", "revoke", made["prefix"])["revoked_at"] is not None
    assert tocsin.json("prune", "--days", "0")["jobs"] == 0
    assert tocsin.json("channel", "list")[0]["config"]["secret"] == "********"
    began = time.monotonic()
    helped = subprocess.run(
        [sys.executable, "-m", "cli", "--help"], cwd=ROOT, capture_output=True, check=True
    )
    assert b"send" in helped.stdout
    assert time.monotonic() - began < 2  # a sixth of a second on an idle machine


def dead_letter(tocsin: Tocsin, *options: str) -> str:
    """What lists the one dead letter, which takes a moment to die, and to be back after each list."""
    listed: list[str] = []

    def is_there() -> bool:
        listed.append(tocsin("dead-letters", "list", "--queue", "tocsin.match", *options).stdout)
        return "of_tomorrow" in listed[-1]

    wait_until(is_there, 20, "the dead letter")
    return listed[-1]


def test_what_a_lost_key_leaves_unreadable_is_named_and_applied_anew(tocsin: Tocsin) -> None:
    tocsin.apply()
    key = tocsin.environment["TOCSIN_SECRET_KEYS"]
    tocsin.environment["TOCSIN_SECRET_KEYS"] = tocsin.json("rotate-keys", "--generate")["key"]
    names = sorted(f"acme/{each['name']}" for each in tocsin.json("channel", "list"))
    found = tocsin.json("rotate-keys", status=1)
    assert (found["channels"], sorted(found["unreadable"])) == (0, names)
    assert "none of the keys decrypts it" in tocsin("rotate-keys", status=1).stderr
    tocsin.apply()
    assert tocsin.json("rotate-keys") == {"channels": len(names), "unreadable": []}
    tocsin.environment["TOCSIN_SECRET_KEYS"] = key


def test_no_answer_fails_because_of_where_it_goes(tocsin: Tocsin) -> None:
    # Given a channel whose name most encodings lack
    configuration = tocsin.configuration()
    name = configuration["channels"][0]["name"] = configuration["rules"][0]["channel"] = (
        "Übersicht → Leitstelle"
    )
    tocsin("apply", "-", text=json.dumps(configuration))

    def run(command: str, number: int, **environment: str) -> bytes:
        done = subprocess.run(
            ["/bin/sh", "-c", command.format(tocsin=f"{sys.executable} -m cli")],
            input=b'{"alert_id": %d}' % number, env=tocsin.environment | environment, cwd=ROOT, capture_output=True,
            check=False,
        )  # fmt: skip
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done
        return done.stdout

    # When an answer goes to a terminal of another encoding, then what that lacks has its number
    told = run("{tocsin} send -", 1, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert rb"\xdcbersicht \u2192 Leitstelle" in told
    # And JSON is UTF-8 all the same
    found = json.loads(run("{tocsin} jobs --json", 0, PYTHONIOENCODING="latin-1").decode("utf-8"))
    assert found[0]["channel"] == name
    # When nobody is to hear of it, then it is done
    assert run("{tocsin} send - >&-", 2) == b""
    assert {1, 2} == {each["alert_id"] for each in tocsin.json("jobs")}


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
        letter = json.loads(dead_letter(tocsin, "--json"))[0]
        assert letter["why"] == "unknown actor: no worker of this version knows it"
        assert letter["message_id"] == "m-1"
        assert letter["deaths"] == [
            {"queue": "tocsin.match", "reason": "rejected", "count": 1, "time": letter["died_at"]}
        ]
        heading, line = dead_letter(tocsin).splitlines()
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

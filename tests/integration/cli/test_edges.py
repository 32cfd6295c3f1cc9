"""What the `tocsin` command says of mistakes, missing servers and lost keys, and where its answer may go."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli.conftest import ROOT

if TYPE_CHECKING:
    from tests.integration.cli.conftest import Tocsin


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


def test_an_argument_that_is_no_utf_8_is_one_line_that_names_it(tocsin: Tocsin) -> None:
    half = "a\udcff"  # what Python makes of the bytes a FF
    for arguments in (
        ("jobs", "--tenant"),
        ("jobs", "--channel"),
        ("jobs", "--alert"),
        ("status", "--tenant"),
    ):
        assert tocsin.error(*arguments, half) == [f"error: {arguments[1]}: must be valid UTF-8"]
    assert tocsin.error("job", half) == ["error: 'a\\udcff': must be valid UTF-8"]
    # The name of a file may be what it likes
    path = tocsin.directory / half
    path.write_text("tenant: acme\n")
    tocsin("apply", str(path))


def test_explain_reads_a_file_as_send_does(tocsin: Tocsin) -> None:
    tocsin.apply()
    # What one takes the other takes, as the same alert
    for text, alert_id in (('\ufeff{"alert_id": "bom"}', "bom"), ('[{"alert_id": 7}]\n', 7)):
        assert tocsin.json("explain", "-", text=text)["targets"]
        assert tocsin.json("send", "-", text=text)["accepted"] == 1
        assert tocsin.json("jobs", "--alert", str(alert_id))
    # And what one refuses the other refuses, in the same words
    for text in (
        '{"alert_id": 123456789012345678901234567890}',
        '{"alert_id": 1, "alert_id": 2}',
        '{"alert_id": 1',
        '{"alert_id": NaN}',
    ):
        assert tocsin.error("explain", "-", text=text) == tocsin.error("send", "-", text=text)
    for text, number in (("", "none"), ('{"alert_id": 1} {"alert_id": 2}', "several")):
        assert tocsin.error("explain", "-", text=text) == [f"error: -: must hold one alert, not {number}"]


def test_a_wrong_configuration_is_refused_whole_with_every_mistake(tocsin: Tocsin) -> None:
    tocsin.apply()
    text = """
tenant: other
channels:
  - {name: c, chanel_type: webhook, config: {}}
rules:
  - {name: r, channel: hook}
users:
  - {user_id: u, devices: [{platform: android, token: "a b"}], preferences: {quiet_hours_timezone: Mars/Olympus}}
"""
    told = tocsin.error("apply", "-", text=text)
    assert told == [
        "error: channels[0].channel_type: required",
        "error: channels[0].chanel_type: no such field; did you mean channel_type?",
        "error: users[0].devices[0].token: must be 1 to 4096 printable ASCII characters without a space",
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


def test_a_file_that_is_no_database_or_is_damaged_is_one_line(tocsin: Tocsin) -> None:
    whole = tocsin.environment["TOCSIN_DATABASE_URL"]
    tocsin.apply()
    # Given a file of something else, and a database whose pages were overwritten
    junk, damaged = tocsin.directory / "junk.db", tocsin.directory / "damaged.db"
    junk.write_text("no database\n" * 50)
    with contextlib.closing(sqlite3.connect(tocsin.directory / "cli.db")) as source:
        source.execute("VACUUM INTO ?", (str(damaged),))
    with damaged.open("r+b") as file:
        file.seek(100)  # the schema follows the header: https://www.sqlite.org/fileformat2.html
        file.write(b"\xff" * 8192)
    for file_name in (junk, damaged):
        tocsin.environment["TOCSIN_DATABASE_URL"] = f"sqlite:///{file_name}"
        # When commands read it, then each says so, and what to do
        told = f"{file_name}: is no SQLite database, or is damaged"
        for command in (["status"], ["migrate"], ["serve", "--port", "0"], ["worker"]):
            assert tocsin.error(*command) == [f"error: TOCSIN_DATABASE_URL: {told}; restore a backup"]
        first = tocsin.json("doctor", status=1)[0]
        assert first == {"part": "database", "status": "fail", "found": told, "remedy": "restore a backup"}
    tocsin.environment["TOCSIN_DATABASE_URL"] = whole


def test_damage_behind_the_first_rows_of_a_table_is_one_line_too(tocsin: Tocsin) -> None:
    # Given a database in which the middle of a large table was overwritten
    tocsin.apply()
    file_name = tocsin.directory / "cli.db"
    with contextlib.closing(sqlite3.connect(file_name, isolation_level=None)) as opened:
        opened.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) "
            "INSERT INTO notification_channels "
            "(tenant_id, name, channel_type, config, is_enabled, health, created_at, updated_at) "
            "SELECT tenant_id, name || n.i, channel_type, config, is_enabled, health, created_at, updated_at "
            "FROM notification_channels c, n WHERE c.id = (SELECT min(id) FROM notification_channels)"
        )
        opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = opened.execute("PRAGMA page_size").fetchone()
        ciphertext = (
            opened.execute("SELECT config FROM notification_channels ORDER BY id").fetchone()[0].encode()
        )
    content = file_name.read_bytes()
    pages = [start for start in range(0, len(content), size) if ciphertext in content[start : start + size]]
    with file_name.open("r+b") as file:
        file.seek(pages[len(pages) // 2])
        file.write(b"\xff" * size)
    # Then who reads it says so
    told = f"{file_name}: is no SQLite database, or is damaged"
    assert tocsin.error("channel", "list") == [f"error: TOCSIN_DATABASE_URL: {told}; restore a backup"]
    assert tocsin.json("doctor", status=1)[0]["found"] == told


def test_a_key_file_that_holds_no_keys_is_found_before_the_first_secret_is(tocsin: Tocsin) -> None:
    # Given a database without channels, and a key file that was restored empty
    tocsin("migrate")
    del tocsin.environment["TOCSIN_SECRET_KEYS"]
    keys = tocsin.directory / "cli.db.keys"
    keys.touch(0o600)
    told = f"{keys} must hold Fernet keys; restore it, or set TOCSIN_SECRET_KEYS"
    # Then nothing that would need them later starts, and the doctor says so
    for command in (["serve", "--port", "0"], ["worker"]):
        assert tocsin.error(*command) == [f"error: {told}"]
    (found,) = (each for each in tocsin.json("doctor", status=1) if each["part"] == "secret keys")
    assert (found["status"], found["remedy"]) == ("fail", told)
    # And without such a file the doctor is content, and makes none
    keys.unlink()
    assert {each["part"]: each for each in tocsin.json("doctor")}["secret keys"]["status"] == "ok"
    assert not keys.exists()


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


def test_keys_are_shown_once(tocsin: Tocsin) -> None:
    tocsin.apply()
    made = tocsin.json("key", "create", "--role", "ingest", "--name", "sensors")
    assert made["key"] not in tocsin("key", "list").stdout
    # A slip in a tenant's name is seen, since it makes one
    for tenant, told in (
        ("acme", "of tenant acme, role read"),
        ("acne", "of tenant acne, which is new, role read"),
    ):
        assert told in tocsin("key", "create", "--role", "read", "--tenant", tenant).stderr
    assert tocsin.json("key", "revoke", made["prefix"], "--tenant", "acme")["revoked_at"] is not None
    assert tocsin.json("prune", "--days", "0")["jobs"] == 0
    assert tocsin.json("channel", "list", "--tenant", "acme")[0]["config"]["secret"] == "********"


@pytest.mark.alone("a sixth of a second, of which a busy machine makes many")
def test_help_comes_at_once() -> None:
    began = time.monotonic()
    helped = subprocess.run(
        [sys.executable, "-m", "cli", "--help"], cwd=ROOT, capture_output=True, check=True
    )
    assert b"send" in helped.stdout
    assert time.monotonic() - began < 2


def test_a_new_key_comes_with_the_steps_in_which_no_process_meets_what_it_cannot_read(tocsin: Tocsin) -> None:
    told = tocsin("rotate-keys", "--generate").stderr.splitlines()
    steps = [line for line in told if line[:2] in {"1.", "2.", "3."}]
    assert [line[:2] for line in steps] == ["1.", "2.", "3."]
    for step, what in zip(steps, ("behind", "in front", "`tocsin rotate-keys`"), strict=True):
        assert what in step
    assert all("restart every process" in step for step in steps[:2])


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

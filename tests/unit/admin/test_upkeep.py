"""Keys, rotation, pruning, the doctor, and waiting: what keeps an installation in order."""

from __future__ import annotations

import contextlib
import itertools
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet

from admin import doctor, keys, progress
from admin import prune as prune_module
from admin.jobs import find_job, list_jobs
from admin.prune import prune
from config import load_settings
from model import bulk
from model.database import Unreadable, database, is_sqlite, open_database, transaction, utcnow
from model.ledger import conservation
from model.problems import InvalidInput
from model.states import DeliveryState, JobState
from model.status import status
from model.tables import Alert, ApiKey, Channel, Delivery, Device, Job
from model.vault import vault
from tests.support.database import KEY, lose_key, make_channel, make_deliveries, make_job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.usefixtures("db")
def test_a_key_is_shown_once_kept_as_a_hash_and_ends_when_revoked() -> None:
    row, key = keys.create_key("acme", "ingest", name="sensors")
    found = keys.verify_key(key)
    assert found is not None
    assert (found.id, found.tenant_id, found.role) == (row.id, "acme", "ingest")
    stored = str(list(database.execute_sql("SELECT * FROM api_keys")))
    assert key not in stored
    assert key not in str(keys.list_keys("acme"))
    assert keys.verify_key(key + "x") is None
    assert keys.verify_key("\udcff") is None
    with pytest.raises(LookupError, match="there is no key"):
        keys.revoke_key("other", row.id)
    keys.revoke_key("acme", key)
    assert keys.verify_key(key) is None
    assert keys.revoke_key("acme", row.id).revoked_at == ApiKey.get().revoked_at
    with pytest.raises(InvalidInput, match="role: must be one of ingest, read, admin"):
        keys.create_key("acme", "root")


@pytest.mark.usefixtures("db")
def test_after_a_rotation_the_newest_key_alone_decrypts_everything(database_url: str) -> None:
    # Given channels under the old key, more than one batch of them, and one last change
    for number in range(keys.BATCH + 5):
        make_channel(name=f"c{number}")
    changed = Channel.get(name="c7").updated_at
    new = keys.generate_secret_key()
    # When a newer key stands before it, and all is rotated
    vault.open(load_settings(database_url=database_url, secret_keys=f"{new} {KEY}"))
    assert keys.rotate_secrets() == (keys.BATCH + 5, [])
    # Then the old key may go, and no cache was invalidated for it
    vault.open(load_settings(database_url=database_url, secret_keys=new))
    assert {channel.config["url"] for channel in Channel.select()} == {"https://ops.example.org/in"}
    assert Channel.get(name="c7").updated_at == changed


@pytest.mark.usefixtures("db")
def test_a_rotation_goes_on_with_the_others_where_a_key_is_lost_and_names_the_channel(
    database_url: str,
) -> None:
    for name in ("first", "lost", "last"):
        make_channel(name=name)
    lose_key(Channel.get(name="lost").id)
    new = keys.generate_secret_key()
    vault.open(load_settings(database_url=database_url, secret_keys=f"{new} {KEY}"))
    assert keys.rotate_secrets() == (2, ["acme/lost"])
    vault.open(load_settings(database_url=database_url, secret_keys=new))
    readable = [channel.name for channel in Channel.select() if not isinstance(channel.config, Unreadable)]
    assert sorted(readable) == ["first", "last"]


@pytest.mark.usefixtures("db")
def test_pruning_takes_what_ended_long_ago_and_nothing_that_is_under_way() -> None:
    now = utcnow()
    old = now - timedelta(days=40)
    for sequence, (state, finished) in enumerate(
        [("COMPLETED", old), ("COMPLETED", now), ("PROCESSING", None)], start=1
    ):
        job = make_job(
            sequence=sequence,
            alert_id=str(sequence),
            state=state,
            finished_at=finished,
            delivered=int(finished is not None),
        )
        make_deliveries(
            job, state=DeliveryState.DELIVERED if finished else DeliveryState.PENDING, finished_at=finished
        )
    Alert.update(accepted_at=old, matched_at=old).execute()
    for disabled in (old, None):
        Device.create(
            tenant="acme",
            user_id="u",
            platform="ios",
            token="x",
            address_hash=str(disabled),
            disabled_at=disabled,
        )
    assert prune(days=30, tenant_id="other")["jobs"] == 0
    assert prune(days=30, device_days=30) == {"jobs": 1, "deliveries": 1, "log": 0, "alerts": 1, "devices": 1}
    assert (
        {job.alert_id for job in Job.select()} == {alert.alert_id for alert in Alert.select()} == {"2", "3"}
    )
    assert Delivery.select().count() == 2


@pytest.mark.usefixtures("db")
def test_a_device_that_is_registered_anew_while_prune_looks_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    old = utcnow() - timedelta(days=40)
    Device.create(tenant="acme", user_id="u", platform="ios", token="x", address_hash="x", disabled_at=old)
    look = prune_module._ids

    def and_meanwhile(table: Any, condition: Any) -> list[int]:
        found = look(table, condition)
        if table is Device:
            Device.update(disabled_at=None).execute()
        return found

    monkeypatch.setattr(prune_module, "_ids", and_meanwhile)
    assert prune(days=30, device_days=30)["devices"] == 0
    assert Device.select().count() == 1


@pytest.mark.usefixtures("db")
def test_pruning_a_large_job_takes_a_batch_at_a_time_and_the_equation_holds_throughout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given old jobs of which one alone is more than a batch, and together the small ones are
    monkeypatch.setattr("admin.prune.BATCH", 4)
    ended: dict[str, Any] = {"finished_at": utcnow() - timedelta(days=40), "sweep_at": None}
    for sequence, (delivered, failed) in enumerate([(1, 1), (7, 4), (2, 1), (1, 0), (4, 0)], start=1):
        number = delivered + failed
        job = make_job(
            sequence=sequence, alert_id=str(sequence), state=JobState.PARTIAL, targets=number,
            delivered=delivered, failed=failed, finished_at=ended["finished_at"],
        )  # fmt: skip
        for device_id in range(1, number + 1):
            state = DeliveryState.DELIVERED if device_id <= delivered else DeliveryState.FAILED
            make_deliveries(job, state=state, device_id=device_id, **ended)
    left = [conservation()["targets"]]

    @contextlib.contextmanager
    def watched() -> Iterator[None]:
        with transaction():
            yield
        left.append(conservation()["targets"])

    monkeypatch.setattr("admin.prune.transaction", watched)
    pauses: list[float] = []
    # Not everybody's: a server may be starting in another thread, which looks again and again whether it is up.
    of_prune = SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append)
    monkeypatch.setattr("admin.prune.time", of_prune)

    # When they are pruned
    done = prune(days=30)

    # Then no transaction takes more than a batch of deliveries, and after each the totals are those of the rows
    assert (done["jobs"], done["deliveries"]) == (5, 21)
    assert max(before - after for before, after in itertools.pairwise(left)) == 4
    assert left[-1] == 0
    # And where writers are alone, others have their turn between them
    assert bool(pauses) == is_sqlite()


@pytest.mark.usefixtures("db")
def test_the_status_counts_failures_by_reason_for_one_tenant_or_all() -> None:
    ended: dict[str, Any] = {"finished_at": utcnow(), "sweep_at": None}
    for tenant, reasons in (("acme", ["exhausted", "exhausted", "rejected"]), ("other", ["rejected"])):
        number = len(reasons)
        job = make_job(tenant, targets=number + 1, failed=number, delivered=1)
        for device_id, reason in enumerate(reasons, start=1):
            failed: dict[str, Any] = {"state": DeliveryState.FAILED, "reason": reason, "device_id": device_id}
            make_deliveries(job, tenant_id=tenant, **failed, **ended)
        make_deliveries(job, tenant_id=tenant, state=DeliveryState.DELIVERED, device_id=number + 1, **ended)
    assert status("acme")["failed_by_reason"] == {"exhausted": 2, "rejected": 1}
    assert status("other")["failed_by_reason"] == {"rejected": 1}
    assert status()["failed_by_reason"] == {"exhausted": 2, "rejected": 2}


@pytest.mark.usefixtures("db")
def test_waiting_tells_what_moves_from_what_is_due_later() -> None:
    now = utcnow()
    soon, late = now + timedelta(seconds=5), now + timedelta(hours=5)
    event = {"tenant_id": "acme", "alert_id": "1", "event_type": "OPEN", "payload": {}, "matched_at": now}
    alert = bulk.insert(Alert, [event], returning=["id"])[0][0]
    job = make_job(alert_id="1", targets=3, delivered=1)
    make_deliveries(job, state=DeliveryState.DELIVERED, device_id=1)
    make_deliveries(job, state=DeliveryState.RETRYING, next_attempt_at=soon, device_id=2)
    make_deliveries(job, state=DeliveryState.DEFERRED, next_attempt_at=late, device_id=3)
    for group in (*progress.groups([alert], are_alerts=True), *progress.groups([job], are_alerts=False)):
        seen = progress.pending(group, until=now + timedelta(minutes=1))
        assert (seen.active, dict(seen.later), seen.due) == (1, {"DEFERRED": 1}, late)
        assert progress.summary([group]).totals["in_progress"] == 2
        assert progress.summary([group]).totals["delivered"] == 1


@pytest.mark.usefixtures("db")
def test_jobs_are_found_by_id_or_alert_and_only_the_tenants_own() -> None:
    first = make_job(alert_id="door", channel_id=1, state=JobState.FAILED, targets=0)
    second = make_job(alert_id="door", channel_id=2, channel_name="gone", targets=0)
    third = make_job(alert_id="smoke", targets=0)
    assert [job["job_id"] for job in list_jobs("acme", alert_id="door")] == [second, first]
    assert [job["job_id"] for job in list_jobs("acme", states=["FAILED"])] == [first]
    assert [job["job_id"] for job in list_jobs("acme", channel="gone")] == [second]
    assert [job["job_id"] for job in list_jobs("acme", limit=1, before=third)] == [second]
    assert find_job("acme", "smoke").id == find_job("acme", str(third)).id == third
    for reference, told in (
        ("door", "has several jobs"),
        ("nope", "there is no job"),
        ("9" * 30, "there is no job"),
    ):
        with pytest.raises(LookupError, match=told):
            find_job("acme", reference)
    with pytest.raises(LookupError, match="there is no job"):
        find_job("other", third)


@pytest.mark.usefixtures("db")
def test_the_doctor_finds_lost_keys_dead_letters_and_half_configured_providers(
    database_url: str, tmp_path: Path
) -> None:
    # Given a channel under a key that is gone, a broker with dead letters, and a file that is no key
    make_channel(name="lost")
    junk = tmp_path / "AuthKey.p8"
    junk.write_text("canary")
    settings = load_settings(
        database_url=database_url, secret_keys=Fernet.generate_key().decode(), broker_url="amqp://localhost/",
        apns_key_file=junk, apns_key_id="A" * 10, apns_team_id="B" * 10, apns_topic="org.example.app",
        vapid_subject="mailto:ops@example.org",
    )  # fmt: skip
    vault.open(settings)
    # When it is examined
    found = {each.part: each for each in doctor.examine(settings, lambda: {"tocsin.deliver": (1, 2, 3)})}
    # Then each part says what to do, and no secret
    assert found["database"].status == found["migrations"].status == "ok"
    assert (found["secret keys"].status, found["secret keys"].found) == (
        "fail",
        "cannot decrypt 1 of 1 channels: lost",
    )
    assert found["broker"].found == "dead letters: 3 in tocsin.deliver.XQ"
    assert found["APNs"].status == "fail"
    assert found["FCM"].status == "warn"
    assert "TOCSIN_VAPID_PRIVATE_KEY_FILE missing" in found["Web Push"].found
    assert "canary" not in str(found)
    assert all(each.remedy for each in found.values() if each.status != "ok")
    if settings.is_sqlite:
        settings.sqlite_path.chmod(0o644)
        assert {each.status for each in doctor._files(settings.sqlite_path)} == {"warn"}
    else:
        assert found["clock"].status == "ok"


@pytest.mark.usefixtures("db")
def test_the_doctor_knows_a_schema_of_tomorrow(database_url: str) -> None:
    # Given a database that a later version has migrated
    database.execute_sql(
        "INSERT INTO schema_migrations (name, applied) VALUES ('9999_tomorrow', '2027-01-01 00:00:00')"
    )
    settings = load_settings(database_url=database_url, secret_keys=KEY, broker_url="amqp://localhost/")
    # When this one is examined
    (found,) = (check for check in doctor.examine(settings, dict) if check.part == "migrations")
    # Then it says so, and what to do
    assert (found.status, found.found) == ("fail", "a later version of Tocsin has applied 9999_tomorrow")
    assert "run that version" in found.remedy


@pytest.mark.usefixtures("db")
def test_the_doctor_has_no_alert_purged_that_was_never_accepted(database_url: str) -> None:
    # Given dead letters with rows in the database, and some that are the only copy
    settings = load_settings(database_url=database_url, secret_keys=KEY, broker_url="amqp://localhost/")
    dead = {"tocsin.deliver": (0, 0, 3), "tocsin.accept": (0, 0, 2)}
    # When it looks at the latter alone, and at both
    (only,) = (
        c for c in doctor.examine(settings, lambda: {"tocsin.accept": (0, 0, 2)}) if c.part == "broker"
    )
    (both,) = (c for c in doctor.examine(settings, lambda: dead) if c.part == "broker")
    # Then they are to be imported, and only the others may be purged
    assert (only.status, only.found) == ("warn", "dead letters: 2 in tocsin.accept.XQ")
    assert "`tocsin dead-letters import --queue tocsin.accept`" in only.remedy
    assert "purge" not in only.remedy
    assert "dead-letters import" in both.remedy
    assert "of tocsin.deliver.XQ the sweep" in both.remedy


@pytest.mark.parametrize(
    ("given", "status", "told"),
    [
        ({}, "warn", "not configured"),
        ({"smtp_url": "smtp://u:canary@mail.example.org"}, "fail", "TOCSIN_MAIL_FROM missing"),
        ({"mail_from": "ops@example.org"}, "warn", "TOCSIN_SMTP_URL missing"),
        (
            {"smtp_url": "smtp://u:canary@mail.example.org", "mail_from": "Ops"},
            "fail",
            "is not what it should be",
        ),
        (
            {"smtp_url": "smtps://u:canary@mail.example.org", "mail_from": "Ops <ops@example.org>"},
            "ok",
            "ops@example.org by mail.example.org",
        ),
    ],
)
@pytest.mark.usefixtures("db")
def test_the_doctor_looks_at_mail(database_url: str, given: dict[str, str], status: str, told: str) -> None:
    settings = load_settings(database_url=database_url, secret_keys=KEY, **given)
    (mail,) = (each for each in doctor.examine(settings, dict) if each.part == "mail")
    assert mail.status == status
    assert told in mail.found
    assert "canary" not in str(mail)
    # Whatever is missing is named
    missing = {"TOCSIN_SMTP_URL", "TOCSIN_MAIL_FROM"} - {f"TOCSIN_{name.upper()}" for name in given}
    assert all(name in mail.remedy for name in missing)


def test_the_doctor_reports_a_database_that_is_away() -> None:
    settings = load_settings(database_url="postgresql://u:canary@127.0.0.1:1/x", secret_keys=KEY)
    open_database(settings)
    found = doctor.examine(settings, dict)
    assert (found[0].part, found[0].status) == ("database", "fail")
    assert "canary" not in str(found)

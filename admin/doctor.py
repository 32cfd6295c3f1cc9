"""What keeps an installation from working, looked for part by part; each finding says what to do."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parseaddr
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from admin import damage
from config import SettingsError
from model import migrate
from model.database import DATABASE_AWAY, connection, database, is_sqlite
from model.tables import Channel
from model.vault import key_file, vault
from senders.apns_pool import ProviderToken
from senders.outcomes import SendError
from senders.webpush import Vapid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from config import Settings

#: Seconds by which the database's clock may differ from ours: what we sign for push services is good from now on.
SKEW_WARN, SKEW_FAIL = 1.0, 10.0

#: The account types that Google's JSON files hold; only this one can send.
SERVICE_ACCOUNT = "service_account"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        remedy: what to do; "" where nothing is to be done.
    """

    part: str
    status: Literal["ok", "warn", "fail"]
    found: str
    remedy: str = ""

    def document(self) -> dict[str, str]:
        """The same as JSON."""
        return {"part": self.part, "status": self.status, "found": self.found, "remedy": self.remedy}


def examine(settings: Settings, queues: Callable[[], dict[str, tuple[int, int, int]]]) -> list[Check]:
    """All findings, in the order in which parts need each other.

    Args:
        settings: the installation's. The database must be open by `open_database`.
        queues: gives (ready, delayed, dead) by queue, or raises what the broker raises; not called for memory://.
    """
    found: list[Check] = []
    try:
        found += _database(settings)
        if all(check.status != "fail" for check in found):
            found += [*_secrets(settings), *_clock()]
    except damage.ERRORS as error:
        if not damage.is_damage(error):
            raise
        # Whatever was read of it before: it is the one finding.
        found = [Check("database", "fail", f"{settings.sqlite_path}: {damage.FOUND}", damage.REMEDY)]
    found.append(_broker(settings, queues))
    found += [_apns(settings), _fcm(settings), _vapid(settings), _mail(settings)]
    return found


def _database(settings: Settings) -> Iterator[Check]:
    try:
        with connection():
            database.execute_sql("SELECT 1").fetchone()
    except DATABASE_AWAY as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        yield Check(
            "database", "fail", f"cannot be reached: {lines[0]}", "check TOCSIN_DATABASE_URL, and start it"
        )
        return
    yield Check("database", "ok", "SQLite" if is_sqlite() else "PostgreSQL")
    if lacking := migrate.pending():
        yield Check("migrations", "fail", f"pending: {', '.join(lacking)}", "run `tocsin migrate`")
    elif later := migrate.unknown():
        yield Check(
            "migrations",
            "fail",
            f"a later version of Tocsin has applied {', '.join(later)}",
            "run that version here too, or restore the backup from before it",
        )
    else:
        yield Check("migrations", "ok", "up to date")
    if settings.is_sqlite:
        yield from _files(settings.sqlite_path)


def _files(path: Path) -> Iterator[Check]:
    """Who may read the file and its keys. Tokens and names of people are in the clear in the former."""
    for name, file in (("database file", path), ("key file", key_file(path))):
        if not file.exists():
            continue
        mode = stat.S_IMODE(file.stat().st_mode)
        others = mode & 0o077 if name == "key file" else mode & 0o007
        if others:
            status: Literal["warn", "fail"] = "fail" if name == "key file" else "warn"
            yield Check(name, status, f"others may read {file} (mode {mode:o})", f"chmod 600 {file}")
        else:
            yield Check(name, "ok", f"mode {mode:o}")


def _secrets(settings: Settings) -> Iterator[Check]:
    """Whether the keys are some, and each channel's config can be decrypted."""
    try:
        # Without a key file the vault would make one.
        if settings.is_sqlite and key_file(settings.sqlite_path).exists():
            vault.encrypt(b"")
    except SettingsError as error:
        yield Check("secret keys", "fail", "cannot be read", str(error))
        return
    with connection():
        # The ciphertext itself: Peewee's field would decrypt it, and stop at the first that it cannot.
        table = Channel._meta.table_name  # noqa: SLF001  # Peewee's documented home of the schema
        rows = database.execute_sql(f"SELECT name, config FROM {table} ORDER BY id").fetchall()  # noqa: S608  # names are ours
    lost = []
    for name, token in rows:
        try:
            vault.decrypt(token)
        except SettingsError:
            lost.append(name)
    if lost:
        names = ", ".join(lost[:10]) + (", ..." if len(lost) > 10 else "")  # noqa: PLR2004  # one line
        remedy = "add the key with which they were written to TOCSIN_SECRET_KEYS, or save them anew"
        yield Check(
            "secret keys", "fail", f"cannot decrypt {len(lost)} of {len(rows)} channels: {names}", remedy
        )
    else:
        yield Check("secret keys", "ok", f"decrypt all {len(rows)} channels")


def _clock() -> Iterator[Check]:
    """How far our wall clock is from the one by which leases and due times go. Providers judge by the former."""
    if is_sqlite():
        return
    with connection():
        before = datetime.now(UTC)
        theirs = database.execute_sql("SELECT clock_timestamp()").fetchone()[0]
        after = datetime.now(UTC)
    skew = abs((theirs - (before + (after - before) / 2)).total_seconds())
    status: Literal["ok", "warn", "fail"] = (
        "ok" if skew < SKEW_WARN else "warn" if skew < SKEW_FAIL else "fail"
    )
    remedy = "" if status == "ok" else "run an NTP service on both machines"
    yield Check("clock", status, f"{skew:.2f} s away from the database's", remedy)


def _broker(settings: Settings, queues: Callable[[], dict[str, tuple[int, int, int]]]) -> Check:
    if settings.broker_url.get_secret_value() == "memory://":
        return Check("broker", "ok", "in this process (memory://)")
    from dramatiq.errors import BrokerError  # noqa: PLC0415  # only where there is a broker
    from pika.exceptions import AMQPError  # noqa: PLC0415

    try:
        counts = queues()
    except (BrokerError, AMQPError, OSError) as error:
        why = str(error).strip() or type(error).__name__
        return Check("broker", "fail", f"cannot be reached: {why}", "check TOCSIN_BROKER_URL, and start it")
    told = ", ".join(f"{name} {ready}+{delayed}" for name, (ready, delayed, _) in counts.items())
    dead = {name: number for name, (_, _, number) in counts.items() if number}
    if dead:
        listed = ", ".join(f"{number} in {name}.XQ" for name, number in dead.items())
        return Check("broker", "warn", f"dead letters: {listed}", _burial(dead))
    return Check("broker", "ok", f"ready+delayed: {told}")


def _burial(dead: dict[str, int]) -> str:
    """What to do with dead letters: those with alerts that nobody accepted are the only copy, and not to be purged."""
    from actors.roads import ACCEPT  # noqa: PLC0415  # only where there is a broker

    steps = []
    if ACCEPT in dead:
        steps.append(
            f"{ACCEPT}.XQ holds alerts that were never accepted and are nowhere else: `tocsin dead-letters list "
            f"--queue {ACCEPT}`, mend what kept them out, then `tocsin dead-letters import --queue {ACCEPT}`"
        )
    if others := [f"{name}.XQ" for name in dead if name != ACCEPT]:
        steps.append(
            f"of {', '.join(others)} the sweep has sent the rows on: look at them in the management console, then "
            "purge these queues"
        )
    return "; ".join(steps)


def _apns(settings: Settings) -> Check:
    names = ("apns_key_file", "apns_key_id", "apns_team_id", "apns_topic")

    def load() -> str:
        assert settings.apns_key_file is not None  # noqa: S101  # _provider has looked
        key = settings.apns_key_file.read_text(encoding="utf-8")
        ProviderToken(key, settings.apns_key_id or "", settings.apns_team_id or "")
        return f"key {settings.apns_key_id} for {settings.apns_topic}"

    return _provider("APNs", settings, names, load, "the .p8 file of developer.apple.com, Keys")


def _fcm(settings: Settings) -> Check:
    def load() -> str:
        assert settings.fcm_credentials_file is not None  # noqa: S101  # as above
        document: Any = json.loads(settings.fcm_credentials_file.read_text(encoding="utf-8"))
        if (
            not isinstance(document, dict)
            or document.get("type") != SERVICE_ACCOUNT
            or not document.get("project_id")
        ):
            raise ValueError("it is no service account's JSON")
        from firebase_admin import credentials  # noqa: PLC0415  # 0.3 s, and only where FCM is configured

        credentials.Certificate(document)
        return f"project {document['project_id']}"

    remedy = "the service account's JSON of the Firebase console, Project settings"
    return _provider("FCM", settings, ("fcm_credentials_file",), load, remedy)


def _vapid(settings: Settings) -> Check:
    def load() -> str:
        assert settings.vapid_private_key_file is not None  # noqa: S101  # as above
        Vapid(settings.vapid_private_key_file.read_text(encoding="utf-8"), settings.vapid_subject or "")
        return f"subject {settings.vapid_subject}"

    names = ("vapid_private_key_file", "vapid_subject")
    return _provider("Web Push", settings, names, load, "a P-256 private key in PEM or base64url")


def _mail(settings: Settings) -> Check:
    def load() -> str:
        from senders.email import EmailConfig  # noqa: PLC0415  # only where mail is configured

        assert settings.smtp_url is not None  # noqa: S101  # as above
        _, address = parseaddr(settings.mail_from or "")
        EmailConfig.model_validate(
            {"to": [address]}
        )  # by the rule to which the sender itself holds addresses
        return f"{address} by {urlsplit(settings.smtp_url.get_secret_value()).hostname}"

    if settings.smtp_url is None and settings.mail_from is not None:
        # This half is good for something: it is the sender of channels with a server of their own.
        remedy = "set TOCSIN_SMTP_URL; channels with an smtp_url of their own need no setting"
        return Check("mail", "warn", "no mail server: TOCSIN_SMTP_URL missing", remedy)
    expected = "a mail server, and TOCSIN_MAIL_FROM an address such as ops@example.org"
    return _provider("mail", settings, ("smtp_url", "mail_from"), load, expected)


def _provider(
    part: str, settings: Settings, names: tuple[str, ...], load: Callable[[], str], expected: str
) -> Check:
    """Whether a provider's credentials are there, and can be what they should be. Nobody is asked."""
    lacking = [f"TOCSIN_{name.upper()}" for name in names if getattr(settings, name) is None]
    if len(lacking) == len(names):
        remedy = (
            f"set {', '.join(lacking)} to send there; channels with credentials of their own need no setting"
        )
        return Check(part, "warn", "not configured", remedy)
    if lacking:
        return Check(
            part, "fail", f"half configured: {', '.join(lacking)} missing", f"set {', '.join(lacking)}"
        )
    try:
        return Check(part, "ok", load())
    except OSError as error:
        return Check(
            part,
            "fail",
            f"cannot be read: {error.strerror}",
            f"TOCSIN_{names[0].upper()} must name {expected}",
        )
    except (ValueError, SendError):
        # Parsers' texts may quote the key.
        return Check(
            part, "fail", "is not what it should be", f"TOCSIN_{names[0].upper()} must name {expected}"
        )

"""The database: one proxy, two engines, and the three column types that both must understand alike."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson
from peewee import (  # type: ignore[attr-defined]  # its stubs lack the last one
    SQL,
    AutoField,
    DatabaseProxy,
    Field,
    InterfaceError,
    Model,
    NodeList,
    OperationalError,
    SqliteDatabase,
    Value,
    __exception_wrapper__,
    fn,
)
from playhouse.pool import MaxConnectionsExceeded

from model.pools import BUSY_SECONDS, PostgresPool, SqlitePool
from model.vault import LostKeyError, vault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from peewee import Database

    from config import Settings

#: Every table is bound to this; `open_database` says what stands behind it.
database = DatabaseProxy()

#: What a query raises while the database is away, restarts, or has no connection to give: worth another try.
#: MaxConnectionsExceeded is a plain ValueError in Peewee, hence its own place.
DATABASE_AWAY = (OperationalError, InterfaceError, MaxConnectionsExceeded)

__all__ = [
    "DATABASE_AWAY",
    "BaseModel",
    "BigIdField",
    "EncryptedJsonField",
    "IdField",
    "JsonField",
    "LooseJsonField",
    "Pulse",
    "Unreadable",
    "UtcDateTimeField",
    "connection",
    "database",
    "execute",
    "execute_later",
    "is_sqlite",
    "iso",
    "open_database",
    "reading_all",
    "transaction",
    "tuples",
    "utcnow",
]


class _Clock:
    """The time by which all processes go: PostgreSQL's, where there is one.

    Leases, due times and deadlines are compared between machines, and a wall clock that is an hour ahead would
    take over deliveries that others are making. So a process asks the server now and then, and counts on by its
    monotonic clock, which no step of its own wall clock moves. With SQLite all processes share one clock, which a
    suspended laptop must not stop: there the wall clock is right.
    """

    #: Seconds after which the server is asked again: monotonic clocks drift, and stand still in a suspended machine.
    INTERVAL = 10.0

    def __init__(self) -> None:
        self._server_minus_monotonic: float | None = None
        self._asked = float("-inf")

    def now(self) -> datetime:
        """Now, in UTC, aware."""
        if self._server_minus_monotonic is None:
            return datetime.now(UTC)
        return datetime.fromtimestamp(self._server_minus_monotonic + time.monotonic(), UTC)

    def follow(self, connection: Any) -> None:
        """Ask the server behind a connection, if it is time to."""
        before = time.monotonic()
        if before - self._asked < self.INTERVAL:
            return
        # Past Peewee, but for its errors: this is no statement of anybody's work.
        with __exception_wrapper__, connection.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
            server = float(cursor.fetchone()[0])
        after = time.monotonic()
        self._server_minus_monotonic = server - (before + after) / 2
        self._asked = after

    def forget(self) -> None:
        """Go by the wall clock until a server is asked."""
        self._server_minus_monotonic = None
        self._asked = float("-inf")


_clock = _Clock()


def utcnow() -> datetime:
    """Now, in UTC, aware: by the database server's clock in a process that works with one."""
    return _clock.now()


#: A worker that vanishes behind a cut network in mid-transaction leaves its locks behind, on jobs and on the lease of
#: the sweep, and the server would keep them for the two hours of its keepalives: no other worker could go on. None of
#: our transactions waits for anything but the database, so one that is idle for this long is nobody's any more.
#: https://www.postgresql.org/docs/current/runtime-config-client.html
#: No statement of ours runs for so long that compiling it pays, which takes half a second where estimates are far off.
#: What is prepared has one plan for all values, which must not be one for the few rows that the table had at the time:
#: all that is prepared goes by an index, and so does nearly all else.
#: https://www.postgresql.org/docs/current/runtime-config-query.html
_SESSION = (
    "-c timezone=UTC -c jit=off -c enable_seqscan=off -c plan_cache_mode=force_generic_plan "
    "-c idle_in_transaction_session_timeout=15000 "
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)


def open_database(settings: Settings) -> Database:
    """Bind the tables to the database that the settings name. No connection is made yet.

    Queries outside of `connection()` or `transaction()` raise: a forgotten one would keep a connection for
    ever.
    """
    opened: Database
    if settings.is_sqlite:
        opened = SqlitePool(
            str(settings.sqlite_path),
            max_connections=settings.database_pool,
            timeout=30,
            autoconnect=False,
            check_same_thread=False,  # the pool gives a connection to one thread at a time, to any in turn
            pragmas={
                "journal_mode": "wal",
                # FULL, not NORMAL: an accepted alert must survive a power cut, and WAL with NORMAL may lose
                # the last.
                "synchronous": "full",
                "busy_timeout": BUSY_SECONDS * 1000,
                "foreign_keys": 1,
            },
        )
    else:
        parts = urlsplit(settings.database_url.get_secret_value())
        options: dict[str, Any] = {
            "host": parts.hostname,
            "port": parts.port or 5432,
            "user": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password) if parts.password else None,
            "connect_timeout": 10,
            "tcp_user_timeout": 15_000,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "application_name": "tocsin",
            **dict(parse_qsl(parts.query)),
        }
        options["options"] = f"{options.get('options', '')} {_SESSION}".strip()
        opened = PostgresPool(
            unquote(parts.path.lstrip("/")),
            max_connections=settings.database_pool,
            stale_timeout=300,
            timeout=30,
            autoconnect=False,
            **options,
        )
    database.initialize(opened)
    _clock.forget()
    vault.open(settings)
    return opened


def is_sqlite() -> bool:
    """Which of the two engines it is, for the few statements in which they differ."""
    return isinstance(database.obj, SqliteDatabase)


def among(field: Any, ids: Iterable[int | str]) -> Any:
    """Whether a field of a Peewee query is one of these ids, in one parameter: a hundred of them cost it 1 ms.

    And SQLite takes no more than 32,766, while ids may be as many as there are.
    """
    found = list(ids)
    if is_sqlite():
        return field.in_(SQL("(SELECT value FROM json_each(?))", (orjson.dumps(found).decode(),)))
    return field == fn.ANY(Value(found, converter=False, unpack=False))


@contextmanager
def connection() -> Iterator[None]:
    """A connection of this thread for the length of the block. Nested blocks share the outermost one's."""
    if not database.is_closed():
        yield
        return
    database.connect()
    try:
        if not is_sqlite():
            _clock.follow(database.connection())
        yield
    finally:
        database.close()


@contextmanager
def transaction() -> Iterator[None]:
    """A connection, and all or nothing of what is written in the block.

    SQLite takes the write lock at the start: a lock upgrade in the middle could only fail.
    """
    with connection(), database.atomic("IMMEDIATE") if is_sqlite() else database.atomic():
        yield


@contextmanager
def reading_all() -> Iterator[None]:
    """A connection for queries that read whole tables, which they may do in the order of their pages (see _SESSION)."""
    with connection():
        if is_sqlite():
            yield
            return
        with database.atomic():
            database.execute_sql("SET LOCAL enable_seqscan = on")
            yield


class Pulse:
    """Keeps a transaction alive in which Python works for long: PostgreSQL ends one that says nothing (_SESSION)."""

    #: Seconds of silence: few enough that all threads of a process may work at once.
    INTERVAL = 1.0

    def __init__(self) -> None:
        self._last = time.monotonic()

    def beat(self) -> None:
        """Say something, if it is time to."""
        if time.monotonic() - self._last > self.INTERVAL:
            database.execute_sql("SELECT 1")
            self._last = time.monotonic()


def execute(sql: str, params: tuple[Any, ...]) -> Any:
    """Execute a statement that comes again and again, with other values; its cursor. PostgreSQL is to prepare it.

    Args:
        sql: one of a fixed number; see PostgresPool.execute_prepared.
        params: its values.
    """
    opened = database.obj
    if isinstance(opened, PostgresPool):
        return opened.execute_prepared(sql, params)
    return database.execute_sql(sql, params)


def execute_later(sql: str, params: tuple[Any, ...]) -> None:
    """The same of one whose result nobody reads: in a transaction on PostgreSQL together with the one after it."""
    opened = database.obj
    if isinstance(opened, PostgresPool) and opened.in_transaction():
        opened.send_later(sql, params)
    else:
        execute(sql, params)


def tuples(query: Any) -> Iterator[tuple[Any, ...]]:
    """The rows of a query as tuples. Peewee's stubs would have `query.tuples()` be models still."""
    return iter(query.tuples())


class IdField(AutoField):
    """An id that is never given out again, of 32 bits in PostgreSQL.

    SQLite would give one out again once the newest row is deleted, and what still waits for that channel or device
    would go to the next one: https://www.sqlite.org/autoinc.html
    """

    def ddl(self, ctx: Any) -> Any:
        """As Peewee's."""
        return NodeList((super().ddl(ctx), SQL("AUTOINCREMENT"))) if is_sqlite() else super().ddl(ctx)


class BigIdField(IdField):
    """The same of 64 bits."""

    field_type = "BIGAUTO"


class UtcDateTimeField(Field):
    """A moment, aware in and out: `timestamptz` in PostgreSQL, fixed-width ISO text (it sorts) in SQLite."""

    field_type = "TIMESTAMPTZ"

    def db_value(self, value: datetime | None) -> Any:
        """Encode, and refuse a naive datetime."""
        if value is None:
            return None
        text = iso(value)
        return text if is_sqlite() else value

    def python_value(self, value: Any) -> Any:
        """PostgreSQL gives datetimes, SQLite text."""
        if value is None or isinstance(value, datetime):
            return value
        return datetime.fromisoformat(value)


def iso(moment: datetime) -> str:
    """The one text form of a moment in the database: UTC, six digits of a second, always as wide.

    Raises:
        ValueError: it is naive, and its zone would be a guess.
    """
    if moment.tzinfo is None:
        raise ValueError("a naive datetime has no place in the database")
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class JsonField(Field):
    """A JSON document, as text in both engines: it is read and written whole, never searched."""

    field_type = "TEXT"

    def db_value(self, value: Any) -> str | None:
        """Encode."""
        return None if value is None else orjson.dumps(value).decode()

    def python_value(self, value: str | None) -> Any:
        """Decode."""
        return None if value is None else orjson.loads(value)


class LooseJsonField(JsonField):
    """A JSON document that whoever reads it checks: text that is none, of a hand's making, comes as it is."""

    def python_value(self, value: str | None) -> Any:
        """Decode, where it can be."""
        try:
            return super().python_value(value)
        except orjson.JSONDecodeError:
            return value


class Unreadable(dict[str, Any]):
    """In place of a document that none of the keys decrypts: empty, so that the row can be shown, replaced and deleted.

    Whoever acts on what such a document says has to ask whether it is one.
    """

    #: What is wrong, and what mends it.
    WHY = "none of TOCSIN_SECRET_KEYS decrypts it: save it anew, with its secrets, or add the key that is lacking"


class EncryptedJsonField(Field):
    """A JSON object that only processes with TOCSIN_SECRET_KEYS can read; to others it is `Unreadable`.

    The whole document is encrypted, not chosen keys of it: what a new provider calls its secret cannot be
    forgotten.
    """

    field_type = "TEXT"

    def db_value(self, value: Any) -> str | None:
        """Encrypt under the newest key.

        Raises:
            TypeError: it is what nobody could read, and would be lost for good.
        """
        if isinstance(value, Unreadable):
            raise TypeError("what no key decrypts is replaced, or left alone")
        return None if value is None else vault.encrypt(orjson.dumps(value))

    def python_value(self, value: str | None) -> Any:
        """Decrypt under whichever key fits."""
        try:
            return None if value is None else orjson.loads(vault.decrypt(value))
        except LostKeyError:
            return Unreadable()


class BaseModel(Model):
    """A table of ours."""

    class Meta:
        """Bound to the proxy."""

        database = database
        legacy_table_names = False

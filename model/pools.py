"""The two engines' pools of connections."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import sqlite3
import threading
import time
from typing import Any
from weakref import WeakKeyDictionary

from peewee import __exception_wrapper__  # type: ignore[attr-defined]  # its stubs lack it
from playhouse.pool import PooledPostgresqlDatabase, PooledSqliteDatabase
from psycopg2.errors import InvalidSqlStatementName

#: How long a statement waits for SQLite's one writer.
BUSY_SECONDS = 15


class _Unsent(threading.local):
    """What belongs to this thread's transaction, and goes with its next statement.

    Attributes:
        begin: BEGIN, where it is among it.
        statements: what comes after it, its values filled in.
        prepared: the names of what is prepared among them, by its text.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Whatever it was belonged to a transaction that is no more."""
        self.begin = False
        self.statements: list[bytes] = []
        self.prepared: dict[str, str] = {}


class PostgresPool(PooledPostgresqlDatabase):  # type: ignore[misc]  # playhouse ships no types
    """A pool that looks at a connection before it hands it out, and saves round trips.

    After a restart of the server every worker thread would fail once. A server that went away has sent its farewell
    (or the kernel a FIN), so the idle socket is readable. To ask the server, as Peewee does, would cost each
    transaction another round trip.

    BEGIN goes together with the first statement, and a statement whose result nobody reads with the one after it, or
    with COMMIT, in one message of several statements:
    https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
    On a busy machine each round trip is two waits, for a processor at the server and for the interpreter's lock here.
    What fails, fails the transaction, as it would have done alone.

    A statement that comes again and again is prepared, each connection's first time: to read and plan it anew took a
    sixth of the server's time in a storm of alerts.
    """

    #: Statements that a connection keeps prepared. There are fewer; but a plan is some ten kilobytes of the server's.
    PREPARED = 100

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unsent = _Unsent()
        self._prepared: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()
        self._numbers = itertools.count(1)
        self._may_prepare = True

    def connect(self, reuse_if_open: bool = False) -> Any:  # noqa: FBT001, FBT002  # Peewee's signature
        """As Peewee's."""
        self._unsent.forget()
        return super().connect(reuse_if_open)

    def _is_closed(self, conn: Any) -> bool:
        if conn.closed:
            return True
        if self._adapter.txn_status(conn) != self._adapter.txn_idle:
            return bool(super()._is_closed(conn))  # rolls back what somebody left open
        # Not select(): that fails for descriptors from 1,024 on, and a busy worker has them.
        poll = select.poll()
        poll.register(conn.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def begin(self, isolation_level: Any = None) -> None:
        """As Peewee's, but together with the first statement."""
        self._unsent.forget()
        if isolation_level or self._isolation_level:
            super().begin(isolation_level)
        else:
            self._unsent.begin = True

    def send_later(self, sql: str, params: tuple[Any, ...]) -> None:
        """Take a statement of a transaction, to be sent with the next one, or with COMMIT.

        Args:
            sql: as in execute_prepared.
            params: its values.
        """
        self._unsent.statements.append(self._call(sql, params))

    def execute_prepared(self, sql: str, params: tuple[Any, ...]) -> Any:
        """Execute a statement; its cursor.

        Args:
            sql: one of a fixed number, with %s for each value and no other per cent sign. A value whose type PostgreSQL
                cannot tell from what stands beside it needs a cast.
            params: its values.
        """
        self._drop_what_is_left()
        return self._send(self._call(sql, params))

    def _call(self, sql: str, params: tuple[Any, ...]) -> bytes:
        """A statement as it is sent: the call of what is prepared. What is not yet goes before it, among the unsent."""
        self._log_query(sql, params)
        with __exception_wrapper__:
            cursor = self.cursor()
            known = self._prepared.setdefault(cursor.connection, {})
            name = known.get(sql) or self._unsent.prepared.get(sql)
            if name is None and self._may_prepare and len(known) < self.PREPARED:
                # A name of its own each time: nobody knows whether a message that failed came as far as this.
                name = self._unsent.prepared[sql] = f"tocsin_{next(self._numbers)}"
                self._unsent.statements.append(f"PREPARE {name} AS {_numbered(sql)}".encode())
            if name is not None:
                sql = f"EXECUTE {name} ({', '.join(['%s'] * len(params))})" if params else f"EXECUTE {name}"
            call: bytes = cursor.mogrify(sql, params)
            return call

    def commit(self) -> None:
        """As Peewee's. Of a transaction without a statement the server never hears."""
        if self._unsent.statements:
            self._send(b"COMMIT")
        elif self._unsent.begin:
            self._unsent.forget()
        else:
            super().commit()

    def rollback(self) -> None:
        """As Peewee's."""
        has_begun = not self._unsent.begin
        self._unsent.forget()
        if has_begun:
            super().rollback()

    def _execute_cursor(self, sql: str, params: Any, **options: Any) -> Any:
        self._drop_what_is_left(is_undone=sql.startswith("ROLLBACK TO SAVEPOINT"))
        if not (self._unsent.begin or self._unsent.statements):
            return super()._execute_cursor(sql, params, **options)
        self._log_query(sql, params)
        with __exception_wrapper__:
            statement = self.cursor().mogrify(sql, params or ())
        return self._send(statement)

    def _drop_what_is_left(self, *, is_undone: bool = False) -> None:
        """Forget what no transaction will send: an interrupt has left it behind; or it is what is to be undone."""
        if is_undone or not self.in_transaction():
            self._unsent.statements = []
            self._unsent.prepared = {}
            self._unsent.begin &= self.in_transaction()

    def _send(self, statement: bytes) -> Any:
        parts = [b"BEGIN"] if self._unsent.begin else []
        message = b"; ".join([*parts, *self._unsent.statements, statement])
        prepared = self._unsent.prepared
        self._unsent.forget()
        with __exception_wrapper__:
            cursor = self.cursor()
            try:
                # Without parameters: these are in it, and a per cent sign is one.
                cursor.execute(message)
            except InvalidSqlStatementName:
                # A pooler between us and the server gives each transaction another of its connections.
                self._may_prepare = False
                self._prepared.clear()
                raise
        self._prepared.setdefault(cursor.connection, {}).update(prepared)
        return cursor


def _numbered(sql: str) -> str:
    """A statement with $1, $2 and so on for its values, as PREPARE wants them."""
    first, *others = sql.split("%s")
    return first + "".join(f"${number}{part}" for number, part in enumerate(others, start=1))


class SqlitePool(PooledSqliteDatabase):  # type: ignore[misc]  # as above
    """A pool that makes its file private, and whose connections wait for their turn to switch it to WAL.

    Of two that try at the same moment SQLite refuses one at once: `busy_timeout` does not hold for it.
    """

    def _connect(self) -> Any:
        # Device tokens are nobody else's business: SQLite gives its side files the mode that the main one has.
        with contextlib.suppress(OSError):
            os.close(os.open(self.database, os.O_CREAT | os.O_EXCL, 0o600))
        return super()._connect()

    def _set_pragmas(self, conn: Any) -> None:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                super()._set_pragmas(conn)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

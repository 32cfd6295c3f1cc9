"""The two engines' pools of connections."""

from __future__ import annotations

import contextlib
import os
import select
import sqlite3
import threading
import time
from typing import Any

from peewee import __exception_wrapper__  # type: ignore[attr-defined]  # its stubs lack it
from playhouse.pool import PooledPostgresqlDatabase, PooledSqliteDatabase

#: How long a statement waits for SQLite's one writer.
BUSY_SECONDS = 15


class _Unsent(threading.local):
    """What belongs to this thread's transaction, and goes with its next statement.

    Attributes:
        begin: BEGIN, where it is among it.
        statements: what comes after it, its values filled in.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Whatever it was belonged to a transaction that is no more."""
        self.begin = False
        self.statements: list[bytes] = []


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
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unsent = _Unsent()

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
        """Take a statement of a transaction, to be sent with the next one, or with COMMIT."""
        self._log_query(sql, params)
        with __exception_wrapper__:
            self._unsent.statements.append(self.cursor().mogrify(sql, params))

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
        if not self.in_transaction() or sql.startswith("ROLLBACK TO SAVEPOINT"):
            # An interrupt has left it behind; or it is what is to be undone.
            self._unsent.statements = []
            self._unsent.begin &= self.in_transaction()
        if not (self._unsent.begin or self._unsent.statements):
            return super()._execute_cursor(sql, params, **options)
        self._log_query(sql, params)
        with __exception_wrapper__:
            statement = self.cursor().mogrify(sql, params or ())
        return self._send(statement)

    def _send(self, statement: bytes) -> Any:
        parts = [b"BEGIN"] if self._unsent.begin else []
        message = b"; ".join([*parts, *self._unsent.statements, statement])
        self._unsent.forget()
        with __exception_wrapper__:
            cursor = self.cursor()
            # Without parameters: these are in it, and a per cent sign is one.
            cursor.execute(message)
        return cursor


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

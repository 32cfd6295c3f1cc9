"""The servers that other tests lean on: they start, bear being hurt, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import httpx
import pika
import pika.exceptions
import pytest
from peewee import Database, OperationalError, SqliteDatabase
from playhouse.db_url import connect

if TYPE_CHECKING:
    from tests.servers import PostgresServer, RabbitServer

ROOT = Path(__file__).parents[2]


def _amqp(url: str) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(url))


def _published(url: str, *, durable: bool = True) -> None:
    with _amqp(url) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("held", durable=durable)
        persistent = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
        channel.basic_publish("", "held", b"a message", persistent)


def _held(url: str) -> bytes | None:
    with _amqp(url) as connection:
        channel = connection.channel()
        channel.queue_declare("held", durable=True)
        body: bytes | None = channel.basic_get("held", auto_ack=True)[2]
        return body


def test_each_test_has_an_empty_database_of_its_own(postgres: PostgresServer, postgres_url: str) -> None:
    other_url = postgres.create_database()
    mine, other = connect(postgres_url), connect(other_url)
    with mine.connection_context(), other.connection_context():
        assert mine.get_tables() == []
        mine.execute_sql("CREATE TABLE notes (text text)")
        assert other.get_tables() == []
    postgres.drop_database(other_url)


def test_database_url_is_of_each_kind(database_url: str) -> None:
    database: Database = connect(database_url)
    with database.connection_context():
        database.execute_sql("CREATE TABLE notes (text text)")
        assert database.get_tables() == ["notes"]
    assert isinstance(database, SqliteDatabase) == database_url.startswith("sqlite")


def test_postgres_is_durable_unless_told_otherwise(postgres_url: str) -> None:
    database = connect(postgres_url)
    with database.connection_context():
        assert database.execute_sql("SHOW fsync").fetchone() == ("on",)
        (version,) = database.execute_sql("SHOW server_version_num").fetchone()
    assert int(version) >= 150000


def test_postgres_keeps_what_was_committed_over_a_crash(postgres: PostgresServer, postgres_url: str) -> None:
    # Given a committed row and an open connection
    database = connect(postgres_url)
    database.connect()
    database.execute_sql("CREATE TABLE notes (text text)")
    database.execute_sql("INSERT INTO notes VALUES ('kept')")
    # When the server crashes
    postgres.stop("immediate")
    # Then the connection is broken, and nobody answers
    with pytest.raises(OperationalError):
        database.execute_sql("SELECT 1")
    database.close()
    with pytest.raises(OperationalError):
        database.connect()
    assert not postgres.is_running()
    # And after a start the row is there, under the same URL
    postgres.start()
    with database.connection_context():
        assert database.execute_sql("SELECT text FROM notes").fetchall() == [("kept",)]


def test_rabbitmq_url_and_management(rabbitmq: RabbitServer, rabbitmq_url: str) -> None:
    # Given a message in a queue of a fresh vhost
    _published(rabbitmq_url)
    # Then the management API shows it where an operator would look
    vhost = unquote(urlsplit(rabbitmq_url).path.removeprefix("/"))
    queue = httpx.get(
        f"{rabbitmq.management_url}/api/queues/{vhost}/held",
        auth=("tocsin", rabbitmq.password),
        trust_env=False,
    )
    assert queue.json()["durable"] is True
    # And so does the node's own tool
    listed = rabbitmq.rabbitmqctl("--quiet", "list_queues", "--vhost", vhost, "name", "messages")
    assert listed.splitlines()[-1].split() == ["held", "1"]


def test_rabbitmqctl_says_what_went_wrong(rabbitmq: RabbitServer) -> None:
    with pytest.raises(subprocess.CalledProcessError, match="no_such_vhost"):
        rabbitmq.rabbitmqctl("delete_vhost", "no_such_vhost")


def test_a_killed_rabbitmq_keeps_confirmed_messages_and_a_wiped_one_none(
    rabbitmq: RabbitServer, rabbitmq_url: str
) -> None:
    # Given two confirmed, persistent messages
    _published(rabbitmq_url)
    _published(rabbitmq_url)
    # When the node is killed; not at once: RabbitMQ 3.10 had lost what it had just confirmed to a classic queue in 2 of
    # 7 such deaths, and in none of 8 a second later
    time.sleep(2)
    rabbitmq.kill()
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        _amqp(rabbitmq_url)
    # Then they are there after a start
    rabbitmq.start()
    assert _held(rabbitmq_url) == b"a message"
    # But when its disk is lost
    rabbitmq.wipe()
    rabbitmq.start()
    # Then the URL is good and the queue is gone
    assert _held(rabbitmq_url) is None


@pytest.mark.servers
def test_servers_end_and_their_data_goes_when_the_run_is_killed(postgres: PostgresServer) -> None:
    # Given a run of its own that started a server
    assert postgres.is_running()
    code = (
        "from tests.servers import PostgresServer\n"
        "server = PostgresServer(durable=False)\n"
        "server.start()\n"
        "print(server.program.directory, server.program._process.pid, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        directory, pid = run.stdout.readline().split()
        assert Path(directory).exists()
        os.kill(int(pid), 0)
        # When the run dies without a chance to clean up
        run.send_signal(signal.SIGKILL)
        run.wait(5)
    # Then the server and its data are gone soon after
    deadline = time.monotonic() + 15
    while Path(directory).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(directory).exists()
    assert not _is_server(int(pid))


def _is_server(pid: int) -> bool:
    shown = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(shown) and not shown.startswith("Z")

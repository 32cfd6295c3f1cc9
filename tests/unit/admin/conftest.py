"""A migrated database of each kind, with a connection, and the tenants acme and other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import actors  # binds the tables to its own settings' database; here, before a test opens another
from model import ledger
from model.database import connection
from tests.support.database import make_tenant, open_test_database

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def db(database_url: str) -> Iterator[None]:
    with open_test_database(database_url), connection():
        make_tenant("acme")
        make_tenant("other")
        yield
        ledger.conservation()
    # No worker takes these messages here, and the next test's worker must not.
    actors.broker.flush_all()

"""One schema a test, on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.database import connection
from tests.support.database import make_tenant, open_test_database

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def migrated(database_url: str) -> Iterator[str]:
    """An open database with a tenant `acme`, and no connection of this thread; its URL."""
    with open_test_database(database_url):
        with connection():
            make_tenant()
        yield database_url


@pytest.fixture
def acme(migrated: str) -> Iterator[str]:
    """The same with a connection for the test."""
    with connection():
        yield migrated

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest

from receivers import FarSide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def _far() -> Iterator[FarSide]:
    with FarSide() as far:
        yield far


@pytest.fixture
def far(_far: FarSide) -> Iterator[FarSide]:
    """The far side, with nothing ordered and nothing received."""
    yield _far
    _far.normal()
    _far.clear()


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5) as client:
        yield client


@pytest.fixture
def trust(far: FarSide) -> ssl.SSLContext:
    """What a client of the local APNs trusts."""
    return ssl.create_default_context(cafile=far.apns.ca_file)


@pytest.fixture
def provider_token(far: FarSide) -> Callable[..., str]:
    """Makes an APNs JWT; arguments replace what would be right."""
    credential = far.apns.credential

    def make(
        *, key: str | None = None, kid: str | None = None, algorithm: str = "ES256", **claims: Any
    ) -> str:
        right = {"iss": credential.team_id, "iat": int(time.time())}
        return jwt.encode(
            {name: value for name, value in {**right, **claims}.items() if value is not None},
            key or credential.key_file.read_text(),
            algorithm=algorithm,
            headers={"kid": kid or credential.key_id},
        )

    return make

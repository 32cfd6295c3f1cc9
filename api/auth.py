"""Who calls: a key, and what its role may do. A dependency, so that other ways to sign in can stand beside it.

| role | may |
|---|---|
| ingest | hand in alerts, in our format and in others', and notify a user |
| read | that, and read everything but secrets; explain |
| admin | that, and change, test and replay |

A key fixes the tenant. It is looked up at each request, so that a revoked one ends at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from admin.keys import ROLES, verify_keys
from api.problems import ProblemError, too_often
from model.database import connection

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from admin.keys import Role, ValidKey
    from api.gather import Gather

#: Characters of a key: ours have 50, and hashing megabytes is nobody's right.
LONGEST = 200

_bearer = HTTPBearer(auto_error=False, description="An API key: `tocsin key create --role ROLE`.")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is.

    Attributes:
        role: ingest, read or admin.
        key_id: the row of the key.
    """

    tenant_id: str
    role: str
    key_id: int

    def may(self, role: str) -> bool:
        """Whether this caller's role includes another."""
        return ROLES.index(self.role) >= ROLES.index(role)


def look_up(keys: Sequence[str]) -> list[ValidKey | None]:
    """What the database knows of keys. Runs in a thread, for all callers of a moment at once."""
    with connection():
        return verify_keys(keys)


async def identify(request: Request, key: str, keys: Gather[str, ValidKey | None]) -> Caller:
    """The caller, by the key in the Authorization header.

    Raises:
        ProblemError: 401 where it is none; 429 for too many requests, or too many wrong keys.
    """
    row = await keys(key) if len(key) <= LONGEST else None
    if row is None:
        # Counted after the look, and by address: whoever guesses is slowed down, and nobody else is shut out by it.
        address = request.client.host if request.client else ""
        if wait := request.app.state.failures.take(address):
            raise too_often(wait, "too many wrong keys from this address")
        raise _unknown("there is no such key, or it was revoked", ', error="invalid_token"')
    caller = Caller(row.tenant_id, row.role, row.id)
    request.state.caller = caller
    if wait := request.app.state.buckets.take(caller.key_id):
        raise too_often(wait, "too many requests with this key")
    return caller


def require(role: Role) -> Callable[..., Coroutine[Any, Any, Caller]]:
    """The dependency of a call that a role may make. What needs no more than ingest is intake, and in its threads.

    Raises:
        ProblemError: 401 without a key; 401, 429 as above; 403 where the caller's role is too low.
    """

    async def caller(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Caller:
        if credentials is None:
            raise _unknown("give a key: `Authorization: Bearer KEY`", "")
        keys = request.app.state.intake_keys if role == "ingest" else request.app.state.keys
        caller = await identify(request, credentials.credentials, keys)
        if not caller.may(role):
            raise ProblemError(
                403,
                f"this call needs a key of role {role}; this one has {caller.role}",
                headers={
                    "WWW-Authenticate": f'Bearer realm="tocsin", error="insufficient_scope", scope="{role}"'
                },
            )
        return caller

    return caller


def _unknown(detail: str, error: str) -> ProblemError:
    return ProblemError(401, detail, headers={"WWW-Authenticate": f'Bearer realm="tocsin"{error}'})


Ingester = Annotated[Caller, Depends(require("ingest"))]
Reader = Annotated[Caller, Depends(require("read"))]
Administrator = Annotated[Caller, Depends(require("admin"))]

"""Channel tests: two of a tenant at a time. They wait for the far side, as long as a send may, without a thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from admin.testing import make, prepare
from api.problems import too_often
from api.work import reading

if TYPE_CHECKING:
    from starlette.requests import Request

#: Tests of one tenant at a time: they are for persons who wait for the answer.
OF_TENANT = 2


class Tests:
    """The tests under way. They live on the event loop of the app; their senders on that of its runtime."""

    def __init__(self) -> None:
        self._tenants: list[str] = []

    async def run(self, request: Request, tenant_id: str, channel_id: int) -> dict[str, Any]:
        """Make a test; as `admin.testing.test_channel`.

        Raises:
            LookupError: this tenant has no such channel.
            ProblemError: 429, as many of its tests as may be are under way.
        """
        state = request.app.state
        if self._tenants.count(tenant_id) >= OF_TENANT:
            raise too_often(state.settings.send_deadline, f"{OF_TENANT} channel tests of yours are under way")
        self._tenants.append(tenant_id)
        try:
            trial = await reading(request, prepare, tenant_id, channel_id)
            return await asyncio.wrap_future(state.runtime.begin(make(trial, state.runtime)))
        finally:
            self._tenants.remove(tenant_id)

"""The console's answers that need no browser and no demo to be looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.console.session import COOKIE
from tests.integration.api.conftest import TOKEN, session_cookie

if TYPE_CHECKING:
    from tests.integration.api.conftest import Api


def test_signing_out_deletes_a_cookie_however_old_it_is(sqlite_api: Api) -> None:
    for hours in (0, 2):
        headers = session_cookie(age=hours * 3600)
        answer = sqlite_api.client.post("/sign-out", data={"csrf": TOKEN}, headers=headers)
        assert answer.status_code == 303
        [written] = answer.headers.get_list("set-cookie")
        assert written.startswith(f'{COOKIE}="";'), hours
        assert "Max-Age=0" in written

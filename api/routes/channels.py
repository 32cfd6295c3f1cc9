"""Channels: listed, made, changed, deleted, tested. Secrets are written, and never read back."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from admin import channels
from admin.lookup import find_channel
from api import examples, pages
from api.auth import Administrator, Reader  # noqa: TC001  # FastAPI reads it at run time
from api.body import JsonBody, PatchBody  # noqa: TC001  # as above
from api.cursors import Cursor, Limit  # noqa: TC001  # as above
from api.describe import KEYED, WITH_BODY, answer, body, nothing, problems
from api.parameters import ShortId  # noqa: TC001  # as above
from api.problems import ProblemError
from api.responses import Json
from api.work import Call
from model.database import connection

router = APIRouter(prefix="/v1/channels", tags=["channels"], route_class=Call)

_EXAMPLES = {"webhook": examples.WEBHOOK, "push": examples.PHONES}
_MERGE = ("application/json", "application/merge-patch+json")


@router.get(
    "", summary="List channels", responses=answer(200, "A page, oldest first.", "ChannelPage") | KEYED
)
def list_channels(caller: Reader, limit: Limit = 50, cursor: Cursor = None) -> Json:
    """Channels with their health. Role: read."""
    with connection():
        return Json(pages.channels(caller.tenant_id, limit=limit, cursor=cursor))


@router.post(
    "",
    status_code=201,
    summary="Make a channel",
    responses=answer(201, "It is there.", "Channel") | WITH_BODY,
    openapi_extra=body("ChannelInput", _EXAMPLES),
)
def create_channel(caller: Administrator, given: JsonBody) -> Json:
    """Names are unique in a tenant. Role: admin."""
    with connection():
        channel = channels.create_channel(caller.tenant_id, given.object())
        document = channels.channel_document(channel)
    return Json(document, status_code=201, headers={"Location": f"/v1/channels/{channel.id}"})


@router.get(
    "/{channel_id}",
    summary="One channel",
    responses=answer(200, "The channel.", "Channel") | KEYED | problems(404),
)
def get_channel(caller: Reader, channel_id: ShortId) -> Json:
    """A channel, with a mask in place of each secret. Role: read."""
    with connection():
        return Json(channels.channel_document(find_channel(caller.tenant_id, channel_id)))


@router.put(
    "/{channel_id}",
    summary="Replace a channel",
    responses=answer(200, "The channel.", "Channel") | WITH_BODY | problems(404),
    openapi_extra=body("ChannelInput", _EXAMPLES),
)
def put_channel(caller: Administrator, channel_id: ShortId, given: JsonBody) -> Json:
    """What is not given takes its default. A mask that comes back keeps the secret it stands for. Role: admin."""
    with connection():
        changed = channels.update_channel(caller.tenant_id, channel_id, given.object(), partial=False)
        return Json(channels.channel_document(changed))


@router.patch(
    "/{channel_id}",
    summary="Change a channel",
    responses=answer(200, "The channel.", "Channel") | WITH_BODY | problems(404),
    openapi_extra=body("ChannelPatch", {"disable": {"is_enabled": False}}, _MERGE),
)
def patch_channel(caller: Administrator, channel_id: ShortId, given: PatchBody) -> Json:
    """What is not given stays; `config` is one field, replaced whole. Role: admin."""
    with connection():
        return Json(
            channels.channel_document(channels.update_channel(caller.tenant_id, channel_id, given.object()))
        )


@router.delete(
    "/{channel_id}",
    status_code=204,
    summary="Delete a channel",
    responses=nothing("It is gone, and the rules that lead to it.") | KEYED | problems(404),
)
def delete_channel(caller: Administrator, channel_id: ShortId) -> Response:
    """Rules that lead to it go with it; its jobs remain on record. Role: admin."""
    channels.delete_channel(caller.tenant_id, channel_id)
    return Response(status_code=204)


@router.post(
    "/{channel_id}/test",
    summary="Test a channel",
    responses=answer(200, "It arrived.", "ChannelTest") | KEYED | problems(404, 502),
)
async def post_test(request: Request, caller: Administrator, channel_id: ShortId) -> Json:
    """Send a marked test at once, past the queue, and answer with what the provider said.

    502 where it did not arrive, with the same members besides the problem's own; 429 while two tests of the tenant
    are under way. Role: admin.
    """
    found = await request.app.state.tests.run(request, caller.tenant_id, channel_id)
    if found["status"] == "ok":
        return Json(found)
    said = found["provider_response"]
    detail = ": ".join(filter(None, (found["outcome"], said["code"], said["detail"])))
    # `status` is the problem's own: the HTTP status.
    extra = {name: value for name, value in found.items() if name != "status"}
    raise ProblemError(502, f"the test did not arrive: {detail}", extra=extra)

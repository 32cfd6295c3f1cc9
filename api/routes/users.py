"""Users: their devices, what they want to hear, and a notification to one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from actors import dispatch_to_user
from admin import users
from api import examples
from api.auth import Administrator, Ingester, Reader  # noqa: TC001  # FastAPI reads it at run time
from api.body import JsonBody  # noqa: TC001  # as above
from api.describe import KEYED, WITH_BODY, answer, body, nothing, problems
from api.parameters import LongId, UserId  # noqa: TC001  # as above
from api.problems import ProblemError, shown
from api.responses import Json
from api.routes.alerts import refuse_crowded
from api.work import Call, accepting
from model.problems import InvalidInput, Problem

if TYPE_CHECKING:
    from api.body import Body

#: A user's id may hold slashes and line breaks.
router = APIRouter(prefix="/v1/users/{user_id:rest}", tags=["users"], route_class=Call)

#: Seconds that a caller may wait for a result: shorter than what proxies wait for us.
LONGEST_WAIT = 55


@router.get(
    "/devices",
    summary="A user's devices",
    responses=answer(200, "All of them.", "Devices") | KEYED | problems(404),
)
def list_devices(caller: Reader, user_id: UserId) -> Json:
    """Devices without their tokens, which are all that it takes to send to them. Role: read."""
    return Json({"items": users.list_devices(caller.tenant_id, user_id), "next": None})


@router.post(
    "/devices",
    summary="Register or refresh a device",
    responses=answer(200, "It is registered.", "Device") | WITH_BODY | problems(404),
    openapi_extra=body("DeviceInput", {"iPhone": examples.IPHONE}),
)
def register_device(request: Request, caller: Administrator, user_id: UserId, given: JsonBody) -> Json:
    """A known token or endpoint is refreshed, enabled again and becomes this user's. Role: admin."""
    networks = request.app.state.settings.allowed_networks
    device = users.register_device(caller.tenant_id, user_id, given.object(), allowed_networks=networks)
    return Json(users.device_document(device))


@router.delete(
    "/devices/{device_id}",
    status_code=204,
    summary="Delete a device",
    responses=nothing("It is gone.") | KEYED | problems(404),
)
def delete_device(caller: Administrator, user_id: UserId, device_id: LongId) -> Response:
    """Deliveries to it that are under way end FAILED, device_deleted. Role: admin."""
    users.delete_device(caller.tenant_id, user_id, device_id)
    return Response(status_code=204)


@router.get(
    "/preferences",
    summary="A user's preferences",
    responses=answer(200, "Whole, with defaults.", "Preference") | KEYED | problems(404, 409),
)
def get_preferences(caller: Reader, user_id: UserId) -> Json:
    """What was never said has its default: everything at any time. Role: read.

    409: what is stored cannot be read, and counts as none until it is PUT anew; `errors` says what is wrong.
    """
    try:
        return Json(users.get_preferences(caller.tenant_id, user_id))
    except users.UnreadablePreferencesError as error:
        raise ProblemError(409, f"{error}; PUT them anew", extra={"errors": shown(error.problems)}) from None


@router.put(
    "/preferences",
    summary="Replace a user's preferences",
    responses=answer(200, "Whole, with defaults.", "Preference") | WITH_BODY | problems(404),
    openapi_extra=body("Preference", {"quiet nights": examples.PREFERENCES}),
)
def put_preferences(caller: Administrator, user_id: UserId, given: JsonBody) -> Json:
    """They decide from the next notification on. Role: admin."""
    return Json(users.put_preferences(caller.tenant_id, user_id, given.object()))


@router.post(
    "/notify",
    status_code=202,
    summary="Notify a user",
    responses=answer(202, "The job goes on; GET it for its result.", "JobRef", {"job_id": 17})
    | answer(200, "It ended within `wait`.", "NotifyResult", examples.DISPATCH_RESULT | {"job_id": 17})
    | WITH_BODY
    | problems(404),
    openapi_extra=body("NotificationInput", {"parcel": examples.NOTIFICATION}),
)
async def notify(
    request: Request,
    caller: Ingester,
    user_id: UserId,
    given: JsonBody,
    wait: Annotated[
        float,
        Query(
            ge=0,
            description=f"Seconds to wait for the DispatchResult. Whatever is longer is {LONGEST_WAIT}.",
            allow_inf_nan=False,
        ),
    ] = 0,
) -> Json:
    """Send to all of a user's devices, no rule needed; the user's preferences decide as ever.

    With `wait` the answer is the DispatchResult if the job ends in time, and 202 if it goes on: at once where 30 of
    this key wait, or 200 in all, or when the server is about to end. Role: ingest.
    """
    job_id = await accepting(request, _dispatch, caller.tenant_id, user_id, given)
    if wait:
        waiting = request.app.state.waiting
        result = await waiting.result(request, caller, job_id, min(wait, LONGEST_WAIT))
        if result is not None:
            return Json({"job_id": job_id, **result})
    return Json({"job_id": job_id}, status_code=202, headers={"Location": f"/v1/jobs/{job_id}"})


def _dispatch(tenant_id: str, user_id: str, given: Body) -> int:
    notification = given.object()
    refuse_crowded([notification])
    notification_id = notification.pop("notification_id", None)
    if notification_id is not None and (
        not isinstance(notification_id, str) or not 1 <= len(notification_id) <= 255  # noqa: PLR2004  # as an alert_id
    ):
        raise InvalidInput([Problem("notification_id", "must be a string of 1 to 255 characters")])
    return dispatch_to_user(user_id, notification, tenant_id=tenant_id, notification_id=notification_id)

"""Routing rules: listed in the order in which they are asked, made, changed, deleted."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from admin import rules
from api import examples, pages
from api.auth import Administrator, Reader  # noqa: TC001  # FastAPI reads it at run time
from api.body import JsonBody, PatchBody  # noqa: TC001  # as above
from api.cursors import Cursor, Limit  # noqa: TC001  # as above
from api.describe import KEYED, WITH_BODY, answer, body, nothing, problems
from api.parameters import ShortId  # noqa: TC001  # as above
from api.responses import Json
from api.work import Call
from model.database import connection

router = APIRouter(prefix="/v1/rules", tags=["rules"], route_class=Call)

_EXAMPLES = {"rule": examples.RULE}
_MERGE = ("application/json", "application/merge-patch+json")


@router.get("", summary="List rules", responses=answer(200, "A page, by (priority, id).", "RulePage") | KEYED)
def list_rules(caller: Reader, limit: Limit = 50, cursor: Cursor = None) -> Json:
    """Rules in the order in which they are asked. Role: read."""
    with connection():
        return Json(pages.rules(caller.tenant_id, limit=limit, cursor=cursor))


@router.post(
    "",
    status_code=201,
    summary="Make a rule",
    responses=answer(201, "It is there.", "Rule") | WITH_BODY,
    openapi_extra=body("RuleInput", _EXAMPLES),
)
def create_rule(caller: Administrator, given: JsonBody) -> Json:
    """It is asked of the next alert. Role: admin."""
    with connection():
        rule = rules.create_rule(caller.tenant_id, given.object())
        document = rules.rule_document(rule)
    return Json(document, status_code=201, headers={"Location": f"/v1/rules/{rule.id}"})


@router.get(
    "/{rule_id}", summary="One rule", responses=answer(200, "The rule.", "Rule") | KEYED | problems(404)
)
def get_rule(caller: Reader, rule_id: ShortId) -> Json:
    """A rule. Role: read."""
    with connection():
        return Json(rules.rule_document(rules.find_rule(caller.tenant_id, rule_id)))


@router.put(
    "/{rule_id}",
    summary="Replace a rule",
    responses=answer(200, "The rule.", "Rule") | WITH_BODY | problems(404),
    openapi_extra=body("RuleInput", _EXAMPLES),
)
def put_rule(caller: Administrator, rule_id: ShortId, given: JsonBody) -> Json:
    """What is not given takes its default. Role: admin."""
    with connection():
        changed = rules.update_rule(caller.tenant_id, rule_id, given.object(), partial=False)
        return Json(rules.rule_document(changed))


@router.patch(
    "/{rule_id}",
    summary="Change a rule",
    responses=answer(200, "The rule.", "Rule") | WITH_BODY | problems(404),
    openapi_extra=body("RulePatch", {"quieter": {"throttle_minutes": 30}}, _MERGE),
)
def patch_rule(caller: Administrator, rule_id: ShortId, given: PatchBody) -> Json:
    """What is not given stays. Role: admin."""
    with connection():
        return Json(rules.rule_document(rules.update_rule(caller.tenant_id, rule_id, given.object())))


@router.delete(
    "/{rule_id}",
    status_code=204,
    summary="Delete a rule",
    responses=nothing("It is gone.") | KEYED | problems(404),
)
def delete_rule(caller: Administrator, rule_id: ShortId) -> Response:
    """Jobs that it caused remain on record. Role: admin."""
    rules.delete_rule(caller.tenant_id, rule_id)
    return Response(status_code=204)

"""Other systems' alerts, in those systems' own formats."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from api import examples
from api.auth import Ingester  # noqa: TC001  # FastAPI reads it at run time
from api.body import JSON, Body, JsonBody
from api.describe import WITH_BODY, answer, body
from api.handing_in import hand_in
from api.ingest.alertmanager import from_alertmanager
from api.ingest.binary import BATCH, EVENT, EventBody, from_headers, is_binary
from api.ingest.cloudevents import from_cloudevents
from api.ingest.grafana import from_grafana
from api.ingest.mapping import DEFAULT_SEVERITY, Mapping, parse_severities
from api.ingest.strays import adopt
from api.responses import Json  # noqa: TC001  # FastAPI reads it at run time
from api.work import Call
from model.alert import MAX_SEVERITY, AlertEvent, parse_alert
from model.problems import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

router = APIRouter(prefix="/v1/ingest", tags=["ingest"], route_class=Call)

_ACCEPTED = answer(202, "They are committed.", "Accepted", {"accepted": 1, "duplicates": 0})
_OBJECT: dict[str, Any] = {"type": "object"}

_Label = Annotated[str, Query(min_length=1, max_length=255)]


async def mapping(
    *,
    severity_label: Annotated[
        _Label, Query(description="The label that says how severe it is.")
    ] = "severity",
    severities: Annotated[
        str,
        Query(
            max_length=2000,
            description="What its words mean: `page=4,ticket=2`. These win over the usual ones.",
        ),
    ] = "",
    default_severity: Annotated[
        int, Query(ge=0, le=MAX_SEVERITY, description="Where the label is missing or unknown.")
    ] = DEFAULT_SEVERITY,
    device_label: Annotated[_Label, Query(description="The label that is device_id.")] = "instance",
    site_label: Annotated[_Label, Query(description="The label that is site_id.")] = "site",
    type_label: Annotated[_Label, Query(description="The label that is alert_type.")] = "alertname",
    tags: Annotated[
        str,
        Query(max_length=2000, description="Labels that become device_tags, with commas between; * for all."),
    ] = "*",
) -> Mapping:
    """The mapping that the producer's URL says. A coroutine, for it must not wait for a thread."""
    return Mapping(
        severity_label=severity_label,
        severities=parse_severities(severities),
        default_severity=default_severity,
        device_label=device_label,
        site_label=site_label,
        type_label=type_label,
        tags=None
        if tags.strip() == "*"
        else frozenset(filter(None, (each.strip() for each in tags.split(",")))),
    )


_Mapped = Annotated[Mapping, Depends(mapping)]


def _read(
    tenant_id: str,
    read: Callable[[], Any],
    translate: Callable[[Any], list[dict[str, Any]]],
    *,
    has_strays: bool = False,
) -> list[AlertEvent]:
    """Translate, and check all.

    Args:
        read: decodes the body.
        has_strays: whether this format's ends may name another beginning than the alert had.
    """
    problems: list[Problem] = []
    parsed: list[AlertEvent] = []
    for index, alert in enumerate(translate(read())):
        try:
            parsed.append(parse_alert(alert, prefix=f"[{index}]"))
        except InvalidInput as error:
            problems += error.problems
    if problems:
        raise InvalidInput(problems)
    return adopt(parsed, tenant_id=tenant_id) if has_strays else parsed


@router.post(
    "/alertmanager",
    status_code=202,
    summary="Prometheus Alertmanager",
    responses=_ACCEPTED | WITH_BODY,
    openapi_extra=body(_OBJECT, {"firing": examples.ALERTMANAGER}),
)
async def alertmanager(request: Request, caller: Ingester, given: JsonBody, wanted: _Mapped) -> Json:
    """Alertmanager's webhook, version 4. Role: ingest.

    An alert's id is its fingerprint and the time at which it began: a repeat is a duplicate, `resolved` closes it, and
    firing again is a new alert.
    """
    translate = partial(from_alertmanager, mapping=wanted)
    read = partial(_read, caller.tenant_id, given.json, translate, has_strays=True)
    return await hand_in(request, caller, given, read)


@router.post(
    "/grafana",
    status_code=202,
    summary="Grafana",
    responses=_ACCEPTED | WITH_BODY,
    openapi_extra=body(_OBJECT, {"resolved": examples.GRAFANA}),
)
async def grafana(request: Request, caller: Ingester, given: JsonBody, wanted: _Mapped) -> Json:
    """Grafana's webhook contact point. Ids as with Alertmanager. Role: ingest."""
    translate = partial(from_grafana, mapping=wanted)
    read = partial(_read, caller.tenant_id, given.json, translate, has_strays=True)
    return await hand_in(request, caller, given, read)


@router.post(
    "/cloudevents",
    status_code=202,
    summary="CloudEvents 1.0",
    responses=_ACCEPTED | WITH_BODY,
    openapi_extra=body(
        {"oneOf": [_OBJECT, {"type": "array", "items": _OBJECT}]},
        {"structured": examples.CLOUDEVENT, "batched": [examples.CLOUDEVENT]},
        (EVENT, BATCH, JSON),
    ),
)
async def cloudevents(
    request: Request,
    caller: Ingester,
    given: Annotated[Body, Depends(EventBody())],
    wanted: _Mapped,
) -> Json:
    """An event in structured mode, a batch, or an event in binary mode: `ce-` headers and its data. Role: ingest.

    Data in binary mode may be of any type that ends in `+json`, too; without data there need be no Content-Type.

    An event is an alert of its own by `source` and `id`. Several events of one alert name it by the extension attribute
    `alertid`; a type that ends in `.resolved`, `.closed`, `.cleared` or `.recovered` closes it.
    """
    batched = {EVENT: False, BATCH: True}.get(given.media_type)
    read = given.json
    if batched is None and is_binary(request.headers):
        batched = False  # data may be an array

        def read() -> Any:
            return from_headers(request.headers, given.json() if given.content else None)

    translate = partial(from_cloudevents, mapping=wanted, batched=batched)
    return await hand_in(request, caller, given, partial(_read, caller.tenant_id, read, translate))

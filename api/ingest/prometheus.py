"""What Alertmanager's webhook and Grafana's have in common: alerts with labels, annotations and a fingerprint.

Alertmanager: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config (version 4). Grafana's is that
and more: https://grafana.com/docs/grafana/latest/alerting/ , webhook notifier.

An alert's id is its fingerprint (which its labels make) and the time at which it began to fire. So the same alert sent
again every few hours is a duplicate, its end closes it, and firing again is a new alert. An end that names another
beginning is put right in api.ingest.strays.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictStr,
    ValidationError,
    model_validator,
)

from api.ingest.bounds import bearable, shortened
from api.ingest.mapping import MESSAGE, Mapping, canonical, identifier, name
from model.problems import InvalidInput, problems_of

#: Annotations that say what happened, the first that is there.
TEXTS = ("summary", "description", "message")

#: A text of theirs. They cannot mend one that we could not store, and would lose the group's other alerts with it.
_Text = Annotated[StrictStr, BeforeValidator(bearable)]
_Labels = dict[_Text, _Text]


class GroupedAlert(BaseModel):
    """One alert of a group. Members that are not named here are let alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    status: Literal["firing", "resolved"]
    labels: _Labels
    annotations: _Labels = {}
    startsAt: AwareDatetime  # noqa: N815  # their name, here and below
    endsAt: AwareDatetime | None = None  # noqa: N815
    generatorURL: _Text = ""  # noqa: N815
    fingerprint: Annotated[_Text, Field(min_length=1)]
    # Grafana's own.
    dashboardURL: _Text = ""  # noqa: N815
    panelURL: _Text = ""  # noqa: N815
    silenceURL: _Text = ""  # noqa: N815
    imageURL: _Text = ""  # noqa: N815
    valueString: _Text = ""  # noqa: N815


class Group(BaseModel):
    """What either of them posts."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    version: StrictStr
    receiver: _Text = ""
    externalURL: _Text = ""  # noqa: N815
    truncatedAlerts: int = 0  # noqa: N815
    alerts: list[GroupedAlert]

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.version not in {"1", "4"}:
            raise ValueError("version must be 4 (Alertmanager) or 1 (Grafana)")
        return self


def parse_group(document: Any) -> Group:
    """Check a group.

    Raises:
        InvalidInput: names each field and the rule that it breaks.
    """
    try:
        return Group.model_validate(document)
    except ValidationError as error:
        raise InvalidInput(problems_of(error)) from None


def translate(alert: GroupedAlert, mapping: Mapping, *, source: str, urls: dict[str, str]) -> dict[str, Any]:
    """One alert as ours (docs/api.md, "An alert"), of any size: `fitted` makes it fit.

    Args:
        source: the system it comes from.
        urls: links by name; those that are empty are left out.
    """
    labels = alert.labels
    is_over = alert.status == "resolved"
    moment = alert.endsAt if is_over and alert.endsAt is not None else alert.startsAt
    kind = name(labels.get(mapping.type_label))
    device = name(labels.get(mapping.device_label))
    text = next((alert.annotations[each] for each in TEXTS if alert.annotations.get(each)), None)
    found: dict[str, Any] = {
        "alert_id": identifier(f"{alert.fingerprint}@{canonical(alert.startsAt)}"),
        "event_type": "CLOSED" if is_over else "OPEN",
        "alert_type": kind,
        "severity": mapping.severity(labels.get(mapping.severity_label)),
        "device_id": device,
        "site_id": name(labels.get(mapping.site_label)),
        "message": shortened(text or " on ".join(filter(None, (kind, device))) or source, MESSAGE),
        "triggered_at": canonical(moment),
        "details": {
            "source": source,
            "fingerprint": alert.fingerprint,
            "labels": labels,
            "annotations": alert.annotations,
            "device_tags": mapping.device_tags(labels),
            **{key: url for key, url in urls.items() if url},
        },
    }
    return {key: value for key, value in found.items() if value is not None}

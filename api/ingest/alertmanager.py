"""Prometheus Alertmanager's webhook, version 4, into alerts of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.ingest.bounds import fitted
from api.ingest.prometheus import parse_group, translate

if TYPE_CHECKING:
    from api.ingest.mapping import Mapping

SOURCE = "alertmanager"


def from_alertmanager(document: Any, mapping: Mapping) -> list[dict[str, Any]]:
    """The alerts of a group.

    Raises:
        InvalidInput: names each field and the rule that it breaks.
    """
    group = parse_group(document)
    return [
        fitted(
            translate(
                alert,
                mapping,
                source=SOURCE,
                urls={"url": alert.generatorURL, "source_url": group.externalURL},
            )
        )
        for alert in group.alerts
    ]

"""Grafana's webhook contact point into alerts of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.ingest.bounds import fitted
from api.ingest.prometheus import parse_group, translate

if TYPE_CHECKING:
    from api.ingest.mapping import Mapping

SOURCE = "grafana"


def from_grafana(document: Any, mapping: Mapping) -> list[dict[str, Any]]:
    """The alerts of a notification, with Grafana's links and, in `details.values`, what it measured.

    Raises:
        InvalidInput: names each field and the rule that it breaks.
    """
    group = parse_group(document)
    found = []
    for alert in group.alerts:
        urls = {
            "url": alert.panelURL or alert.dashboardURL or alert.generatorURL,
            "silence_url": alert.silenceURL,
            "image_url": alert.imageURL,
            "source_url": group.externalURL,
        }
        translated = translate(alert, mapping, source=SOURCE, urls=urls)
        if alert.valueString:
            translated["details"]["values"] = alert.valueString
        found.append(fitted(translated))
    return found

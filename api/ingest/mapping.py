"""How labels of other systems become fields of an alert. The producer's URL says it, by query parameters.

So each producer has a mapping of its own, which stands where its address stands, and nothing is to be kept in step:

    /v1/ingest/alertmanager?device_label=host&site_label=datacenter&severities=page=4,ticket=2&tags=team,job
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from model.alert import MAX_SEVERITY
from model.problems import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping as Dict

#: What the words mean that people use, in our numbers: 0-1 info, 2 warning, 3 error, 4 and more critical.
SEVERITIES = {
    "ok": 0, "none": 0, "debug": 0, "info": 1, "information": 1, "informational": 1, "notice": 1, "low": 1,
    "minor": 2, "warning": 2, "warn": 2, "medium": 2, "moderate": 2,
    "error": 3, "err": 3, "major": 3, "high": 3, "severe": 3,
    "critical": 4, "crit": 4, "page": 4, "urgent": 4, "fatal": 4, "alert": 4, "emergency": 5, "emerg": 5, "disaster": 5,
}  # fmt: skip

#: An alert says nothing about its severity, or in a word that nobody taught us: not so low that it goes unheard.
DEFAULT_SEVERITY = 2

#: Characters of an identifier, and of a message (model.alert).
IDENTIFIER, MESSAGE = 255, 64 * 1024


@dataclass(frozen=True, slots=True)
class Mapping:
    """Which label becomes which field.

    Attributes:
        severity_label: its value is a word of `severities`, or a number.
        severities: word -> number; these win over SEVERITIES.
        default_severity: where the label is missing or unknown.
        device_label, site_label, type_label: their values are device_id, site_id and alert_type.
        tags: the labels that become `details.device_tags`; None for all of them.
    """

    severity_label: str = "severity"
    severities: Dict[str, int] = field(default_factory=dict)
    default_severity: int = DEFAULT_SEVERITY
    device_label: str = "instance"
    site_label: str = "site"
    type_label: str = "alertname"
    tags: frozenset[str] | None = None

    def severity(self, value: Any) -> int:
        """The number that a label's value means."""
        word = str(value).strip().lower() if value is not None else ""
        if word in self.severities:
            return self.severities[word]
        if re.fullmatch(r"[0-9]{1,7}", word):
            return min(int(word), MAX_SEVERITY)
        return SEVERITIES.get(word, self.default_severity)

    def device_tags(self, labels: Dict[str, Any]) -> dict[str, Any]:
        """The labels that rules may ask for."""
        return {name: value for name, value in labels.items() if self.tags is None or name in self.tags}


def parse_severities(text: str) -> dict[str, int]:
    """The table of `word=number,word=number`.

    Raises:
        InvalidInput: it is none.
    """
    found: dict[str, int] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        word, equals, number = pair.partition("=")
        if not equals or not word.strip() or not re.fullmatch(r"[0-9]{1,6}", number.strip()):
            raise InvalidInput([Problem("severities", "must be word=number pairs, such as page=4,ticket=2")])
        found[word.strip().lower()] = int(number)
    return found


def identifier(text: str) -> str:
    """A text as an alert_id: itself, or its SHA-256 where it is too long for one."""
    return (
        text
        if len(text) <= IDENTIFIER
        else f"sha256:{hashlib.sha256(text.encode(errors='replace')).hexdigest()}"
    )


def name(value: Any) -> str | None:
    """A label's value as an identifier of the alert's; None for none."""
    return str(value)[:IDENTIFIER] or None if value is not None else None


def canonical(moment: datetime) -> str:
    """A moment in UTC to the microsecond, however its system wrote it: part of ids, so always the same text."""
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:  # the year 1 in a zone east of Greenwich
        moment = datetime.min.replace(tzinfo=UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")

"""Which rules an alert is held against: those filed under what it is about, not all ten thousand. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.rules import Rule, tag_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class RuleIndex:
    """Where an alert's rules stand in their order, without a look at the others.

    Each rule is filed once, under the values of its first filter of: sites, alert type, tag, device prefixes. A rule
    without any of them is everybody's. So a thousand sites with a rule each cost an alert one rule, not a thousand.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._sites: dict[str, list[int]] = {}
        self._types: dict[str, list[int]] = {}
        #: By key and value; under None those that take any value.
        self._tags: dict[str, dict[str | None, list[int]]] = {}
        self._prefixes: dict[int, dict[str, list[int]]] = {}
        self._everybodys: list[int] = []
        for place, rule in enumerate(rules):
            for shelf in self._shelves(rule):
                shelf.append(place)

    def _shelves(self, rule: Rule) -> list[list[int]]:
        if rule.site_ids:
            return [self._sites.setdefault(site, []) for site in rule.site_ids]
        if rule.alert_type:
            return [self._types.setdefault(rule.alert_type, [])]
        if rule.tag:
            return [self._tags.setdefault(rule.tag[0], {}).setdefault(rule.tag[1], [])]
        if rule.device_prefixes:
            return [
                self._prefixes.setdefault(len(it), {}).setdefault(it, []) for it in set(rule.device_prefixes)
            ]
        return [self._everybodys]

    def places(self, alert: Mapping[str, Any]) -> list[int]:
        """The places of the rules that may match, ascending, each once."""
        found = set(self._everybodys)
        found.update(self._sites.get(alert.get("site_id") or "", ()))
        found.update(self._types.get(alert.get("alert_type") or "", ()))
        for key, values in self._tags.items():
            if (value := tag_of(alert, key)) is not None:
                found.update(values.get(value, ()), values.get(None, ()))
        device = alert.get("device_id") or ""
        for length, prefixes in self._prefixes.items():
            found.update(prefixes.get(device[:length], ()))
        return sorted(found)

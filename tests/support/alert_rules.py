"""What the alert rules for operators speak of, to be held against what processes really show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "tocsin.rules.yml"

#: Labels that Prometheus itself gives to whatever it reads.
OF_PROMETHEUS = frozenset({"job", "instance"})


def alerts() -> list[dict[str, Any]]:
    """The rules, as YAML has them."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def named() -> dict[str, set[str]]:
    """Metrics of ours that the rules name -> labels that they must have, by what is selected and summed up."""
    found: dict[str, set[str]] = {}
    for rule in alerts():
        grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", rule["expr"])
        kept = {name.strip() for names in grouped for name in names.split(",") if name.strip()}
        for metric, selected in re.findall(r"\b((?:tocsin|dramatiq)_\w+)(?:\{([^}]*)\})?", rule["expr"]):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selected))
            found.setdefault(metric, set()).update(labels | kept - OF_PROMETHEUS)
    return found


def lacking(exposition: str) -> dict[str, set[str]]:
    """What the rules name and an exposition lacks: metric -> labels."""
    shown: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            shown.setdefault(sample.name, set()).update(sample.labels)
    return {
        metric: labels - shown.get(metric, set())
        for metric, labels in named().items()
        if metric not in shown or labels - shown[metric]
    }

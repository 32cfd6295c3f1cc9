"""What the documents say is true: paths exist, targets exist, settings and reasons are as the code has them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from config import Settings
from model.states import ENDINGS, DeliveryState, Reason

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    named = set(
        re.findall(
            r"`((?:config|model|senders|actors|admin|api|cli|receivers|demo|tests|tools|deploy|docs)/[\w./-]*)`",
            text,
        )
    )
    linked = {link for link in re.findall(r"\]\(([\w./-]+)\)", text) if not link.startswith("http")}
    missing = {path for path in named if not (ROOT / path).exists()}
    missing |= {path for path in linked if not (document.parent / path).exists()}
    assert missing == set()


def test_the_readme_shows_targets_and_settings_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "serve", "help"} <= targets
    assert set(re.findall(r"`?make ([a-z]+)", readme)) <= targets
    known = {f"TOCSIN_{name.upper()}" for name in Settings.model_fields} | {"TOCSIN_CONFIG"}
    assert set(re.findall(r"TOCSIN_[A-Z_]*[A-Z]", readme)) <= known


def test_every_state_and_reason_is_explained() -> None:
    text = (ROOT / "docs/outcomes.md").read_text()
    table = "\n".join(line for line in text.splitlines() if line.startswith("| "))
    assert [state for state in DeliveryState if not re.search(rf"\b{state}\b", table)] == []
    assert [reason for reason in Reason if not re.search(rf"\b{reason}\b", table)] == []


def test_the_reasons_of_each_ending_are_those_that_the_page_has() -> None:
    table = re.findall(r"^\| (\w+) \| ([A-Z]+)", (ROOT / "docs/outcomes.md").read_text(), re.MULTILINE)
    told = {(reason, state) for reason, state in table if state != "RETRYING"}
    assert told == {(str(reason), str(state)) for state, reasons in ENDINGS.items() for reason in reasons}

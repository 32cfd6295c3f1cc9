"""The document: figures from the runs, words from the remarks, and plots that do not change with the day."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import document
from bench.results import Check, Machine, Rate, Run, Scenario, Series, spread

if TYPE_CHECKING:
    from pathlib import Path

    from bench.results import Kind

MACHINE = Machine(
    processor="Test 9000",
    cores=2,
    memory_gib=3.5,
    system="Linux 6",
    versions={"Python": "3.11"},
    commit="abc",
)


def rate(what: str, kind: Kind, per_second: float) -> Rate:
    return Rate(
        what=what, kind=kind, count=1000, seconds=1000 / per_second, cpu={"workers": 0.5, "receiver": 0.1}
    )


def scenario(key: str, title: str = "A storm") -> Scenario:
    return Scenario(
        key=key,
        title=title,
        rates=[rate("Tocsin", "tocsin", 900), rate("bare", "ceiling", 2500), rate("Other", "peer", 120)],
        spreads=[spread("It", [1.0, 2.0, 30.5])],
        checks=[
            Check(claim="rate beside it", value=0.36, limit=0.7, at_most=False),
            Check(claim="late by", value=2, limit=60, at_most=True, unit="ms"),
        ],
        series=[Series(what="line", x="seconds", y="arrivals", points=[(0, 1), (1, 2)])],
        notes=["As it is."],
    )


def run(form: str, began: str, *scenarios: Scenario) -> Run:
    return Run.model_validate(
        {"form": form, "began": began, "machine": MACHINE, "workers": "dramatiq", "scenarios": scenarios}
    )


def test_the_long_form_is_told_before_a_later_short_one() -> None:
    # Given two long runs and a later short one, the latest first
    runs = [
        run("short", "2026-11-03", scenario("a", "short"), scenario("b", "short")),
        run("long", "2026-11-02", scenario("b", "new")),
        run("long", "2026-11-01", scenario("b", "old"), scenario("c", "old")),
    ]
    # Then each letter is told once, from the latest long run that has it
    chosen = document.choose(runs)
    assert [(each.scenario.key, each.scenario.title) for each in chosen] == [
        ("a", "short"),
        ("b", "new"),
        ("c", "old"),
    ]


def test_the_document_has_the_figures_the_words_and_the_plots(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "bench/remarks.md").write_text(
        "For us.\n\n## summary\nShort of it.\n\n## b\nBecause.\n\n## limits\nNext.\n"
    )

    document.write([run("long", "2026-11-02", scenario("b"))], tmp_path)

    text = (tmp_path / "docs/performance.md").read_text()
    assert "For us." not in text
    assert [text.index(words) for words in ("Short of it.", "## Where", "Because.", "Next.")] == sorted(
        text.index(words) for words in ("Short of it.", "## Where", "Because.", "Next.")
    )
    assert "| b | rate beside it | 0.36 | at least 0.7 | **no** |" in text
    assert "| b | late by | 2 ms | at most 60 ms | yes |" in text
    assert "| bare | 2,500 | 1,000 | 0.1 | 0.5 |" in text
    assert "| It | 3 | 2 ms | 30.5 ms | 30.5 ms | 30.5 ms |" in text
    assert "2 cores of Test 9000, 3.5 GiB" in text
    for name in ("rates", "cpu", "lines"):
        assert f"images/bench-b-{name}.svg" in text
        assert ET.parse(tmp_path / f"docs/images/bench-b-{name}.svg").getroot().tag.endswith("svg")  # noqa: S314  # ours
    bars = (tmp_path / "docs/images/bench-b-rates.svg").read_text()
    assert "2,500" in bars
    assert "Tocsin" in bars


def test_the_same_figures_change_no_file(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "bench/remarks.md").write_text("")
    told = [run("long", "2026-11-02", scenario("b"))]
    document.write(told, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    document.write(told, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


def test_no_run_leaves_everything_as_it_is(tmp_path: Path) -> None:
    document.write([], tmp_path)
    assert list(tmp_path.iterdir()) == []


@given(st.floats(min_value=0.001, max_value=1e9))
def test_a_number_keeps_three_figures(value: float) -> None:
    assert float(document.number(value).replace(",", "")) == pytest.approx(value, rel=0.006)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (1.5, "1.5"), (99.96, "100"), (12345.6, "12,346"), (-250, "-250")],
)
def test_numbers_by_hand(value: float, text: str) -> None:
    assert document.number(value) == text

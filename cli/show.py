"""How answers look: a table on a terminal, tab-separated lines in a pipe, JSON if asked for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
#: Of what runs until it is told to stop, which answers in its log alone.
JsonLog = Annotated[bool, typer.Option("--json", help="Log in JSON, as by TOCSIN_LOG_FORMAT=json.")]
TenantOption = Annotated[
    str | None,
    typer.Option("--tenant", "-t", help="Whose; by default the only tenant there is.", metavar="TENANT"),
]

#: The colour of a state or verdict.
COLOURS = {
    "DELIVERED": "green", "COMPLETED": "green", "deliver": "green", "ok": "green", "added": "green",
    "FAILED": "red", "EXPIRED": "red", "PARTIAL": "red", "fail": "red", "removed": "red",
    "SUPPRESSED": "yellow", "SUPERSEDED": "yellow", "suppress": "yellow", "defer": "yellow", "warn": "yellow",
    "changed": "yellow", "failing": "red", "misconfigured": "red",
}  # fmt: skip

#: Columns that a terminal leaves out where they hold nothing but 0.
COUNTERS = frozenset({"delivered", "failed", "suppressed", "superseded", "expired", "in progress"})

#: Columns whose words break last on a narrow terminal, and the characters to which words of others break before that.
WHOLE, NARROW = frozenset({"state", "reason"}), 4


def document(answer: Any) -> None:
    """Print JSON: indented for eyes, which read it in pipes too. In UTF-8, whatever the terminal's (RFC 8259, 8.1)."""
    import orjson  # noqa: PLC0415  # `--help` need not wait for it

    sys.stdout.flush()
    sys.stdout.buffer.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "none") -> None:
    """Print rows. In a pipe: one line a row, tabs between, a heading first, nothing cut."""
    lines = [[_text(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in ([name.replace(" ", "_") for name in columns], *lines):
            print("\t".join(line))
        return
    from rich import box  # noqa: PLC0415  # only a terminal needs it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if not lines:
        Console().print(f"[dim]{empty}[/dim]")
        return
    # Eighty columns hold no column of nothing.
    shown = [
        index
        for index, name in enumerate(columns)
        if any(line[index] != ("0" if name in COUNTERS else "-") for line in lines)
    ]
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    console = Console()
    cells = {columns[index]: [line[index] for line in lines] for index in shown}
    for name, width in _widths(cells, console.width - 2 * len(cells)).items():
        # What is too long goes on below: cut off, it would be lost.
        drawn.add_column(name, overflow="fold", width=width)
    for line in lines:
        drawn.add_row(*(Text(line[index], style=COLOURS.get(line[index], "")) for index in shown))
    console.print(drawn)


def _widths(cells: dict[str, list[str]], room: int) -> dict[str, int]:
    """The columns' widths in so much room: the widest gives way first, and words break where nothing else can."""
    from rich.cells import cell_len  # noqa: PLC0415  # as above

    widths = {name: max(map(cell_len, (name, *cells[name]))) for name in cells}
    words = {
        name: max(cell_len(word) for text in (name, *cells[name]) for word in text.split()) for name in cells
    }
    broken = {name: word if name in WHOLE else min(word, NARROW) for name, word in words.items()}
    for least in (words, broken, dict.fromkeys(widths, 1)):
        while sum(widths.values()) > room and (
            wider := [name for name in widths if widths[name] > least[name]]
        ):
            widths[max(wider, key=widths.__getitem__)] -= 1
    return widths


def pairs(rows: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one a line."""
    for name, value in rows:
        print(f"{name}\t{_text(value)}" if not sys.stdout.isatty() else f"{name + ':':<16}{_text(value)}")


def note(text: str) -> None:
    """Say something beside the answer: on stderr, so that a pipe gets the answer alone."""
    print(text, file=sys.stderr)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    # What producers and providers wrote may hold control characters, and a terminal would obey them.
    return "".join(char if char.isprintable() else " " for char in str(value))

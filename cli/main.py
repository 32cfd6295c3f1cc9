"""Every group of commands, and the one place where errors become lines."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli import channels, configure, dead_letters, jobs, keys, operate, send, serve
from cli.errors import ERROR, CommandError, explain, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="tocsin",
    help="Alerts in, every channel and device of everybody concerned out, and a record of what happened.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (configure, send, serve, jobs, channels, keys, operate, dead_letters):
    group.add_to(app)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status. Never a traceback for what a person can mend."""
    mend_streams()
    try:
        _require_text(sys.argv[1:] if arguments is None else arguments)
        status = app(arguments, standalone_mode=False)
    except typer.Exit as end:
        return end.exit_code
    except (typer.Abort, KeyboardInterrupt):
        tell(["interrupted; what was accepted is safe, and a later send or worker goes on with it"])
        return 130
    except BrokenPipeError:
        # Whoever read our answer has had enough. Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # of Typer's own, unnamed, copy of click
            print(error, file=sys.stderr)
            return ERROR
        usage = getattr(error, "format_message", None)  # click's: an unknown option, a missing argument
        lines = [usage().rstrip(".") + "; see `tocsin --help`"] if usage else explain(error)
        if lines is None:
            raise
        tell(lines)
        return ERROR
    return status if isinstance(status, int) else 0


def _require_text(arguments: Sequence[str]) -> None:
    """Refuse bytes that are no UTF-8, which Python hands on as halves of characters and no database looks for.

    The name of a file may be any bytes.

    Raises:
        CommandError: names the option or, where there is none, quotes the argument.
    """
    for before, argument in zip(("", *arguments), arguments, strict=False):
        try:
            argument.encode()
        except UnicodeEncodeError:
            if not Path(argument).exists():
                option = before if before.startswith("-") else ascii(argument)
                raise CommandError(f"{option}: must be valid UTF-8") from None


def mend_streams() -> None:
    """See to it that no answer fails because of where it goes, after the work was done.

    What a terminal's encoding lacks is written as its number. Python gives no stream for a descriptor that was closed
    (`>&-`): https://docs.python.org/3/library/sys.html#sys.__stdout__
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())

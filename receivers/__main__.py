"""The receivers as a program of their own: `python -m receivers --help`."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rich.console import Console
from rich.text import Text

from receivers.control import as_json
from receivers.farside import FarSide

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from receivers.records import Received


#: Seconds between two looks whether it is to end.
LOOK = 0.1


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m receivers",
        description="Local APNs, FCM, Web Push, Slack, Teams, PagerDuty and webhook receivers; Ctrl-C ends.",
    )
    parser.add_argument("--env-file", type=Path, help="write the environment here instead of printing it")
    parser.add_argument(
        "--record", type=Path, help="append each receipt to this file, a line of JSON, flushed"
    )
    parser.add_argument("--json", action="store_true", help="print receipts as lines of JSON")
    parser.add_argument("--quiet", action="store_true", help="print no receipts")
    parser.add_argument("--port", type=port, default=0, help="HTTP port (default: a free one)")
    parser.add_argument("--apns-port", type=port, default=0, help="APNs port (default: a free one)")
    parser.add_argument("--no-verify", action="store_true", help="take whatever arrives (for benchmarks)")
    return parser.parse_args(argv)


def port(text: str) -> int:
    """A port's number; 0 lets the system choose."""
    number = int(text)
    if not 0 <= number <= 65535:  # noqa: PLR2004  # 16 bits
        raise argparse.ArgumentTypeError("must be from 0 to 65535")
    return number


def recorder(record: BinaryIO) -> Callable[[Received], None]:
    """What appends one receipt to a file."""

    def append(received: Received) -> None:
        record.write(as_json(received) + b"\n")

    return append


def printer(*, as_lines_of_json: bool) -> Callable[[Received], None]:
    """What shows one receipt on the standard output."""
    if as_lines_of_json or not sys.stdout.isatty():

        def print_json(received: Received) -> None:
            sys.stdout.write(as_json(received).decode() + "\n")
            sys.stdout.flush()

        return print_json
    console = Console(highlight=False)

    def print_line(received: Received) -> None:
        console.print(summary(received), no_wrap=True, overflow="ellipsis")

    return print_line


def summary(received: Received) -> Text:
    """One receipt on one line: when, who, for whom, what was answered, and why not if not."""
    moment = dt.datetime.fromtimestamp(received.at).astimezone()
    answered = f"{received.status or 'no answer'} {received.reason}".rstrip()
    line = Text.assemble(
        (f"{moment:%H:%M:%S.%f}"[:-3], "dim"),
        f" {received.receiver:<9} {received.target[:24]:<24} ",
        (f"{answered:<24}", "green" if received.accepted else "red"),
        (f" {received.id}", "dim"),
    )
    if received.problems:
        line.append(f"  {'; '.join(received.problems)}", "yellow")
    return line


def exports(environment: dict[str, str]) -> str:
    """The environment as lines that a shell can read."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


def write_env_file(path: Path, text: str) -> None:
    """Write it whole or not at all, since another program may be waiting for it."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM; the exit status. What keeps it from running is one line."""
    options = arguments(argv)
    try:
        run(options)
    except OSError as error:  # a port that is in use, a file that cannot be written
        name = f"{error.filename}: " if error.filename else ""
        print(f"error: {name}{error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    """Run until SIGINT or SIGTERM.

    Raises:
        OSError: a port is in use, or a file cannot be written.
    """
    # Neither an Event nor a queue: their locks are no place for a handler, which runs in the thread that waits.
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: ended.append(number))
    with contextlib.ExitStack() as stack:
        observers: list[Callable[[Received], None]] = []
        if options.record:
            # Unbuffered: each line is with the system before the answer goes out, whatever becomes of this
            # process.
            record: BinaryIO = stack.enter_context(options.record.open("ab", buffering=0))
            observers.append(recorder(record))
        if not options.quiet:
            observers.append(printer(as_lines_of_json=options.json))

        def observe(received: Received) -> None:
            for each in observers:
                each(received)

        far = stack.enter_context(
            FarSide(
                verify=not options.no_verify,
                port=options.port,
                apns_port=options.apns_port,
                on_received=observe,
            )
        )
        text = exports({**far.environment(), **addresses(far)})
        if options.env_file:
            write_env_file(options.env_file, text)
        else:
            print(text, end="", flush=True)
        while not ended:
            time.sleep(LOOK)


def addresses(far: FarSide) -> dict[str, str]:
    """Where channels may point to, for scripts; a hook's name can be replaced by any other."""
    return {
        "FAR_URL": far.url,
        "FAR_WEBHOOK_URL": far.webhook.url("main"),
        "FAR_WEBHOOK_SECRET": far.webhook.secret,
        "FAR_SLACK_URL": far.slack.url("main"),
        "FAR_TEAMS_URL": far.teams.url("main"),
        "FAR_PAGERDUTY_URL": far.pagerduty.url,
        "FAR_PAGERDUTY_KEY": far.pagerduty.routing_key("main"),
    }


if __name__ == "__main__":
    sys.exit(main())

"""Run faults: `python -m tests.faults --cycles 10`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.cycle import Size, run
from tests.faults.faults import FAULTS
from tests.faults.stack import Stack
from tests.servers import PostgresServer, RabbitServer

LONG = Size(alerts=1000, pairs=100, seconds=12, hold=30)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these faults")
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument(
        "--alerts", type=int, default=LONG.alerts, help="of a cycle; each makes three deliveries"
    )
    parser.add_argument("--pairs", type=int, default=LONG.pairs)
    parser.add_argument("--seconds", type=float, default=LONG.seconds, help="how long the producer takes")
    parser.add_argument("--hold", type=float, default=LONG.hold, help="how long an outage lasts")
    parser.add_argument(
        "--results", type=Path, default=Path("build/faults.jsonl"), help="appended, a line a cycle"
    )
    parser.add_argument("--logs", type=Path, help="keep the logs here")
    options = parser.parse_args()
    size = Size(options.alerts, options.pairs, options.seconds, options.hold)
    logging.disable(logging.CRITICAL)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    broken = 0
    with PostgresServer() as postgres, RabbitServer() as rabbitmq, tempfile.TemporaryDirectory() as kept:
        logs = options.logs or Path(kept)
        for fault in FAULTS:
            if options.names and fault.name not in options.names:
                continue
            with Stack(
                postgres, rabbitmq, logs / fault.name, settings=fault.settings, cuttable=fault.cuttable
            ) as stack:
                for number in range(options.cycles):
                    began = time.monotonic()
                    try:
                        account = run(stack, fault, size, number)
                    except TimeoutError as error:
                        sys.stdout.write(f"{fault.name} {number}: {error}\n")
                        broken += 1
                        break
                    problems = account.faults()
                    broken += bool(problems)
                    line = {"fault": fault.name, "cycle": number, **account.document()}
                    with options.results.open("a") as results:
                        results.write(json.dumps(line) + "\n")
                    sys.stdout.write(f"{time.monotonic() - began:.0f} s  {line}  {problems}\n")
                    sys.stdout.flush()
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

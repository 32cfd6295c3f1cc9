"""Apprise, called in a loop or from threads: `python -m bench.peers.apprise_calls --url URL --count N --threads N`.

One Apprise object, made once and notified many times, as its documentation of the library shows it:
https://github.com/caronc/apprise/wiki/Development_API
"""

from __future__ import annotations

import argparse
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import apprise

from bench import talk
from bench.load import alert


def main() -> None:
    """Notify."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("apprise").setLevel(logging.ERROR)
    service = apprise.Apprise()
    service.add(options.url.replace("http://", "json://"))
    told = alert("a")

    def notify(number: int) -> bool:
        return bool(service.notify(title=f"{told['alert_type']} {number}", body=told["message"]))

    notify(0)  # loads the plugin; not counted
    talk.ready()
    began = time.time()
    if options.threads == 1:
        taken = sum(notify(number) for number in range(options.count))
    else:
        with ThreadPoolExecutor(options.threads) as pool:
            taken = sum(pool.map(notify, range(options.count)))
    talk.done(began=began, ended=time.time(), refused=options.count - taken)


if __name__ == "__main__":
    main()

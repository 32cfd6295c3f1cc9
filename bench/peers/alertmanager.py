"""Prometheus Alertmanager, in memory: each alert its own group, sent at once to one webhook.

`group_by: ['...']` disables aggregation, and resolved alerts are not told:
https://prometheus.io/docs/alerting/latest/configuration/. It listens to no cluster.
"""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from bench.load import alert
from bench.processes import Program, cpu_by_role, difference
from bench.results import Rate
from tests.servers.programs import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.stack import Stack

_CONFIG = """
route:
  receiver: hook
  group_by: ['...']
  group_wait: 0s
  group_interval: 5m
  repeat_interval: 4h
receivers:
  - name: hook
    webhook_configs:
      - url: {url}
        send_resolved: false
"""


class AlertmanagerMissingError(Exception):
    """The program is not installed."""


@contextmanager
def serving(stack: Stack) -> Iterator[str]:
    """Alertmanager for the length of the block; the address of its alerts.

    Raises:
        AlertmanagerMissingError: there is no Alertmanager here.
    """
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        raise AlertmanagerMissingError("apt-get install prometheus-alertmanager")
    directory = stack.directory / f"alertmanager-{free_port()}"
    directory.mkdir()
    port = free_port()
    (directory / "config.yml").write_text(_CONFIG.format(url=stack.nginx.url))
    url = f"http://127.0.0.1:{port}"
    command = [
        program,
        f"--config.file={directory / 'config.yml'}",
        f"--storage.path={directory}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    stack.nginx.restart_count()
    with Program("Alertmanager", command, {}, directory / "output.log") as running:

        def is_ready() -> bool:
            try:
                return httpx.get(f"{url}/-/ready").is_success
            except httpx.TransportError:
                return False

        wait_until(is_ready, 20, "Alertmanager", describe=running.tail)
        yield f"{url}/api/v2/alerts"


def measure(stack: Stack, count: int, call: int) -> Rate:
    """Post alerts, `call` at a time, and wait until the receiver has them all.

    Raises:
        AlertmanagerMissingError: there is no Alertmanager here.
    """
    alerts = [as_alertmanager(f"m-{number}") for number in range(count)]
    with serving(stack) as url, httpx.Client() as client:
        before = cpu_by_role()
        began = time.time()
        for start in range(0, count, call):
            client.post(url, json=alerts[start : start + call]).raise_for_status()
        wait_until(lambda: stack.nginx.count() >= count, 300, "Alertmanager's webhooks")
        seconds = time.time() - began
        cpu = difference(cpu_by_role(), before)
    return Rate(what="Alertmanager (in memory)", kind="peer", count=count, seconds=seconds, cpu=cpu)


def as_alertmanager(name: str) -> dict[str, dict[str, str]]:
    """The alert of bench.load in Alertmanager's form."""
    told = alert(name)
    labels = {"alertname": told["alert_type"], "alert_id": name, "severity": "warning"}
    labels |= {"device_id": told["device_id"], "site_id": told["site_id"]}
    return {"labels": labels, "annotations": {"message": told["message"], "zone": told["details"]["zone"]}}

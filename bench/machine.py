"""The machine and the versions under which a run was made."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from bench.results import Machine
from tests.servers.postgres import find_programs

PACKAGES = ("aioapns", "aiohttp", "apprise", "dramatiq", "httpx", "peewee", "psycopg2-binary", "uvloop")

_NUMBER = re.compile(r"\d+\.[\w.+-]+")


def describe() -> Machine:
    """This machine, as far as a reader can judge figures by it."""
    processor = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    programs = {
        "PostgreSQL": [str((find_programs() or Path()) / "postgres"), "--version"],
        "RabbitMQ": ["dpkg-query", "--show", "--showformat", "${Version}", "rabbitmq-server"],
        "nginx": [shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin") or "nginx", "-v"],
        "Alertmanager": ["prometheus-alertmanager", "--version"],
    }
    versions = {"Python": platform.python_version()}
    versions |= {name: _version(command) for name, command in programs.items()}
    versions |= {name: version(name) for name in PACKAGES}
    return Machine(
        processor=processor[1] if processor else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(int(memory[1]) / 1024**2, 1) if memory else 0.0,
        system=f"{platform.system()} {platform.release()}",
        versions=versions,
        commit=_output(["git", "describe", "--always", "--dirty"]) or "unknown",
    )


def _version(command: list[str]) -> str:
    found = _NUMBER.search(_output(command))
    return found[0] if found else "unknown"


def _output(command: list[str]) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return (ran.stdout + ran.stderr).strip()

"""The files by which Tocsin is installed and run agree with each other and with the code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet

from config.settings import Settings, load_settings
from tools import env

ROOT = Path(__file__).parents[2]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OURS = [name for name, service in SERVICES.items() if service.get("build")]
VARIABLE = re.compile(r"\$\{(\w+)([^}]*)\}")


def _locked(name: str) -> dict[str, str]:
    pins = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    return dict(pins)


def _seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


class TestCompose:
    def test_every_variable_is_required_and_in_the_example(self) -> None:
        used = VARIABLE.findall(COMPOSE_TEXT)
        assert used
        assert {operator[:2] for _, operator in used} == {":?"}
        example = (ROOT / ".env.example").read_text(encoding="utf-8")
        assert {name for name, _ in used} == set(re.findall(r"^(\w+)=$", example, re.MULTILINE))

    @pytest.mark.parametrize("name", SERVICES)
    def test_no_secret_is_written_down(self, name: str) -> None:
        for variable, value in SERVICES[name].get("environment", {}).items():
            if re.search(r"PASS|SECRET|KEY|TOKEN", variable):
                assert VARIABLE.fullmatch(value), variable
            elif "://" in value:
                assert re.search(r"://tocsin:\$\{\w+:\?[^}]+\}@", value), variable

    @pytest.mark.parametrize("name", SERVICES)
    def test_ports_are_published_on_this_machine_alone(self, name: str) -> None:
        for port in SERVICES[name].get("ports", []):
            assert port.startswith("127.0.0.1:"), port

    @pytest.mark.parametrize("name", OURS)
    def test_commands_exist_in_the_image(self, name: str) -> None:
        # The image has what the lock file and our own scripts install.
        program, *arguments = SERVICES[name]["command"]
        assert program in {*PROJECT["project"]["scripts"], *_locked("requirements.lock")}
        if program == "dramatiq":
            assert (ROOT / arguments[0]).is_dir()
            known = subprocess.run(
                [sys.executable, "-m", "dramatiq", "--help"], capture_output=True, text=True, check=True
            )
            assert all(option in known.stdout for option in arguments if option.startswith("--"))

    @pytest.mark.parametrize("name", OURS)
    def test_settings_are_settings(self, name: str) -> None:
        names = {f"TOCSIN_{field.upper()}" for field in Settings.model_fields}
        assert set(SERVICES[name]["environment"]) <= names

    def test_dependencies_can_be_met(self) -> None:
        for service in SERVICES.values():
            for other, how in service.get("depends_on", {}).items():
                if how["condition"] == "service_healthy":
                    assert "healthcheck" in SERVICES[other]
                else:
                    assert how["condition"] == "service_completed_successfully"
                    assert SERVICES[other]["restart"] == "no"

    def test_what_runs_on_is_restarted_and_kept(self) -> None:
        running = {name: service for name, service in SERVICES.items() if service["restart"] != "no"}
        assert {service["restart"] for service in running.values()} == {"unless-stopped"}
        assert all("healthcheck" in service for service in running.values())
        mounted = {
            v.partition(":")[0] for s in SERVICES.values() for v in s["volumes"] if not v.startswith(".")
        }
        assert mounted == set(COMPOSE["volumes"])

    def test_a_worker_is_given_the_time_that_it_takes_to_stop(self) -> None:
        # time limit of one message < Dramatiq's patience < the container's end
        command = SERVICES["worker"]["command"]
        patience = int(command[command.index("--worker-shutdown-timeout") + 1]) / 1000
        assert Settings.model_fields["time_limit"].default < patience
        assert patience < _seconds(SERVICES["worker"]["stop_grace_period"])

    def test_health_is_asked_where_metrics_are_served(self) -> None:
        port = Settings.model_fields["metrics_port"].default
        assert f"127.0.0.1:{port}/metrics" in SERVICES["worker"]["healthcheck"]["test"][-1]

    def test_metrics_can_be_read_where_the_readme_says(self) -> None:
        # Published, and listened for on more than the container's own loopback.
        port = Settings.model_fields["metrics_port"].default
        assert f"http://127.0.0.1:{port}/metrics" in (ROOT / "README.md").read_text(encoding="utf-8")
        assert f"127.0.0.1:{port}:{port}" in SERVICES["worker"]["ports"]
        assert SERVICES["worker"]["environment"]["TOCSIN_METRICS_HOST"] == "0.0.0.0"  # noqa: S104  # within the container
        assert SERVICES["api"]["environment"].items() <= SERVICES["worker"]["environment"].items()

    def test_it_is_valid_compose(self) -> None:
        # Against the Compose Specification's own schema.
        checked = subprocess.run(
            [
                *(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"),
                ROOT / "docker-compose.yml",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout


class TestDockerfile:
    TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")

    def test_signals_reach_the_process(self) -> None:
        # Exec form: a shell as PID 1 would swallow SIGTERM.
        started = re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", self.TEXT, re.MULTILINE)
        assert len(started) == 2
        assert all(isinstance(json.loads(command), list) for command in started)

    def test_it_does_not_run_as_root(self) -> None:
        assert re.findall(r"^USER (\w+)$", self.TEXT, re.MULTILINE) == ["tocsin"]

    def test_its_group_is_the_one_to_which_key_files_are_given(self) -> None:
        # `useradd --system` alone takes the next free group id, to which nobody on the host gave a file.
        guide = (ROOT / "deploy/local/README.md").read_text(encoding="utf-8")
        told = re.findall(r"`chgrp (\d+)`", guide)
        made = re.findall(r"groupadd .*--gid (\d+) tocsin\b", self.TEXT)
        users = re.findall(r"useradd .*--gid (\d+) .*\btocsin$", self.TEXT, re.MULTILINE)
        assert told == made == users
        assert len(told) == 1

    def test_libraries_are_pinned_by_hash(self) -> None:
        installs = re.findall(r"pip install (.*)", self.TEXT)
        assert installs == [
            "--require-hashes --requirement requirements.lock",
            "--no-deps --no-build-isolation .",
        ]

    def test_the_image_gets_every_package(self) -> None:
        kept = {
            line[1:]
            for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
            if line[0] == "!"
        }
        packages = {
            pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
        }
        assert packages | {"pyproject.toml", "requirements.lock"} <= kept
        assert PROJECT["project"]["readme"] in kept
        assert set(PROJECT["project"]["license-files"]) <= kept


class TestLockFiles:
    @pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
    def test_pinned_hashed_and_from_nowhere_in_particular(self, name: str) -> None:
        text = (ROOT / name).read_text(encoding="utf-8")
        entries = re.split(r"\n(?=\S)", text.strip())
        assert all(re.match(r"[\w.-]+==", entry) and "--hash=sha256:" in entry for entry in entries)
        assert "://" not in text

    def test_they_cover_what_the_project_asks_for(self) -> None:
        def names(requirements: list[str]) -> set[str]:
            return {re.split(r"[^\w.-]", each)[0].lower().replace("_", "-") for each in requirements}

        runtime, development = _locked("requirements.lock"), _locked("requirements-dev.lock")
        assert names(PROJECT["project"]["dependencies"] + PROJECT["build-system"]["requires"]) <= set(runtime)
        assert names(PROJECT["dependency-groups"]["dev"]) <= set(development)
        # What is tested is what runs.
        assert runtime.items() <= development.items()


class TestEnvironmentFile:
    def test_filled_with_secrets_that_the_settings_accept(self, tmp_path: Path) -> None:
        # Given the example, when the file is made
        shutil.copy(ROOT / ".env.example", tmp_path)
        path = env.write(tmp_path)
        # Then it is for its owner alone, and no value is empty or used twice
        assert path.stat().st_mode & 0o777 == 0o600
        values = dict(re.findall(r"^(\w+)=(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert set(values) == {name for name, _ in VARIABLE.findall(COMPOSE_TEXT)}
        assert len(set(values.values())) == len(values)
        # And what Compose makes of it are good settings, the key a real one
        made = {
            name.removeprefix("TOCSIN_").lower(): VARIABLE.sub(lambda v: values[v[1]], value)
            for name, value in SERVICES["worker"]["environment"].items()
        }
        settings = load_settings(**made)
        assert not settings.is_sqlite
        Fernet(settings.secret_keys[0].get_secret_value())

    def test_an_existing_one_is_left_alone(self, tmp_path: Path) -> None:
        shutil.copy(ROOT / ".env.example", tmp_path)
        path = env.write(tmp_path)
        before = path.read_text(encoding="utf-8")
        with pytest.raises(FileExistsError):
            env.write(tmp_path)
        assert path.read_text(encoding="utf-8") == before

    def test_two_are_never_alike(self) -> None:
        example = (ROOT / ".env.example").read_text(encoding="utf-8")
        assert env.fill(example) != env.fill(example)


class TestMakefile:
    def test_help_lists_every_target(self) -> None:
        text = (ROOT / "Makefile").read_text(encoding="utf-8")
        phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
        assert phony
        shown = subprocess.run(
            ["make", "-C", ROOT, "--no-print-directory"], capture_output=True, text=True, check=True
        )
        assert set(re.findall(r"^  make ([\w-]+)", shown.stdout, re.MULTILINE)) == set(phony[1].split())

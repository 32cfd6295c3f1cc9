# `make` alone lists the targets. Works with GNU make 3.81 and newer, on Debian and macOS.

BIN := .venv/bin
INSTALLED := .venv/.installed
INSTALLED_DEV := .venv/.installed-dev
ARGS ?=
export PYTHON

# tools/install.sh may use apt-get for Python itself where these goals are made; elsewhere it only says what to install.
APT := $(if $(filter test,$(MAKECMDGOALS)),--apt)

.PHONY: help demo serve test faults check bench bench-full fmt install lock env clean
.DEFAULT_GOAL := help

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED) ## the main job on this machine alone: no server, no account, no question asked
	@$(BIN)/python -m demo $(ARGS)

serve: $(INSTALLED) ## API and console on http://127.0.0.1:8000, data in ./tocsin.db
	@$(BIN)/tocsin serve $(ARGS)

test: $(INSTALLED_DEV) check ## linters, types and every test on real servers; make test ARGS="-k push"
	@sh tools/servers.sh && sh tools/conformance.sh && sh tools/e2e.sh
	@$(BIN)/python -m pytest -n 2 --dist worksteal --durations=10 $(ARGS)

faults: $(INSTALLED_DEV) ## every fault, ten cycles each (hours); make faults ARGS="--shard 1/2", or "zombie --cycles 2"
	@sh tools/servers.sh
	@$(BIN)/python -m tests.faults --report docs/reliability.md $(ARGS)

check: $(INSTALLED_DEV) ## linters and types alone
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(INSTALLED_DEV) ## what it does a second, beside ceilings and peers; under five minutes
	@sh tools/servers.sh && $(BIN)/python -m bench $(ARGS)

bench-full: $(INSTALLED_DEV) ## the same in full, for docs/performance.md; half an hour
	@sh tools/servers.sh && $(BIN)/python -m bench --full $(ARGS)

fmt: $(INSTALLED_DEV) ## format, and mend what the linter can mend
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

install: $(INSTALLED_DEV) ## .venv with everything, development tools included

lock: $(INSTALLED_DEV) ## write the lock files from pyproject.toml; make lock ARGS=--upgrade
	@sh tools/lock.sh $(ARGS)

env: ## .env with fresh secrets, for docker compose
	@$${PYTHON:-python3} tools/env.py

clean: ## remove .venv and caches; the database stays
	@rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements.lock pyproject.toml tools/install.sh tools/install.py
	@sh tools/install.sh requirements.lock $(APT)
	@touch $@

$(INSTALLED_DEV): requirements-dev.lock pyproject.toml tools/install.sh tools/install.py
	@sh tools/install.sh requirements-dev.lock $(APT)
	@touch $(INSTALLED) $@

# Everything a user or developer runs. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DISTS := crds operator api runner-image tools sdk cluster

.PHONY: help up down demo test unit integration e2e bench bench-check bench-scale soak check fix lock crds

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.ready: requirements-dev.lock $(DISTS:%=%/pyproject.toml)
	@echo "==> Python environment in $(VENV) (about a minute)"
	@$(PYTHON) -c 'import sys; sys.exit("Maze needs Python 3.11 or newer; this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: install the venv module (Debian: apt-get install python3-venv)"; exit 1; }
	@$(PY) -m pip install --quiet --require-hashes -r requirements-dev.lock
	@$(PY) -m pip install --quiet --no-deps --no-build-isolation $(DISTS:%=-e ./%)
	@touch $@

up: $(VENV)/.ready  ## start the cluster and everything in it (a second time: seconds)
	@$(PY) -m maze_cluster up

down: $(VENV)/.ready  ## stop it and leave nothing behind
	@$(PY) -m maze_cluster down

demo: up  ## run a workflow on real files and watch it
	@$(PY) examples/demo.py

test: check unit up  ## everything: lint, types, decisions, real API server and processes, real pods, faults
	@$(PY) -m pytest tests/integration tests/e2e tests/faults -q --durations=5

unit: $(VENV)/.ready  ## decisions only, no I/O
	@$(PY) -m pytest tests/unit -q

check: $(VENV)/.ready  ## lint, types, import rules, generated files
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(PY) -m maze_crds.generate --check crds

fix: $(VENV)/.ready  ## format, and repair what ruff can
	@$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix .

crds: $(VENV)/.ready  ## write the CRD YAML from the models
	@$(PY) -m maze_crds.generate crds

LOCK := $(VENV)/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --no-annotate \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-emit-package maze-crds --no-emit-package maze-runner --no-emit-package maze-tools
lock: $(VENV)/.ready  ## pin dependencies again, with hashes and without addresses
	@for d in operator api runner-image; do $(LOCK) $$d/pyproject.toml -o $$d/requirements.lock; done
	@$(LOCK) --extra mcp tools/pyproject.toml runner-image/pyproject.toml -o tools/requirements.lock
	@$(LOCK) --all-extras --group dev $(DISTS:%=%/pyproject.toml) -o requirements-dev.lock

integration: up  ## real API server, object store and processes
	@$(PY) -m pytest tests/integration -q

bench: up  ## measure, as tables of ratios; fails at a gate of OpRuns that is missed (15 minutes)
	@$(PY) bench/run.py --with-ray
	@$(PY) bench/sse.py
	@$(PY) bench/opruns.py

bench-check: up  ## measure tasks against bare pods, and compare with the gates (10 minutes)
	@$(PY) bench/run.py && $(PY) bench/check.py

bench-scale: up  ## measure large Runs and many Runs, on fake nodes and on this one (90 minutes)
	@$(PY) bench/scale.py

ROUNDS ?= 10
soak: up  ## every fault ROUNDS times (10): parts of the cluster die, hang or refuse under a Run
	@MAZE_SOAK_ROUNDS=$(ROUNDS) $(PY) -m pytest tests/faults -q --durations=5

e2e: up  ## real pods
	@$(PY) -m pytest tests/e2e -q

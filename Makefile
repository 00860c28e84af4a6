# VGPO, put to the test. `make` alone lists what there is.
# Works with GNU make 3.81 (macOS) and later.

PYTHON ?= python3
JOBS ?= 2
NOTEBOOK ?=
BENCH ?=

VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
BUILD := $(RUN) book/build.py

# One thread per process: `make test` runs JOBS of them side by side.
test coverage: export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help book test html freeze check bench clean env
.PHONY: lint types coverage format newest dist

help:  ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / \
		{ printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo "Options: PYTHON=python3.12  NOTEBOOK=00_testbed  JOBS=2"

book: $(READY)  ## run every notebook, then build _build/html from what it ran
	$(BUILD) execute
	$(BUILD) html --executed

test: $(READY)  ## run the whole test suite
	$(RUN) -m pytest -n $(JOBS) --dist loadfile

html: $(READY)  ## build _build/html from the frozen notebooks, without running them
	$(BUILD) html

freeze: $(READY)  ## run notebooks and replace the committed copies; NOTEBOOK=name for one
	$(BUILD) freeze $(NOTEBOOK)

check: $(READY)  ## run every notebook with its small preset, into throw-away copies
	$(BUILD) execute --preset small $(NOTEBOOK)

bench: $(READY)  ## run the performance harness; BENCH=name for one
	$(RUN) -m benchmarks $(BENCH)

lint: $(READY)  ## ruff: check and formatting
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(READY)  ## mypy: vgpo.method and vgpo.stats must be clean, the rest is reported
	$(RUN) -m mypy -p vgpo.method -p vgpo.stats --follow-imports silent
	-$(RUN) -m mypy

coverage: $(READY)  ## run the whole test suite and report which lines it reaches
	$(RUN) -m pytest -n $(JOBS) --dist loadfile --cov --cov-report term --cov-report xml

format: $(READY)  ## ruff: repair what it can
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# `rm -rf .venv` goes back to the pinned versions.
newest: $(READY)  ## put the newest TRL and transformers into .venv, past the pins
	$(RUN) -m pip install --disable-pip-version-check --upgrade \
		trl transformers peft accelerate
	$(RUN) -m pip list --disable-pip-version-check

dist: $(READY)  ## build sdist and wheel into _build/dist
	rm -rf _build/dist
	$(RUN) -m build --no-isolation --outdir _build/dist

clean:  ## remove what was built; the environment stays
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache .hypothesis
	rm -f .coverage .coverage.* coverage.xml

env: $(READY)  ## set up .venv: pinned requirements and vgpo itself

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "This needs Python 3.11 or newer; $(PYTHON) is" \
			"$$($(PYTHON) --version 2>&1 || echo missing)." \
			"Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check -r requirements.txt
	@touch $(READY)

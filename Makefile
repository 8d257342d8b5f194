# `make demo` and `make test` set up their own virtual environment; nothing else has to be installed or started.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint benchmarks schema clean

demo: $(READY)
	$(BIN)/regiolect run examples.fashion:MODEL --drills

test: $(READY) lint
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmarks: $(READY)
	$(BIN)/python -m benchmarks.engines
	$(BIN)/python -m benchmarks.gate_coverage

schema: $(READY)
	$(BIN)/regiolect policies schema region_policies/schema.json

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[release,dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) .regiolect

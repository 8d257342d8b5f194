# `make demo` and `make test` set up their own virtual environment; nothing else has to be installed or started.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Tests start hundreds of processes: each would compile Regiolect anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo check unit test all-tests acceptance collected lint format browser emulator benchmarks docs pages schema clean

help:
	@echo "make demo        release the example in every region, with three engines that must be refused"
	@echo "make lint        style, types and layers"
	@echo "make format      mend style"
	@echo "make check       lint and the quick unit tests: minutes, while something is changed"
	@echo "make test        lint and all tests, as CI runs them; as root it installs a browser and an emulator by apt-get"
	@echo "make acceptance  every kill and every attack, of which make test tries some; goes on where it was stopped"
	@echo "make benchmarks  measure again what benchmarks/results tells"
	@echo "make docs        the documentation as a site in site/, with the Python API; links are checked"
	@echo "make pages       what the pages in docs/ take from the code: lists, errors, layers, the picture"
	@echo "make schema      the JSON schema of policies, for editors"
	@echo "make clean       remove the environment and the example's home"

demo: $(READY)
	$(BIN)/regiolect run examples.fashion:MODEL --drills

# So many processes side by side, a file in one of them: tests of a file share servers, and some build on each other.
# Most tests of servers wait. The order of collection puts the longest first.
CORES := $(shell nproc 2>/dev/null || echo 1)
PYTEST := $(BIN)/pytest --dist loadfile --no-loadscope-reorder

test:
	$(MAKE) --jobs 2 --output-sync=target $(READY) emulator
	$(MAKE) --jobs 2 lint all-tests

all-tests: collected
	$(PYTEST) -n $(shell echo $$(( $(CORES) > 4 ? $(CORES) : 4 )))

check: $(READY)
	$(MAKE) --jobs 2 lint unit

unit: $(READY)
	$(PYTEST) -n $(CORES) -m 'not acceptance and not slow' tests/unit

acceptance: $(READY) emulator
	$(BIN)/python -m benchmarks.acceptance

# What pytest makes of a file for its assertions is made once, and not by each process. It says why where a file cannot be
# read.
collected: $(READY)
	@said="$$($(BIN)/pytest --collect-only -qq)" || { echo "$$said"; exit 1; }

# The tests of Prefect's pages need Debian's Chromium and its driver, or a Chrome with one.
browser:
	@if command -v chromedriver >/dev/null && { command -v chromium || command -v google-chrome; } >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing a browser for the tests: apt-get install chromium chromium-driver"; apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends chromium chromium-driver; \
	else echo "The tests need a browser: install chromium and chromedriver (Debian: chromium chromium-driver)"; exit 1; fi

# Tests of arithmetic run on an emulated processor without VNNI as well: Debian's qemu-user.
emulator: | browser
	@if command -v qemu-x86_64 >/dev/null || [ "$$(uname -sm)" != "Linux x86_64" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing an emulator for the tests: apt-get install qemu-user"; apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends qemu-user; \
	else echo "The tests need an emulator: install qemu-user (Debian: qemu-user)"; exit 1; fi

# Types of plain TensorRT. What they depend on, TensorRT itself, is on NVIDIA's own index alone. They were generated, and
# five of their lines are no Python.
.stubs/tensorrt: | $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --target .stubs tensorrt-stubs==10.13.0.35.1
	sed -i.orig -e 's/, channel_axis: int)/, channel_axis: int = ...)/' -e 's/\([(,] *\)in: /\1in_: /' \
	  .stubs/tensorrt_bindings/tensorrt.pyi

lint: $(READY) .stubs/tensorrt
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: $(READY)
	$(BIN)/python -m benchmarks.engines
	$(BIN)/python -m benchmarks.gate_coverage
	$(BIN)/python -m benchmarks.gate_score_coverage
	$(BIN)/python -m benchmarks.gate_speed
	$(BIN)/python -m benchmarks.calibration
	$(BIN)/python -m benchmarks.methods
	$(BIN)/python -m benchmarks.arithmetic
	$(BIN)/python -m benchmarks.recipes
	$(BIN)/python -m benchmarks.verification
	$(BIN)/python -m benchmarks.processors
	$(BIN)/python -m benchmarks.plan
	$(BIN)/python -m benchmarks.plans
	$(BIN)/python -m benchmarks.tuning
	$(BIN)/python -m benchmarks.audit
	$(BIN)/python -m benchmarks.orchestration
	$(BIN)/python -m benchmarks.isolation
	$(BIN)/python -m benchmarks.interrupts
	$(BIN)/python -m benchmarks.serving

docs: $(READY)
	$(BIN)/python -m docs.from_code.site site

pages: $(READY)
	$(BIN)/python -m docs.from_code

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
	rm -rf $(VENV) .regiolect .stubs site

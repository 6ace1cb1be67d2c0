# make install | run | test | fuzz | chaos | lint | docs | golden | golden-node | bench | clean
PYTHON ?= python3
GOLDEN ?= ../shared/golden
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install run test fuzz chaos lint docs golden golden-node bench packages clean

install: $(VENV)/.installed

run: install
	$(BIN)/minik8s server

test: packages $(VENV)/.test $(VENV)/node/.installed
	$(BIN)/pytest -n 3 --dist loadfile $(ARGS)

# Chance, for as long as one likes (make test asks little of it): make fuzz, make fuzz TIMES=50
TIMES ?= 5
fuzz: $(VENV)/.test
	MINIK8S_FUZZ=$(TIMES) $(BIN)/pytest tests/fuzz $(ARGS)

# A node's pods, while agents, runtimes and containers are killed, as root: make chaos TIMES=20, SEED=100 for other rounds
SEED ?= 1
chaos: packages $(VENV)/.test
	MINIK8S_CHAOS=$(TIMES) MINIK8S_CHAOS_SEED=$(SEED) $(BIN)/pytest tests/chaos -s $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# docs/api.md, of the resource table and of tests/api_facts.py.
docs: $(VENV)/.test
	$(BIN)/python -m tests.api_docs

# How many of upstream's recorded answers are the same: make golden, make golden WHAT="smoke pods-defaults"
# `make test` replays them all as well, where they are.
golden: $(VENV)/.test
	$(BIN)/python -m tests.golden $(GOLDEN) $(WHAT)

# The same of what a node makes of pods, on each container runtime (as root): make golden-node, make golden-node WHAT="phases hooks"
golden-node: packages $(VENV)/.test
	PYTHONPATH=tests/e2e:tests/runtime $(BIN)/python -m tests.golden --node $(GOLDEN) $(WHAT)

# Speed, as ratios to a bare aiohttp server: make bench, make bench WHAT="requests watchers"
bench: $(VENV)/.test
	$(BIN)/python -m tests.bench $(WHAT)

# What the tests for root use of Debian's. Asks apt only where a command is missing; says so where there is no apt.
packages:
	@tests/packages.sh

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; sys.exit("minik8s needs Python 3.11 or newer (PYTHON=...)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# What is editable pip leaves uncompiled, and Python too where PYTHONDONTWRITEBYTECODE is set: each start would take twice as long.
define install
$(BIN)/pip install --quiet --disable-pip-version-check --editable $(1)
$(BIN)/python -m compileall -q minik8s
endef

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/pip
	$(call install,.)
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/pip
	$(call install,'.[test]')
	@touch $@ $(VENV)/.installed

# The official Node client, for tests/e2e/clients: quick to miss, so nothing fails where it can't be had.
$(VENV)/node/.installed: | $(VENV)/bin/pip
	@mkdir -p $(@D)
	@npm install --silent --no-audit --no-fund --fetch-retries=0 --fetch-timeout=20000 --prefix $(@D) @kubernetes/client-node@1 \
	    || echo "no Node client (npm is missing or has no registry): its test is skipped"
	@touch $@

$(VENV)/.lint: pyproject.toml | $(VENV)/bin/pip
	$(call install,'.[lint]')
	@touch $@ $(VENV)/.installed

# make install | run | test | lint | golden | bench
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install run test lint bench

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

run: install
	$(BIN)/minik8s server

$(VENV)/.test: pyproject.toml
	$(MAKE) install
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/.lint: pyproject.toml
	$(MAKE) install
	$(BIN)/pip install --quiet --editable '.[lint]'
	touch $@

test: $(VENV)/.test
	$(BIN)/pytest

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test
	$(BIN)/python -m tests.bench

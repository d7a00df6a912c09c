# Every target sets up what it needs in .venv, from nothing, and does nothing twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.PHONY: demo test lint fixtures eras clean

demo: $(VENV)/.runtime
	@mkdir -p $(DEMO)
	$(BIN)/h5remap inspect fixtures/demo/multi_gpu.h5
	$(BIN)/h5remap extract fixtures/demo/multi_gpu.h5 -o $(DEMO)/single.h5 --overwrite

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --cov --cov-report=term

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fixtures: $(VENV)/.dev
	$(BIN)/python fixtures/make/build.py

eras: $(VENV)/.dev
	$(BIN)/python fixtures/make/check_eras.py

clean:
	rm -rf $(VENV) $(DEMO) .eras build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.runtime

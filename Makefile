# Every target sets up what it needs in .venv, from nothing, and does nothing twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

MINUTES ?= 60
MODELS ?= 100
# The oldest Python, and the oldest release of every dependency that pyproject.toml allows.
OLDEST_PYTHON ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.10.*/bin/python) python3.10)
OLDEST := $(shell sed -n 's/^dependencies = \[\(.*\)\]/\1/p' pyproject.toml | sed 's/>=/==/g; s/,<[0-9.]*//g; s/[",]//g')
TESTS ?= tests
COVERAGE ?=

# Tests write many small files and wait until each is on the disk: in memory nothing waits.
export PYTEST_DEBUG_TEMPROOT ?= $(shell df -Pk /dev/shm 2> /dev/null | awk 'NR == 2 && $$4 > 4000000 { print "/dev/shm" }')

.PHONY: demo test test-keras test-oldest check lint fixtures eras networks drawn releases fuzz bench clean

demo: $(VENV)/.runtime
	@rm -rf $(DEMO) && mkdir $(DEMO) && cp fixtures/demo/* $(DEMO)
	@echo; echo '# What is in a checkpoint of a model trained on four GPUs?'
	cd $(DEMO) && ../$(BIN)/h5remap inspect multi_gpu.h5 --depth 1
	@echo; echo '# Take the real model out of it, with the state of its optimizer.'
	cd $(DEMO) && ../$(BIN)/h5remap extract multi_gpu.h5 -o single.h5
	@echo; echo '# A part of what came out.'
	cd $(DEMO) && ../$(BIN)/h5remap inspect single.h5 --layer 'stage1_block1*'
	@echo; echo '# The same from a weights-only file, which does not say how the model is built: model.json does.'
	cd $(DEMO) && ../$(BIN)/h5remap extract multi_gpu_weights.h5 -o single_weights.h5 --like model.json
	@echo; echo '# Would Keras load it into the model?'
	cd $(DEMO) && ../$(BIN)/h5remap check single_weights.h5 --like model.json

# Everything but what imports a real Keras: needs neither TensorFlow nor JAX. COVERAGE=--cov also counts the branches.
test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --ignore tests/real_keras $(COVERAGE)

# What real Keras, of today and the last of Keras 2, makes of what comes out.
test-keras: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto tests/real_keras

# All but real Keras again, with the oldest Python and dependencies; TESTS="FILE ..." chooses among the tests.
test-oldest: $(VENV)-oldest/.test
	$(VENV)-oldest/bin/python -m pytest -n auto --ignore tests/real_keras $(TESTS)

# Lint, and the tests of what changed since the branch left main.
check: lint
	$(BIN)/python -m pytest -n auto $$($(BIN)/python .ci/affected.py)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fixtures: $(VENV)/.dev
	$(BIN)/python fixtures/make/build.py
	$(BIN)/python fixtures/make/field.py

eras: $(VENV)/.dev
	$(BIN)/python fixtures/make/check_eras.py

networks: $(VENV)/.dev
	PYTHONPATH=. $(BIN)/python fixtures/make/check_networks.py

drawn: $(VENV)/.dev
	PYTHONPATH=. $(BIN)/python fixtures/make/check_drawn.py --models $(MODELS) --seed $$(date +%s)

# What h5remap reads from files of Keras 3, against what every minor release of Keras 3 loads from them.
releases: $(VENV)/.dev
	$(BIN)/python -m tests.real_keras.releases

fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.attack.fuzz --minutes $(MINUTES) --seed $$(date +%s)

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) $(VENV)-oldest $(DEMO) .eras build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,servers]'
	@touch $@ $(VENV)/.runtime

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.test $(VENV)/.runtime

$(VENV)-oldest/.test: pyproject.toml
	$(OLDEST_PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]' $(OLDEST)
	@touch $@

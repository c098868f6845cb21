# Two commands: `make quickstart` runs the first benchmark, `make test` checks the project.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Tests run one process per core with one thread each: two pools of threads on the same cores wait for each other. Each
# process begins with its own part of the files, so that what their tests share is made once, and takes from the other's
# when it is done.
JOBS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
FAST = tests/core tests/scoring tests/policies tests/schedulers tests/testing --ignore tests/schedulers/test_open_optimizers.py

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-fast golden test-slow lint docs benchmark verify leaderboard clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ganno-bench needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version); try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(READY)

install: $(READY)  ## create .venv with the package and its development tools

quickstart: $(READY)  ## run the quickstart suite and print the standings (about 6 minutes)
	$(BIN)/ganno-bench run quickstart --out runs/quickstart

lint: $(READY)  ## ruff, mypy and the import ladder
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: lint  ## lint, then every test that is not marked slow
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-fast: $(READY)  ## the tests of what trains nothing, in less than a minute
	$(PYTEST) -m "not slow" $(FAST) $(PYTEST_ARGS)

golden: $(READY)  ## record the decisions of schedulers that are new or have a new revision
	$(BIN)/python -m tests.helpers.golden

test-slow: $(READY)  ## the tests marked slow, or some groups of tests/groups.toml: GROUPS="docs pages"
	$(PYTEST) -m "$(if $(GROUPS),$(subst $() $(), or ,$(foreach group,$(GROUPS),slow(group='$(group)'))),slow)" $(PYTEST_ARGS)

docs: $(READY)  ## build the documentation into build/site; what leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

benchmark: $(READY)  ## time the engine (nothing else should be running)
	$(BIN)/python benchmarks/engine.py

verify: $(READY)  ## check the committed baselines, and train a sample of them again
	$(BIN)/ganno-bench verify baselines

leaderboard: $(READY)  ## build the leaderboard's tables and pages from the committed records (about two minutes)
	$(BIN)/ganno-bench leaderboard build

clean:  ## remove the environment
	rm -rf .venv

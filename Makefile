# Two commands to begin with: `make quickstart` runs the first benchmark, `make test` checks the project.
PYTHON ?= $(if $(filter Windows_NT,$(OS)),python,python3)
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
READY := .venv/.ready
# One process per core with one thread each: two thread pools on the same cores slow each other down. `worksteal` starts
# each process with its own part of the files, so that they share fixtures, and lets an idle process take tests from another.
JOBS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
FAST = tests/core tests/project tests/scoring tests/policies tests/schedulers tests/testing --ignore tests/schedulers/test_open_optimizers.py

.DEFAULT_GOAL := help
.PHONY: help install hooks quickstart test test-only test-fast test-slow lint lint-workflows format golden messages docs \
	benchmark verify leaderboard dist test-dist release-notes clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# The version is in ganno_bench/__init__.py: a new one has to be installed, too.
$(READY): pyproject.toml ganno_bench/__init__.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ganno-bench needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version); try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(READY)

install: $(READY)  ## create .venv with the package and its development tools

hooks: $(READY)  ## run lint before each commit, and check its subject (pre-commit)
	$(BIN)/pre-commit install --hook-type pre-commit --hook-type commit-msg

quickstart: $(READY)  ## run the quickstart suite and print the standings (about 6 minutes)
	$(BIN)/ganno-bench run quickstart --out runs/quickstart

lint: $(READY)  ## run ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

lint-workflows: $(READY)  ## check the workflows, issue forms and other files of .github
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema custom.github-workflows-require-timeout .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/pre-commit validate-config .pre-commit-config.yaml
	$(BIN)/zizmor --offline --quiet .github

format: $(READY)  ## let ruff format the code and fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint test-only  ## run lint, then every test that is not marked slow (about 5 minutes)

test-only: $(READY)  ## run every test that is not marked slow
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-fast: $(READY)  ## run the tests that train nothing (less than a minute)
	$(PYTEST) -m "not slow" $(FAST) $(PYTEST_ARGS)

test-slow: $(READY)  ## run the tests marked slow, or some groups of tests/groups.toml: GROUPS="docs pages"
	$(PYTEST) -m "$(if $(GROUPS),$(subst $() $(), or ,$(foreach group,$(GROUPS),slow(group='$(group)'))),slow)" $(PYTEST_ARGS)

golden: $(READY)  ## record the decisions of new schedulers and new revisions
	$(BIN)/python -m tests.helpers.golden

messages: $(READY)  ## list every message that the package can print
	@$(BIN)/python -m tests.helpers.messages

docs: $(READY)  ## build the documentation into build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

benchmark: $(READY)  ## measure the engine's speed (on an idle machine)
	$(BIN)/python benchmarks/engine.py

verify: $(READY)  ## check the committed baselines, and train a sample of them again
	$(BIN)/ganno-bench verify baselines

leaderboard: $(READY)  ## build the leaderboard's tables and pages from the committed records (about 2 minutes)
	$(BIN)/ganno-bench leaderboard build

dist: $(READY)  ## build the source distribution and the wheel into dist/, and check them
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

test-dist: dist  ## install the wheel into a fresh environment and run it from an empty folder
	rm -rf build/wheel && mkdir -p build/wheel/empty
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/$(notdir $(BIN))/python -m pip install --quiet dist/*.whl
	cd build/wheel/empty && ../venv/$(notdir $(BIN))/ganno-bench --version
	cd build/wheel/empty && ../venv/$(notdir $(BIN))/ganno-bench list schedulers
	cd build/wheel/empty && ../venv/$(notdir $(BIN))/ganno-bench run smoke --scheduler cosine --trials 2 --report-seeds 1

release-notes:  ## check the tag of a release and write its notes into build/: TAG=v0.1.0
	mkdir -p build
	$(PYTHON) -m tests.helpers.release "$(TAG)" >build/release-notes.md

clean:  ## remove the environment
	rm -rf .venv

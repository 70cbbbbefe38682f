# Every target makes the environment it needs; `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage slow lint types format bench clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := demo,dev

# The first interpreter that is new enough. Each is run, not looked up: a name on PATH may be a shim that fails.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$name"; break; }; done)
# `make setup UV=` installs with pip even where uv is present.
UV ?= $(shell command -v uv 2>/dev/null)

# Two workers that begin with half of the files each, for what a file shares is made once in every worker. A set
# PYTHONDONTWRITEBYTECODE would have every run compile the tests anew.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 2 --dist worksteal

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with the library, the demo's model and the developer tools

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one: make setup PYTHON=/path/to/python" >&2; exit 2; }
ifeq ($(UV),)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
else
	test -x $(BIN)/python || "$(UV)" venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
	"$(UV)" pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]'
endif
	@touch $@

demo: setup ## search the Python standard library: train, compare, show
	$(BIN)/jasper demo

test: lint types ## lint, types, and the default tests
	$(PYTEST)

coverage: setup ## the default tests again, which have to reach 90 % of the lines
	$(PYTEST) --cov --cov-fail-under=90

slow: setup ## the tests too long for the default run, and every property with ten times as many examples
	$(PYTEST) -m "(slow or hypothesis) and not gpu and not network and not browser" --hypothesis-profile=thorough

lint: setup ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## mypy, strict
	$(BIN)/mypy src tests $(wildcard scripts/*.py examples/*.py benchmarks/*.py)

format: setup ## apply ruff's fixes and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## say how to run the benchmarks
	@echo "$(BIN)/python benchmarks/quality.py --help   # ranking quality over several data sets and seeds"
	@echo "The results and how they were made: docs/benchmarks.md"

clean: ## remove caches and build output; keeps .venv and runs
	rm -rf build dist .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

# Everything a newcomer needs: `make demo` and `make test` set up their own environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow check docs format clean

$(STAMP): pyproject.toml requirements/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements/constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements/constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)  ## train yolo26n on the built-in data set, validate it, predict with it
	$(BIN)/python examples/demo.py

test: $(STAMP)  ## everything but the slow tests, on two processes
	$(BIN)/python -m pytest -n 2 -m "not slow" tests

test-slow: $(STAMP)  ## the tests that train for minutes
	$(BIN)/python -m pytest -n 0 -m slow tests

check: $(STAMP) docs  ## format, lint, types, and whether the site of docs/ is whole
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(STAMP)  ## the site, into build/site; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # with --quiet it would not count warnings

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache

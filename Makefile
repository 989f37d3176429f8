# `make demo` shows the package at work, `make test` checks everything. Both make their own environment in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help demo test systems docs links explore lint types bench roads clean

help:
	@echo "make demo   a TIFF stack becomes a Zarr array, checked voxel by voxel, and a picture"
	@echo "make test   linters, types, documentation and all tests"
	@echo "make docs   the documentation as a site, in site/"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp per set of dependencies: pip runs again only when pyproject.toml changes.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed
	@rm -rf $(DEMO)
	@PATH="$(abspath $(BIN)):$$PATH" bash examples/demo.sh $(DEMO)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.installed-test
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin

# A link or an anchor that leads nowhere is an error, and so is a public name that the reference lacks.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site
	@echo "the documentation is in site/index.html"

# Whether other people's pages that the documentation links to are still there; without a network it says so and skips.
links:
	$(PYTHON) docs/links.py

# The core tests once as on Windows and once as on macOS: see docs/systems.md.
systems: $(VENV)/.installed-test
	$(BIN)/python -m tests.system.session windows -q
	$(BIN)/python -m tests.system.session macos -q

# Tests start hundreds of processes: what they import is compiled once.
test explore systems: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/.installed-test $(VENV)/.installed-docs
	@$(MAKE) --no-print-directory --jobs 2 --output-sync lint types docs systems
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal --doctest-modules src tests

# Property tests and damaged files with fresh seeds and ten times the examples. What they find becomes an explicit example of its test.
explore: $(VENV)/.installed-test
	BIOIMAGE_PY_EXPLORE=10 $(BIN)/python -m pytest --numprocesses 2 -m hypothesis tests
	BIOIMAGE_PY_EXPLORE=10 $(BIN)/python -m pytest --numprocesses 2 tests/test_mutations.py

bench: $(VENV)/.installed-test
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/backends.py
	$(BIN)/python benchmarks/pyramid.py

# Half an hour on a quiet machine: every road beside its references, and time against size.
roads: $(VENV)/.installed-test
	$(BIN)/python benchmarks/roads.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/plates.py
	$(BIN)/python benchmarks/fill.py

clean:
	rm -rf $(VENV) $(DEMO) site benchmarks/.cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

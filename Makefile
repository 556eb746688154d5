# CI calls the same targets. `make demo` and `make test` are all a new user needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo check test bench docs conformance real

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt constraints-dev.txt
	$(PYTHON) -c 'import sys; sys.exit("lockedroom needs Python 3.11 or newer, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --constraint constraints-dev.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --constraint constraints-dev.txt --group dev --editable '.[audit,completion,hf,holdout,learn,parquet,report,server]'
	touch $(STAMP)

demo: setup
	$(BIN)/lockedroom demo

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One thread of PyTorch a test process: a second OpenMP thread on a busy machine is catastrophic.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

bench: setup
	$(BIN)/python bench/run.py

docs: setup
	$(BIN)/python docs/generate.py
	$(BIN)/sphinx-build --quiet --fail-on-warning docs site

# The real packages, each in an environment of its own (.venv-conformance, a few GB, kept). NAME=trl runs one alone.
conformance:
	$(PYTHON) conformance/environments.py $(NAME)

# The three loops on SmolLM2-135M-Instruct, and docs/real-model.md from them. Goes on where it was interrupted.
real: setup
	test -d models/smollm2-135m-instruct || $(BIN)/python recipes/real.py fetch
	OMP_NUM_THREADS=1 $(BIN)/python recipes/real.py run

# make demo | test | lint | bench | clean: each does all of its own set-up, and only what is missing of it.
#
#   PYTHON=python3.12    the interpreter to build .venv with, 3.10 or newer
#   TORCH_INDEX=URL      another package index to take torch from, such as one of CPU-only wheels
#   PPD_CACHE=FOLDER     where the segmenter's weights are kept (else the platform's cache folder)
#   PPD_WEIGHTS=FOLDER   where they already lie, for machines without a network

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Costs a checksum where the weights are in the cache already.
FETCH := $(BIN)/ppd weights fetch mobile-sam

.PHONY: demo test lint bench clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed-demo
	$(FETCH)
	$(BIN)/ppd demo --out demo

test: $(VENV)/.installed-dev
	$(FETCH)
	$(BIN)/python -m pytest --cov --cov-fail-under=90

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-dev
	$(FETCH)
	set -e; for script in $(sort $(wildcard benchmarks/[!_]*.py)); do echo "== $$script"; $(BIN)/python $$script; done

clean:
	rm -rf $(VENV) demo build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# Torch goes in first: left to the dependencies, pip may choose a build with several GB of CUDA libraries.
$(VENV)/.torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
	  "Python 3.10 or newer is needed, this is %d.%d; name another with make PYTHON=..." % sys.version_info[:2])'
	@$(PYTHON) -m venv $(VENV) || { echo "The venv could not be made; install your system's python3-venv package." >&2; \
	  rm -rf $(VENV); exit 1; }
	$(PIP) install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	@touch $@

$(VENV)/.installed-%: $(VENV)/.torch pyproject.toml
	$(PIP) install --editable '.[$*]'
	@touch $@

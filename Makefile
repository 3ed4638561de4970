# Front door of the course: every target does its own set-up.
# Needs Python 3.11 or newer, make and git; everything else goes into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# --no-compile: compiling all of torch takes longer than compiling what is imported, when it is imported
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

.PHONY: help book test lab notebooks sync sync-check serve lint pytest nbval clean distclean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# ---- set-up: repeated only when its inputs change ----

.venv/.book: pyproject.toml constraints.txt
	@test -x $(BIN)/python || { echo "set-up: making .venv with $(PYTHON)"; $(PYTHON) -m venv .venv; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "the course needs Python 3.11 or newer; give one with make PYTHON=...")'
	@echo "set-up: installing what the book needs"
	@$(PIP) pip setuptools
	@$(PIP) --group book
	@touch $@

.venv/.all: .venv/.book
	@echo "set-up: installing torch, course_lib and the tests' tools (about 6 GB on Linux, once)"
	@$(PIP) --editable '.[notebooks,test]'
	@touch $@

# ---- what people run ----

book: .venv/.book  ## build the book into _build/html, warnings are errors
	$(BIN)/python tools/build_site.py

test: .venv/.all  ## everything CI checks: style, pairs, site, library, every notebook
	$(MAKE) --no-print-directory lint sync-check book pytest nbval

lab: .venv/.all  ## open the notebooks in JupyterLab
	@# PASSIVE: on a laptop that does other things too, threads that spin while they wait cost minutes
	OMP_WAIT_POLICY=PASSIVE $(BIN)/jupyter lab --ServerApp.root_dir=. notebooks/zh

notebooks: .venv/.all  ## re-run the notebooks whose code changed and store their outputs (ALL=1: every one)
	$(BIN)/python tools/notebooks.py run $(if $(ALL),--all)

sync: .venv/.book  ## bring each .ipynb up to date with its .md, keeping outputs
	$(BIN)/python tools/notebooks.py sync

sync-check: .venv/.book  ## fail if a pair differs, languages' code differs, or outputs are of other code
	$(BIN)/python tools/notebooks.py check

serve: book  ## build the book and serve it at http://localhost:8000
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

# ---- parts of `make test` ----

lint: .venv/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

pytest: .venv/.all
	$(BIN)/python -m pytest tests --durations=5

nbval: .venv/.all
	$(BIN)/python -m pytest --nbval-lax notebooks

clean:  ## remove what was built; the installation stays
	rm -rf _build .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean  ## remove the installation too
	rm -rf .venv *.egg-info

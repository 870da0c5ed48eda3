# Two commands on a fresh machine: `make demo` and `make test`. Each installs what it needs, once.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
LOCK = $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help setup demo test unit lint bench chaos fuzz mutants images lock clean

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP) ## Make the virtual environment with the locked dependencies

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "shadowstream needs Python 3.11 or newer; say PYTHON=/path/to/python3")'
	@echo "==> virtual environment in $(VENV), locked dependencies"
	@$(PYTHON) -m venv $(VENV) || { echo "no venv module: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## Run the voucher chain in both lanes on an embedded broker (no Docker, under two minutes)
	@$(BIN)/shadowstream demo $(ARGS)

images: $(STAMP) ## Get a container daemon and the Kafka and Redis images ready
	@$(BIN)/python -m containers

test: images ## Run every test: house, unit, and on real Kafka and Redis in containers
	@$(BIN)/python -m pytest $(ARGS)

unit: $(STAMP) ## Run the tests that need no container
	@$(BIN)/python -m pytest tests/house tests/unit tests/wires $(ARGS)

lint: $(STAMP) ## Check style, types and the house rules
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: images ## Measure against the raw client on a real broker; writes benchmarks/results/
	@$(BIN)/python -m benchmarks $(ARGS)

lock: $(STAMP) ## Resolve the dependencies anew into requirements.lock, and those of the benchmarks' peers
	@$(LOCK) --universal --python-version 3.11 --all-extras --group dev pyproject.toml -o requirements.lock
	@for each in benchmarks/peers/locks/*.in; do \
		$(LOCK) --universal --python-version $$(sed -n 's/^# python //p' $$each) $$each -o $${each%.in}.lock || exit 1; done

chaos: $(STAMP) ## Break a three-broker cluster and its workers by plan, ten seeds or SEED=n (an hour; Linux)
	@$(BIN)/python -m containers --chaos && $(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(ARGS)

fuzz: $(STAMP) ## Read ten million header lists and marks twice, by ours and by a second reader (minutes)
	@$(BIN)/python -m tests.fuzz $(ARGS)

mutants: $(STAMP) ## Change what decides in some thousand places; the unit tests must see nine in ten (half an hour)
	@$(BIN)/python -m tests.mutants $(ARGS)

clean: ## Remove the virtual environment
	rm -rf $(VENV)

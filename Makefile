# Everything there is to do, as targets; `make` alone lists them. Python 3.11 or later, and nothing else, must be there.

PYTHON ?= $(or $(shell command -v python3.11),$(shell command -v python3))
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS ?=
YEAR := stream/demo/data/events.jsonl.gz
PRODUCTS := stream/demo/data/items.jsonl.gz

.DEFAULT_GOAL := help
.PHONY: help demo test oracle fuzz simulate controls chaos outage lint bench docs bundle clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.serve  ## run a year of real events through the engine and watch; ARGS="--speed 2" slows it down
	@$(BIN)/ebbtide demo $(ARGS)

# A process for each processor, at most four; tests/conftest.py says which tests share one. ARGS="-n 0": in this one.
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

test: lint  ## run linters, types and tests; ARGS="-k windows" picks tests
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

oracle: .venv/.dev  ## hold the engine to the naive oracle at full size (half an hour)
	@EBBTIDE_FULL=1 $(BIN)/python -m pytest tests/core $(ARGS)

fuzz: .venv/.dev  ## the same on streams made by chance; ARGS="--minutes 10 --seed 1"
	@$(BIN)/python -m tests.fuzz $(ARGS)

simulate: .venv/.dev  ## run 10,000 schedules of faults against the promises; ARGS="--seeds 1..500"
	@$(BIN)/python -m tests.simulation $(or $(ARGS),--seeds 1..10000)

controls: .venv/.dev  ## break the protocol in six ways and see the simulator catch each
	@$(BIN)/python -m tests.simulation --controls

chaos: .venv/.dev  ## kill, freeze and restart real workers and brokers (KAFKA_HOME); ARGS="--seed 1 --minutes 10"
	@$(BIN)/python -m tests.kafka.chaos $(ARGS)

outage: .venv/.dev  ## take the only broker away for a minute and see the worker wait and go on (KAFKA_HOME)
	@EBBTIDE_FULL=1 $(BIN)/python -m pytest tests/kafka/test_group.py -k away $(ARGS)

lint: .venv/.dev  ## run ruff, mypy and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: .venv/.dev  ## measure speed and memory
	@$(BIN)/python -m benchmarks $(ARGS)

docs: .venv/.dev  ## write anew the parts of the docs that are made from the code
	@$(BIN)/python -m tools.make_docs

DEMO := --input stream/demo/data/events.jsonl.gz --config stream/demo/demo.toml
OCTOBER := 2017-10-01T05:00:00Z

bundle: .venv/.dev  ## train the demo's model on January to September, judge it, and export it (minutes)
	@$(BIN)/ebbtide-train fit --recipe models/recipes/demo.toml $(DEMO) \
	    --items stream/demo/data/items.jsonl.gz --until $(OCTOBER) --out runs/demo --overwrite $(ARGS)
	@$(BIN)/ebbtide-train evaluate runs/demo $(DEMO) --from $(OCTOBER)
	@$(BIN)/ebbtide-export runs/demo stream/demo/bundle $(DEMO) --precision int8 --overwrite

clean:  ## remove the environment, caches and outputs
	rm -rf .venv build dist *.egg-info demo-out .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: an environment is made once, and again when pyproject.toml changes.

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "no python3.11 or python3 on the PATH"; exit 1; }
	@echo "making .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv

.venv/.serve: pyproject.toml | .venv/bin/python
	@echo "installing what serving needs (about a minute)"
	@$(PIP) install --editable .
	@touch $@

# torch first and alone: where an index offers a build without CUDA under the same version, pip takes that one.
.venv/.dev: pyproject.toml | .venv/bin/python
	@echo "installing what tests and training need (some minutes: torch is large)"
	@$(PIP) install torch==2.13.0
	@$(PIP) install --editable '.[dev]'
	@touch $@ .venv/.serve

# The two commands a newcomer needs are `make run` and `make test`; everything else is listed by `make help`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# The tests wait about as long as they compute.
TOGETHER := $(shell expr 2 \* $$(nproc))

.DEFAULT_GOAL := help
.PHONY: help run test lint check wheel-test bench campaign clean

help: ## list what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[edge,dev]'
	@touch $@

run: $(READY) ## set up, then show everything on an embedded Qdrant: snapward demo
	$(BIN)/snapward demo

test: $(READY) ## set up, then run the whole test suite
	$(BIN)/python -m pytest -n $(TOGETHER)

lint: $(READY) ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test ## everything a change must pass: lint, then the tests

wheel-test: $(READY) ## build the wheel through the sdist and test it away from the checkout
	PYTHON=$(BIN)/python sh tests/wheel_test.sh

bench: $(READY) ## ratios against the tools people use today, measured side by side
	$(BIN)/python tests/bench/bench.py

campaign: $(READY) ## slow: kill -9 at 225 random moments, bursts of 20,000 archives, 200 varied collections drilled
	$(BIN)/python -m pytest -p no:randomly tests/campaigns

clean: ## remove what this file made
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

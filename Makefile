# Everything a person types. python3 (3.11 or newer) and make are all it takes; the rest is set up in this folder.
PYTHON ?= python3
SETUP = $(PYTHON) tools/setup.py
BIN = .venv/bin

.PHONY: help setup run demo-node check test test-real soak bench lock clean

help:
	@echo 'make run        set up, then a shop and a chain that reorganises, on 127.0.0.1:8720 (BURSAR_PORT)'
	@echo 'make demo-node  the same with a real node beside it'
	@echo 'make test       lint, types and the quick tests'
	@echo 'make test-real  the tests on real servers, some minutes'
	@echo 'make soak       100,000 simulated worlds and 200 kills, an hour or more'
	@echo 'make bench      figures, each against its baseline'
	@echo 'make check      lint, types, tidy rules and sizes alone'
	@echo 'make lock       newest packages into the lock files'
	@echo 'make clean      take away what was set up'

setup:
	@$(SETUP) run

run: setup
	@$(BIN)/bursar demo

demo-node:
	@$(SETUP) node
	@$(BIN)/bursar demo --node

check:
	@$(SETUP) test
	@$(MAKE) --no-print-directory checks
	@$(BIN)/pytest -q tests/test_tidy.py

.PHONY: checks
checks:
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python tests/test_tidy.py

test:
	@$(SETUP) test
	@$(MAKE) --no-print-directory checks
	@$(BIN)/pytest -q -n 2 --dist worksteal

test-real:
	@$(SETUP) real
	@$(BIN)/pytest -q -m real -n 2 --dist worksteal

soak:
	@$(SETUP) real
	@$(BIN)/bursar simulate --seeds 100000
	@$(BIN)/pytest -q -m soak -n 2 --dist worksteal
	@BURSAR_KILLS=200 $(BIN)/pytest -q -m real -k sigkill

bench:
	@$(SETUP) real
	@$(BIN)/python -m bench

COMPILE = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command 'make lock'
lock:
	@$(SETUP) test
	@$(COMPILE) tools/setup.in -o requirements-setup.lock
	@$(COMPILE) pyproject.toml --extra server --extra postgres --extra bitcoin --extra lightning -o requirements.lock
	@$(COMPILE) pyproject.toml --all-extras -c requirements.lock -o requirements-test.lock
	@$(COMPILE) tools/lnbits.in -o requirements-lnbits.lock
	@cd tools/node && npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved --no-audit --no-fund

clean:
	@rm -rf .venv .cache tools/node/node_modules

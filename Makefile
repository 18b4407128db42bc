# One runner that is there everywhere. `make` lists what it can do.
#
# Everything lives in .venv next to this file: an active environment of the caller, and what is
# installed in it, is neither used nor touched. A stamp in .venv makes the second run instant.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.ONESHELL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

UV_VERSION := 0.13.9
ROOT := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
VENV := $(ROOT)/.venv
BIN := $(VENV)/bin
JOBS ?= 2
# What `make run` starts; any file with a Stepflow in it will do.
APP ?= examples/app.py
DATA ?= stepflow-data
PORT ?= 8000
SERVE_ARGS ?=

unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME CONDA_PREFIX PYTHONSTARTUP
export UV_PROJECT_ENVIRONMENT := $(VENV)
# Certificates that the machine trusts, a company's own among them.
export UV_SYSTEM_CERTS ?= true
CALLER_PATH := $(PATH)
export PATH := $(BIN):$(PATH)

UV := cd $(ROOT) && $(BIN)/uv --quiet --no-progress
# On a machine that several share, RUNNER="nice -n 10" keeps it kind.
RUNNER ?=

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(ROOT)/Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 16

# ------------------------------------------------------------------------------- environment

$(VENV)/.uv-$(UV_VERSION):
	@cd $(ROOT) && python="$$(bash tools/find_python.sh)"
	echo "creating .venv with $$python"
	[ -x $(BIN)/python ] || "$$python" -m venv $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check install --quiet uv==$(UV_VERSION)
	touch $@

$(VENV)/.run: $(VENV)/.uv-$(UV_VERSION) $(ROOT)/pyproject.toml $(ROOT)/uv.lock
	@$(UV) sync --frozen --all-extras --no-default-groups --inexact
	touch $@

$(VENV)/.dev: $(VENV)/.uv-$(UV_VERSION) $(ROOT)/pyproject.toml $(ROOT)/uv.lock
	@$(UV) sync --frozen --all-extras --inexact
	touch $@ $(VENV)/.run

.PHONY: env
env: $(VENV)/.dev ## make .venv with everything that development needs

.PHONY: system-deps
system-deps: ## Chromium, a font, Node and strace for the tests, where apt-get can install them
	@bash $(ROOT)/tools/system_deps.sh

NODE_LOCK := $(wildcard $(ROOT)/tests/browser/package-lock.json)
NODE_STAMP := $(if $(NODE_LOCK),$(ROOT)/tests/browser/node_modules/.stamp)

$(ROOT)/tests/browser/node_modules/.stamp: $(NODE_LOCK)
	@cd $(ROOT)/tests/browser
	if command -v npm >/dev/null; then npm ci --silent --no-audit --no-fund && touch $@; \
	else echo "no npm: browser tests will be skipped"; fi

.PHONY: node-deps
node-deps: $(NODE_STAMP) ## the browser tests' npm packages, as locked

# ------------------------------------------------------------------------------- use

.PHONY: run
run: $(VENV)/.run ## start the server on examples/; APP=, DATA=, PORT=, SERVE_ARGS= change it
	@cd $(ROOT) && export PATH="$(CALLER_PATH)" && exec $(BIN)/stepflow serve $(APP) --data $(DATA) --port $(PORT) $(SERVE_ARGS)

# ------------------------------------------------------------------------------- check

.PHONY: check
check: lint types rooms fresh ## lint, types, rooms, generated files: all that needs no test

.PHONY: lint
lint: $(VENV)/.dev
	@cd $(ROOT) && $(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check . \
		&& $(BIN)/shellcheck tools/*.sh .ci/run && echo "ruff, shellcheck: ok"

.PHONY: types
types: $(VENV)/.dev
	@cd $(ROOT) && $(RUNNER) $(BIN)/mypy && $(RUNNER) $(BIN)/pyright

.PHONY: rooms
rooms: $(VENV)/.dev
	@cd $(ROOT) && $(BIN)/lint-imports --no-cache

# What is generated and committed must be what would be generated now.
.PHONY: fresh
fresh: $(VENV)/.dev
	@cd $(ROOT) && $(BIN)/python tools/make_docs.py --check
	new=$$(mktemp); trap 'rm -f "$$new"' EXIT
	$(BIN)/python -m stepflow.web.openapi "$$new"
	for file in openapi.yaml stepflow/web/openapi.yaml; do
		diff -u "$$file" "$$new" || { echo "$$file is stale: run make openapi"; exit 1; }
	done
	$(BIN)/openapi-spec-validator openapi.yaml
	echo "docs, openapi.yaml: fresh"

.PHONY: format
format: $(VENV)/.dev ## let ruff mend and format what it can
	@cd $(ROOT) && $(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

# ------------------------------------------------------------------------------- test

TESTS ?= tests
PYTEST_ARGS ?=

.PHONY: test
test: $(VENV)/.dev $(NODE_STAMP) ## every test; TESTS= and PYTEST_ARGS= narrow it
	@cd $(ROOT) && $(RUNNER) $(BIN)/pytest -n $(JOBS) --dist loadgroup -q -m "not torture" \
		$(TESTS) $(PYTEST_ARGS)

.PHONY: torture
torture: $(VENV)/.dev ## the long programme of faults
	@cd $(ROOT) && $(BIN)/pytest -q -m torture --timeout 3600 $(TESTS) $(PYTEST_ARGS)

.PHONY: bench
bench: $(VENV)/.dev ## measure, with a bare loop beside it
	@cd $(ROOT) && $(BIN)/python -m benchmarks

.PHONY: bench-quick
bench-quick: $(VENV)/.dev ## the same in a minute: shows that they work, measures nothing
	@cd $(ROOT) && $(BIN)/python -m benchmarks --quick

.PHONY: coverage
coverage: $(VENV)/.dev ## which lines no test reaches
	@cd $(ROOT) && $(BIN)/coverage erase && $(BIN)/coverage run -m pytest -q -m "not torture" $(TESTS) \
		&& $(BIN)/coverage combine --quiet && $(BIN)/coverage report --skip-covered

# ------------------------------------------------------------------------------- generated files

.PHONY: openapi
openapi: $(VENV)/.dev ## write openapi.yaml from the routes
	@cd $(ROOT) && $(BIN)/python -m stepflow.web.openapi openapi.yaml stepflow/web/openapi.yaml

.PHONY: docs
docs: $(VENV)/.dev ## write docs/configuration.md from the settings
	@cd $(ROOT) && $(BIN)/python tools/make_docs.py

.PHONY: clean
clean: ## remove what these targets made, but no data
	@cd $(ROOT) && rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* dist \
		tests/browser/node_modules
	find . -name __pycache__ -prune -exec rm -rf {} +

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
# Relative names, so that a directory with a space in its name is one like any other.
ifeq (,$(wildcard tools/find_python.sh))
$(error Say where: make -C DIRECTORY TARGET)
endif
VENV := .venv
BIN := .venv/bin
JOBS ?= 2
# What `make run` starts; any file with a Stepflow in it will do.
APP ?= examples/app.py
DATA ?= stepflow-data
PORT ?= 8000
SERVE_ARGS ?=

unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME CONDA_PREFIX PYTHONSTARTUP
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv
# Certificates that the machine trusts, a company's own among them.
export UV_SYSTEM_CERTS ?= true
CALLER_PATH := $(PATH)
export PATH := $(CURDIR)/$(BIN):$(PATH)

UV := $(BIN)/uv --quiet --no-progress
# On a machine that several share, RUNNER="nice -n 10" keeps it kind.
RUNNER ?=

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 16

# ------------------------------------------------------------------------------- environment

$(VENV)/.uv-$(UV_VERSION):
	@python="$$(bash tools/find_python.sh)"
	echo "creating .venv with $$python"
	[ -x $(BIN)/python ] || "$$python" -m venv $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check install --quiet uv==$(UV_VERSION)
	touch $@

$(VENV)/.run: $(VENV)/.uv-$(UV_VERSION) pyproject.toml uv.lock
	@$(UV) sync --frozen --all-extras --no-default-groups --inexact
	touch $@

$(VENV)/.dev: $(VENV)/.uv-$(UV_VERSION) pyproject.toml uv.lock
	@$(UV) sync --frozen --all-extras --inexact
	touch $@ $(VENV)/.run

.PHONY: env
env: $(VENV)/.dev ## make .venv with everything that development needs

.PHONY: system-deps
system-deps: ## Chromium, a font, Node, nginx, PostgreSQL and strace for the tests, where apt-get can install them
	@bash tools/system_deps.sh

NODE_LOCKS := $(wildcard tests/browser/package-lock.json clients/js/package-lock.json)
NODE_STAMP := $(NODE_LOCKS:package-lock.json=node_modules/.stamp)

%/node_modules/.stamp: %/package-lock.json
	@if command -v npm >/dev/null; then \
		for try in 1 2 3; do \
			npm ci --prefix $* --loglevel error --no-audit --no-fund >/dev/null \
				&& touch $@ && exit 0; \
			echo "npm ci did not succeed (try $$try of 3)"; sleep $$((5 * try)); \
		done; exit 1; \
	else echo "no npm: tests of browsers and of clients/js will be skipped"; fi

.PHONY: node-deps
node-deps: $(NODE_STAMP) ## npm packages of the browser tests and of clients/js, as locked

.PHONY: vendor
vendor: ## put the dashboard's libraries where they belong, as their manifest asks
	@$(BIN)/python tools/vendor_ui.py

# ------------------------------------------------------------------------------- use

.PHONY: run
run: $(VENV)/.run ## start the server on examples/; APP=, DATA=, PORT=, SERVE_ARGS= change it
	@export PATH="$(CALLER_PATH)" && exec $(BIN)/stepflow serve $(APP) --data $(DATA) --port $(PORT) $(SERVE_ARGS)

.PHONY: run-cluster
run-cluster: $(VENV)/.run ## a database, 2 workers, 2 API nodes, a balancer, on this machine; APP=, PORT= change it
	@exec $(BIN)/python -m tools.run_cluster $(APP) --port $(PORT) $(ARGS)

# ------------------------------------------------------------------------------- check

.PHONY: check
check: lint lint-js types rooms fresh ## lint, types, rooms, generated files: all that needs no test

.PHONY: lint
lint: $(VENV)/.dev
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check . \
		&& $(BIN)/shellcheck tools/*.sh .ci/run && echo "ruff, shellcheck: ok"

# Biome is one of the packages of clients/js. CI must have it; elsewhere its absence is said.
.PHONY: lint-js
lint-js: clients/js/node_modules/.stamp
	@if [ -x clients/js/node_modules/.bin/biome ]; then
		cd clients/js && node_modules/.bin/biome check --error-on-warnings --log-level=warn . && echo "biome: ok"
	elif [ -n "$${CI:-}" ]; then echo "no biome in CI: make node-deps"; exit 1
	else echo "no npm: clients/js is not linted"; fi

.PHONY: types
types: $(VENV)/.dev
	@$(RUNNER) $(BIN)/mypy && $(RUNNER) $(BIN)/pyright

.PHONY: rooms
rooms: $(VENV)/.dev
	@$(BIN)/lint-imports --no-cache

# What is generated and committed must be what would be generated now.
.PHONY: fresh
fresh: $(VENV)/.dev
	@$(BIN)/python tools/make_docs.py --check
	new=$$(mktemp); trap 'rm -f "$$new"' EXIT
	$(BIN)/python -m stepflow.web.openapi "$$new"
	for file in openapi.yaml stepflow/web/openapi.yaml; do
		diff -u "$$file" "$$new" || { echo "$$file is stale: run make openapi"; exit 1; }
	done
	grep -q "$$(sha256sum openapi.yaml | cut -d' ' -f1)" clients/js/src/openapi.ts \
		|| { echo "clients/js/src/openapi.ts is stale: run make openapi"; exit 1; }
	$(BIN)/openapi-spec-validator openapi.yaml
	echo "docs, openapi.yaml: fresh"

.PHONY: format
format: $(VENV)/.dev ## let ruff, and biome in clients/js, mend and format what they can
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .
	if [ -x clients/js/node_modules/.bin/biome ]; then cd clients/js && node_modules/.bin/biome check --write .; fi

# ------------------------------------------------------------------------------- test

TESTS ?= tests
PYTEST_ARGS ?=
SECONDS ?= 600
SEED ?=
SEEDS ?=
PARTS ?=
# xdist 3.8 waits for ever when a worker has died under loadgroup and a new one takes its place
# (pytest-xdist#1323, #1327): the run ends, naming the test that the worker died in.
XDIST = -n $(JOBS) --dist loadgroup --max-worker-restart 0

.PHONY: test
test: $(VENV)/.dev $(NODE_STAMP) ## every test; TESTS= and PYTEST_ARGS= narrow it
	@$(RUNNER) $(BIN)/pytest $(XDIST) -q -m "not torture" $(TESTS) $(PYTEST_ARGS)

.PHONY: test-js
test-js: $(VENV)/.dev $(NODE_STAMP) ## the npm package alone: types, Node's test runner, its adapters
	@$(RUNNER) $(BIN)/pytest -n 0 -q tests/clients/test_js_client.py $(PYTEST_ARGS)

.PHONY: torture
torture: $(VENV)/.dev ## the long programme of faults; SECONDS= SEED= SEEDS= JOBS= PARTS= (docs/faults.md)
	@exec $(BIN)/python -m tests.torture --seconds $(SECONDS) --jobs $(JOBS) \
		$(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(PARTS),--parts $(PARTS))

.PHONY: newcomer
newcomer: $(VENV)/.dev ## wheel, clean environment, first completed run: each command timed, each package weighed
	@$(BIN)/python tools/newcomer.py $(ARGS)

.PHONY: restart-load
restart-load: $(VENV)/.dev ## restarts under 1,000 streams and 200 triggers a second: none lost, longest gap
	@$(BIN)/python -m tests.restarts $(ARGS)

.PHONY: hosts-deps
hosts-deps: tests/hosts/js/node_modules/.stamp ## Next.js, Deno and Bun, as locked, for `make hosts`: half a gigabyte

.PHONY: hosts
hosts: $(VENV)/.dev $(NODE_STAMP) hosts-deps ## every host on every server, each check: a table, written to docs/hosts.md
	@$(BIN)/python -m tests.hosts --write

STREAMS ?= 10000

.PHONY: test-streams
test-streams: $(VENV)/.dev ## ten thousand open streams and a thousand that never read; STREAMS=
	@STEPFLOW_PLENTY_STREAMS=$(STREAMS) $(BIN)/python -m pytest -q -n 0 tests/plenty/test_streams.py

RUNS ?= 100000
EVENTS ?= 500
MINUTES ?= 10

.PHONY: dashboard-soak
dashboard-soak: $(VENV)/.dev $(NODE_STAMP) ## a tab left open on the list of runs: long tasks, memory; RUNS= EVENTS= MINUTES=
	@$(BIN)/python -m tests.browser.dashboard_soak --runs $(RUNS) --events $(EVENTS) --minutes $(MINUTES)

.PHONY: conformance
conformance: $(VENV)/.dev ## every claim on every engine, each process killed; writes the table of docs/conformance.md
	@$(BIN)/python -m tests.conformance $(PYTEST_ARGS)

.PHONY: cluster-losses
cluster-losses: $(VENV)/.dev ## 1,000 runs over 4 workers; worker, API node and database killed in turn: none lost
	@$(BIN)/python -m tests.losses $(ARGS)

NAMES ?=

.PHONY: bench
bench: $(VENV)/.dev ## measure, each figure beside its yardstick; NAMES= chooses (docs/benchmarks.md)
	@$(BIN)/python -m benchmarks --keep $(NAMES)

.PHONY: bench-long
bench-long: $(VENV)/.dev ## the long ones: tails, curves, histories, other engines
	@$(BIN)/python -m benchmarks --keep --long

.PHONY: bench-all
bench-all: $(VENV)/.plots build/peers/.stamp build/sse/.stamp ## every figure but the soak, written after each script
	@status=0
	$(BIN)/python -m benchmarks --keep --all || status=$$?
	$(BIN)/python -m benchmarks.plots || status=$$?
	exit $$status

.PHONY: bench-quick
bench-quick: $(VENV)/.dev ## the same in two minutes, beside the committed ratios: a report
	@$(BIN)/python -m benchmarks --quick $(NAMES)

$(VENV)/.plots: $(VENV)/.dev
	@$(UV) sync --frozen --all-extras --group plots --inexact
	touch $@

.PHONY: plots-env
plots-env: $(VENV)/.plots ## what draws the plots, beside the rest of .venv

.PHONY: plots
plots: $(VENV)/.plots ## draw docs/images/bench-*.svg from benchmarks/results.json, and its tables
	@$(BIN)/python -m benchmarks.plots

.PHONY: bench-docs
bench-docs: $(VENV)/.dev ## write the tables of README and docs from benchmarks/results.json
	@$(BIN)/python -m benchmarks.table

.PHONY: soak
soak: $(VENV)/.plots ## half the peak for an hour
	@$(BIN)/python -m benchmarks.soak --json build/bench/soak.json >/dev/null
	$(BIN)/python -m benchmarks.results soak build/bench/soak.json
	$(BIN)/python -m benchmarks.plots

PEERS := build/peers

$(PEERS)/.stamp: benchmarks/peers/requirements.txt $(VENV)/.dev
	@bash tools/system_deps.sh peers
	mkdir -p $(PEERS)
	[ -x $(PEERS)/venv/bin/python ] || $(UV) venv --python $(BIN)/python $(PEERS)/venv
	$(UV) pip install --python $(PEERS)/venv/bin/python -r benchmarks/peers/requirements.txt
	npm install --silent --no-audit --no-fund --prefix $(PEERS)/npm \
		@restatedev/restate-server@1.7.12 || echo "no Restate: it will be left out, and named"
	touch $@

build/sse/.stamp: benchmarks/peers/requirements-sse.txt $(VENV)/.dev
	@mkdir -p build/sse
	[ -x build/sse/venv/bin/python ] || $(UV) venv --python $(BIN)/python build/sse/venv
	$(UV) pip install --python build/sse/venv/bin/python -r benchmarks/peers/requirements-sse.txt
	touch $@

.PHONY: sse-env
sse-env: build/sse/.stamp ## sse-starlette, to be measured beside ours by fan_out, in build/sse

.PHONY: peers-env
peers-env: $(PEERS)/.stamp ## other engines, to be measured beside ours, in build/peers

.PHONY: peers
peers: $(PEERS)/.stamp ## the same workflow on ours and on theirs, in turn (needs PostgreSQL)
	@$(BIN)/python -m benchmarks --keep peers

.PHONY: pictures
pictures: $(VENV)/.plots $(NODE_STAMP) ## make docs/images anew from real runs; NAMES="terminal page dashboard" chooses
	@$(BIN)/python tools/make_pictures.py $(NAMES)

# The rooms that durability and access rest on must be reached whole; the rest is told.
.PHONY: coverage
coverage: $(VENV)/.dev $(NODE_STAMP) ## every test, measured; fails below 100 % where it must be
	@mkdir -p build/coverage && $(BIN)/coverage erase
	status=0
	$(RUNNER) $(BIN)/coverage run -m pytest $(XDIST) -q -m "not torture" $(TESTS) $(PYTEST_ARGS) \
		|| status=$$?
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage json --quiet -o build/coverage.json
	$(BIN)/coverage report
	$(BIN)/python -m tools.check_coverage build/coverage.json || status=$$?
	exit $$status

# ------------------------------------------------------------------------------- generated files

.PHONY: openapi
openapi: $(VENV)/.dev clients/js/node_modules/.stamp ## write openapi.yaml from the routes, and the client's types from it
	@$(BIN)/python -m stepflow.web.openapi openapi.yaml stepflow/web/openapi.yaml
	if command -v npm >/dev/null; then node clients/js/tools/generate.mjs
	else echo "no npm: clients/js/src/openapi.ts is stale now"; fi

.PHONY: docs
docs: $(VENV)/.dev ## write docs/configuration.md from the settings
	@$(BIN)/python tools/make_docs.py

# What an installation with every extra brings along, as locked; development tools are not in it.
.PHONY: sbom
sbom: $(VENV)/.dev ## write build/sbom.json: CycloneDX, each package with its address and hashes
	@mkdir -p build
	$(UV) export --frozen --all-extras --no-default-groups --no-emit-project \
		--format cyclonedx1.5 --preview-features sbom-export --output-file build/sbom.json >/dev/null
	echo "build/sbom.json: $$(grep -c '"purl"' build/sbom.json) packages"

.PHONY: clean
clean: ## remove what these targets made, but no data
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* build dist \
		tests/browser/node_modules tests/hosts/js/node_modules tests/hosts/js/build \
		clients/js/node_modules clients/js/dist clients/js/build
	find . -name __pycache__ -prune -exec rm -rf {} +

# What a person types. `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-python build demo test test-e2e test-real lint tidy deny bench-batch bench-speed bench-stack mutants chaos chaos-batch chaos-stack sim days fuzz fuzz-http stack-up stack-down stack-logs stack-check demo-stack build-image clean

# Folder of the TLC's CSV files for the demo; empty: synthetic trips.
TRIPS ?=
# Synthetic records in the demo.
ROWS ?= 2100000
# Seconds for which trips stream in, in the demo; 0: the batch layer alone.
SHOW ?= 20
# Kills: of the running process in chaos (200 unless set), a command and store in chaos-batch (100).
KILLS ?=
# Answers that chaos audits at least.
ANSWERS ?= 20000
# Faults of chaos-stack; `once`: each kind once.
FAULTS ?= 300
# Records of bench-stack's throughput.
RECORDS ?= 1000000
# Seed of a chaos run; empty: a new one, which it prints. Of sim: only this one, with every call.
SEED ?=
# Seeds that sim runs.
SEEDS ?= 1000
# Anything but empty: sim is built optimized, which pays from some ten thousand seeds on.
OPTIMIZED ?=
# Minutes a fuzz target, and of fuzz-http (10 unless set); minutes that chaos and chaos-stack go on for at least.
MINUTES ?=
# Further arguments of cargo, e.g. CARGO_FLAGS=--offline.
CARGO_FLAGS ?=
# no: stack-check builds neither Compose nor helm.
BUILD_TOOLS ?= yes
TARGET := $(or $(CARGO_TARGET_DIR),target)
# One of our own crates optimized, without assertions that are for development; overflow is checked all the same.
fast = --config profile.dev.package.$(1).opt-level=3 --config profile.dev.package.$(1).debug-assertions=false --config profile.dev.package.$(1).overflow-checks=true
# The dependencies of every other build, and our own crates optimized.
FAST = $(foreach crate,tidemark $(addprefix tidemark-,shared stores batch speed kafka opensearch serving),$(call fast,$(crate)))
# The simulation beside them.
FAST_SIM = $(FAST) $(call fast,tidemark-sim)
# One build for all benchmarks.
BENCH_BUILD = cargo build --workspace --bins --example index_speed $(CARGO_FLAGS) $(FAST)
# What stack-logs shows: all, or names such as `kafka tidemark-serving`.
NAMES ?=
# Anything but empty: stack-down also removes the stack's data.
REMOVE ?=

help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the system packages that the build lacks (a C compiler), if any
	@infra/setup.sh

setup-python: ## Also make .venv with the Python packages that checks use
	@infra/setup.sh python

build: setup ## Build everything (the first time: about 20 minutes on 2 cores)
	cargo build --workspace --bins $(CARGO_FLAGS)

demo: build ## Two years of taxi trips from CSV to Parquet to SQL, then more as a stream; TRIPS=DIR takes the TLC's own files
	@$(TARGET)/debug/demo --rows $(ROWS) --seconds $(SHOW) $(if $(TRIPS),--trips "$(TRIPS)")

test: setup-python build ## All tests that need no server
	cargo test --workspace $(CARGO_FLAGS)

test-e2e: setup-python build ## Only the end-to-end tests
	cargo test --workspace --test e2e $(CARGO_FLAGS)

test-real: setup-python build ## Contract suites and the invariants' tests on S3, PostgreSQL, Kafka and OpenSearch, with servers that it starts and stops
	infra/servers/test-real.sh

lint: setup tidy ## Format, clippy, dependency rule, licences, tidiness
	cargo fmt --all --check
	infra/checks/clippy.sh $(CARGO_FLAGS)
	python3 infra/checks/dependencies.py
	python3 e2e/mutants/run.py --check

tidy: ## Rules on files that no compiler knows
	@python3 infra/checks/tidy.py

deny: ## The same deny.toml by cargo-deny, where it is installed
	cargo deny check bans licenses sources

bench-batch: setup-python ## CSV to Parquet and four queries on 9 M rows (real, else synthetic), against DuckDB in the same run
	@python3 e2e/bench/trips.py batch
	$(BENCH_BUILD)
	.venv/bin/python e2e/bench/batch.py --tidemark $(TARGET)/debug/tidemark

bench-speed: setup ## Produce to visible, freshness, merged against batch, memory; the questions need bench-batch's trips
	@python3 e2e/bench/trips.py speed
	$(BENCH_BUILD)
	python3 e2e/bench/speed.py --tidemark $(TARGET)/debug/tidemark --index-speed $(TARGET)/debug/examples/index_speed

bench-stack: setup-python ## The same on Kafka, OpenSearch, S3 and PostgreSQL, beside what Kafka and OpenSearch do by themselves
	$(BENCH_BUILD)
	.venv/bin/python e2e/bench/stack.py --tidemark $(TARGET)/debug/tidemark --records $(RECORDS)

mutants: setup ## Break every invariant of the hand-off on purpose and see that a test notices
	python3 e2e/mutants/run.py --target $(TARGET) $(if $(CARGO_FLAGS),--cargo-flags="$(CARGO_FLAGS)")

chaos: build ## Kill the running process KILLS times under records, batch runs, recomputes and questions; audit all answers
	python3 e2e/chaos/stream.py --tidemark $(TARGET)/debug/tidemark --kills $(or $(KILLS),200) --answers $(ANSWERS) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

chaos-batch: build ## Kill ingest and recompute KILLS times each, on a local directory and S3; compare with undisturbed runs
	infra/checks/chaos.sh --kills $(or $(KILLS),100) $(if $(SEED),--seed $(SEED))

chaos-stack: setup-python build ## Break Kafka, OpenSearch, S3, PostgreSQL and our processes FAULTS times under load; audit all answers
	.venv/bin/python e2e/chaos/stack.py --tidemark $(TARGET)/debug/tidemark $(if $(filter once,$(FAULTS)),--once,--faults $(FAULTS)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

sim: setup ## Simulate the whole platform on one thread in SEEDS orders of calls and faults; SEED=n shows one
	cargo build --workspace --bins $(CARGO_FLAGS) $(if $(OPTIMIZED),$(FAST_SIM))
	@$(TARGET)/debug/sim $(if $(SEED),--seed $(SEED) --verbose,--seeds $(SEEDS))

days: build ## Work through HOURS of a steady stream at a simulated clock, and count objects each hour; OPENSEARCH=URL has the views
	@$(TARGET)/debug/days --hours $(or $(HOURS),72) $(if $(OPENSEARCH),--opensearch $(OPENSEARCH))

fuzz: setup ## Run every fuzz target for MINUTES (needs a C++ compiler)
	CARGO_FLAGS="$(CARGO_FLAGS)" shared/fuzz/run.sh $$(($(or $(MINUTES),10) * 60))

fuzz-http: setup-python build ## Attack the HTTP door for MINUTES with requests made of its own OpenAPI document
	.venv/bin/python e2e/http/fuzz.py --minutes $(or $(MINUTES),10) --tidemark $(TARGET)/debug/tidemark $(if $(SEED),--seed $(SEED))

stack-up: ## Start the full stack: Compose where a Docker engine answers (which builds the image), else plain processes
	@$(if $(TIDEMARK_BIN),,docker info >/dev/null 2>&1 || $(MAKE) --no-print-directory build)
	@infra/stack/stack.sh up

stack-down: ## Stop the full stack; REMOVE=yes also removes its data
	@infra/stack/stack.sh down $(if $(REMOVE),--remove)

stack-logs: ## Follow the full stack's logs; NAMES="kafka tidemark-serving" for some, FOLLOW=no to see their ends
	@infra/stack/stack.sh logs $(NAMES)

stack-check: setup-python ## Rules on Compose, Dockerfile, dashboards and chart; says what it could not check here
	@BUILD_TOOLS=$(BUILD_TOOLS) infra/stack/check.sh

demo-stack: build ## The demo on a full stack of its own; TRIPS=DIR takes the TLC's own files
	@infra/stack/demo.sh --rows $(ROWS) --seconds $(SHOW) $(if $(TRIPS),--trips "$(TRIPS)")

build-image: # The binary of the image: infra/stack/Dockerfile runs this
	cargo build --workspace --bins --locked $(CARGO_FLAGS) $(FAST)

clean: ## Remove what was built and the demo's data
	cargo clean
	rm -rf demo-data .venv

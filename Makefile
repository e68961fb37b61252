# What a person types. `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-python build demo test test-e2e test-real lint tidy deny bench-batch chaos-batch fuzz fuzz-http clean

# Folder of the TLC's CSV files for the demo; empty: synthetic trips.
TRIPS ?=
# Synthetic records in the demo.
ROWS ?= 2100000
# Kills a command and store in chaos-batch.
KILLS ?= 100
# Seed of chaos-batch; empty: a new one, which it prints.
SEED ?=
# Minutes a fuzz target, and of fuzz-http.
MINUTES ?= 10
# Further arguments of cargo, e.g. CARGO_FLAGS=--offline.
CARGO_FLAGS ?=
TARGET := $(or $(CARGO_TARGET_DIR),target)

help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the system packages that the build lacks (a C compiler), if any
	@infra/setup.sh

setup-python: ## Also make .venv with the Python packages that checks use
	@infra/setup.sh python

build: setup ## Build everything (the first time: about 20 minutes on 2 cores)
	cargo build --workspace --bins $(CARGO_FLAGS)

demo: build ## Two years of taxi trips from CSV to Parquet to SQL; TRIPS=DIR takes the TLC's own files
	@$(TARGET)/debug/demo --rows $(ROWS) $(if $(TRIPS),--trips "$(TRIPS)")

test: setup-python build ## All tests that need no server
	cargo test --workspace $(CARGO_FLAGS)

test-e2e: setup-python build ## Only the end-to-end tests
	cargo test --workspace --test e2e $(CARGO_FLAGS)

test-real: setup-python build ## Contract suites on S3 and PostgreSQL, with servers that it starts and stops
	infra/servers/test-real.sh

lint: setup tidy ## Format, clippy, dependency rule, licences, tidiness
	cargo fmt --all --check
	infra/checks/clippy.sh $(CARGO_FLAGS)
	python3 infra/checks/dependencies.py

tidy: ## Rules on files that no compiler knows
	@python3 infra/checks/tidy.py

deny: ## The same deny.toml by cargo-deny, where it is installed
	cargo deny check bans licenses sources

bench-batch: setup-python ## CSV to Parquet and four queries on 9 M rows, against DuckDB in the same run
	cargo build --workspace --bins $(CARGO_FLAGS) $(foreach crate,shared stores batch,--config profile.dev.package.tidemark-$(crate).opt-level=3)
	.venv/bin/python e2e/bench/batch.py --tidemark $(TARGET)/debug/tidemark

chaos-batch: build ## Kill ingest and recompute KILLS times each, on a local directory and S3; compare with undisturbed runs
	infra/checks/chaos.sh --kills $(KILLS) $(if $(SEED),--seed $(SEED))

fuzz: setup ## Run every fuzz target for MINUTES (needs a C++ compiler)
	CARGO_FLAGS="$(CARGO_FLAGS)" shared/fuzz/run.sh $$(($(MINUTES) * 60))

fuzz-http: setup-python build ## Attack the HTTP door for MINUTES with requests made of its own OpenAPI document
	.venv/bin/python e2e/http/fuzz.py --minutes $(MINUTES) --tidemark $(TARGET)/debug/tidemark $(if $(SEED),--seed $(SEED))

clean: ## Remove what was built and the demo's data
	cargo clean
	rm -rf demo-data .venv

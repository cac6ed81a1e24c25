# The words that people and CI use. Whatever a word needs it installs first, by .ci/provision.sh.

SHELL := /bin/bash
.DEFAULT_GOAL := help
provision := .ci/provision.sh
path = $(shell $(provision) path $(1))
# Where cargo puts what it builds.
target := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)

# What the tests need of the packages; none of it is in a release.
test_features := --features usher-control/crash-points

.PHONY: help run apps cluster test soak bench lint fmt

help: ## Says what the words do.
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+): .*## (.*)/  make \1\t\2/' | expand -t 16

run: ## Builds Usher and starts it on config/quickstart.toml.
	@$(provision) build
	cargo build --release --locked --package usher-proxy
	@[ -x $(call path,apps)/jupyter ] || echo "JupyterLab and Streamlit are not installed here; \`make apps\` gets them for the templates of the quickstart."
	@PATH="$(call path,apps):$$PATH" exec $(target)/release/usher serve --config config/quickstart.toml

apps: ## Installs JupyterLab and Streamlit for the quickstart, outside this folder.
	@$(provision) apps
	@echo "installed in $(call path,apps)"

cluster: ## Starts a Kubernetes of its own for trying things out, until Ctrl-C; as root.
	@$(provision) cluster images
	@tests/cluster/cluster.sh up

test: lint ## Runs everything: lints, Rust tests, real browsers; prints the totals.
	@$(provision) build apps node provider browser network cluster images pebble tlsscan dns
	cargo build --locked --workspace --bins $(test_features)
	@PATH="$(call path,node):$$PATH" APPS="$(call path,apps)" NODE_MODULES="$(call path,modules)" PROVIDER="$(call path,provider)" \
	  PEBBLE="$(call path,pebble)" TLSSCAN="$(call path,tlsscan)" \
	  USHER_BIN="$(abspath $(target))/debug/usher" TEST_FEATURES="$(test_features)" .ci/test.sh

# With overflow checks and assertions, as `make test` builds; PROFILE=release proves what is shipped.
soak: PROFILE := dev
soak: ## Runs the long proofs: what takes minutes, or much of the machine.
	@$(provision) build network cluster images pebble dns
	cargo build --locked --workspace --bins --profile $(PROFILE) $(test_features)
	cargo build --release --locked --package usher-proxy
	@PEBBLE="$(call path,pebble)" USHER_RELEASE="$(abspath $(target))/release/usher" \
	  PROFILE="$(PROFILE)" TEST_FEATURES="$(test_features)" .ci/soak.sh

bench: ## Measures, on this machine: the time to the first byte, and Usher beside its peers.
	@$(provision) build bench
	cargo build --release --locked --package usher-proxy
	@PATH="$(call path,bench):$$PATH" benches/all.sh

lint: ## Checks format, lints, dependencies.
	@$(provision) build lint
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets $(test_features) -- -D warnings
	cargo fmt --manifest-path benches/Cargo.toml --all --check
	cargo clippy --locked --manifest-path benches/Cargo.toml --target-dir target --workspace --all-targets -- -D warnings
	@PATH="$(call path,lint):$$PATH" .ci/deny.sh

fmt: ## Formats the Rust code.
	cargo fmt --all
	cargo fmt --manifest-path benches/Cargo.toml --all

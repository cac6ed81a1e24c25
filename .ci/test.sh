#!/usr/bin/env bash
# Runs every suite to its end, then prints one line with the totals; fails when anything failed.
#
# Environment: USHER_BIN (the binary that the tests drive), NODE_MODULES (with playwright-core),
# PROVIDER (the folder of a Python with the second identity provider), PEBBLE (the folder of a certificate authority),
# TLSSCAN (the folder with sslyze),
# APPS (the folder with jupyter and streamlit), TEST_FEATURES (for cargo), SCREENSHOTS (a folder for them; none = a temporary one),
# USHER_SEED (see suites.sh).
cd "$(dirname "$0")/.."
. .ci/suites.sh
DNS_PROGRAMS=$(.ci/provision.sh path dns)
export DNS_PROGRAMS
trap 'kill "${cluster:-}" 2>/dev/null; wait; rm -rf "$log"' EXIT

# Starts the cluster that all suites share. It ends with this script, however that ends.
start_cluster() {
  setpriv --pdeathsig TERM tests/cluster/cluster.sh up >"$log/cluster" 2>&1 &
  cluster=$!
  until USHER_TEST_CLUSTER=$(awk '/^cluster .* ready/ { print $2; found = 1 } END { exit !found }' "$log/cluster"); do
    if ! kill -0 "$cluster" 2>/dev/null; then
      cat "$log/cluster"
      echo "there is no cluster: its tests will say so"
      return
    fi
    sleep 0.1
  done
  head -n 1 "$log/cluster"
  export USHER_TEST_CLUSTER
}

# Before the cluster, which would only wait for it.
cargo test --locked --workspace ${TEST_FEATURES:-} --no-run
start_cluster
suite rust cargo test --locked --workspace ${TEST_FEATURES:-} --no-fail-fast
# Of the long proofs that `make soak` runs whole, `rust` has a sample; these need the rights to cut a cable, and to have
# port 53 for themselves.
if [ "$(id -u)" = 0 ]; then
  suite abandoned cargo test --locked --workspace ${TEST_FEATURES:-} --test abandoned -- --ignored some_hundred
  suite propagation cargo test --locked --workspace ${TEST_FEATURES:-} --test certificates -- --ignored propagation::
else
  printf '\n== abandoned, propagation: LEFT OUT, only root may make a network namespace\n'
fi
suite browser node --test --test-concurrency=2 --test-reporter=spec tests/browser/*.test.mjs
totals

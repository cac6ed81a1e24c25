#!/usr/bin/env bash
# Runs every suite to its end, then prints one line with the totals; fails when anything failed.
#
# Environment: USHER_BIN (the binary that the browser tests drive), NODE_MODULES (with playwright-core),
# APPS (the folder with jupyter and streamlit), TEST_FEATURES (for cargo), SCREENSHOTS (a folder for them; none = a temporary one).
set -uo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp -d)
trap 'kill "${cluster:-}" 2>/dev/null; wait; rm -rf "$log"' EXIT
failed_suites=()

# Runs one suite: shows its output, keeps it for the totals, remembers whether it succeeded.
suite() {
  local name=$1
  shift
  printf '\n== %s\n' "$name"
  "$@" 2>&1 | tee "$log/$name"
  [ "${PIPESTATUS[0]}" = 0 ] || failed_suites+=("$name")
}

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
suite browser node --test --test-concurrency=1 --test-reporter=spec tests/browser/*.test.mjs

# cargo: "test result: ok. 5 passed; 0 failed; ..."; node: "ℹ pass 5", "ℹ fail 0".
read -r passed failed < <(awk '
  /^test result:/ { passed += $4; failed += $6 }
  /^[^ ]+ pass [0-9]+$/ { passed += $3 }
  /^[^ ]+ (fail|cancelled) [0-9]+$/ { failed += $3 }
  END { print passed + 0, failed + 0 }' "$log"/*)

# A suite that broke before it counted a failure (it did not compile, it was killed) is a failure, too.
if [ ${#failed_suites[@]} -gt 0 ]; then
  printf '\nfailed: %s\n' "${failed_suites[*]}"
  [ "$failed" -gt 0 ] || failed=${#failed_suites[@]}
fi
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]

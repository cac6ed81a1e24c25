#!/usr/bin/env bash
# Runs every suite to its end, then prints one line with the totals; fails when anything failed.
#
# Environment: USHER_BIN (the binary that the browser tests drive), NODE_MODULES (with playwright-core),
# APPS (the folder with jupyter and streamlit), TEST_FEATURES (for cargo), SCREENSHOTS (a folder for them; none = a temporary one).
set -uo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
failed_suites=()

# Runs one suite: shows its output, keeps it for the totals, remembers whether it succeeded.
suite() {
  local name=$1
  shift
  printf '\n== %s\n' "$name"
  "$@" 2>&1 | tee "$log/$name"
  [ "${PIPESTATUS[0]}" = 0 ] || failed_suites+=("$name")
}

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

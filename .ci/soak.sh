#!/usr/bin/env bash
# Runs the long proofs whole, shows what they measured, then prints one line with the totals; fails when anything failed.
#
# Environment: PROFILE (of cargo), TEST_FEATURES (for cargo), USHER_SEED (see suites.sh).
cd "$(dirname "$0")/.."
. .ci/suites.sh

test=(cargo test --locked --workspace --profile "${PROFILE:-dev}" ${TEST_FEATURES:-} --no-fail-fast)

suite sockets "${test[@]}" --test tunnel --test abandoned -- --ignored --skip some_hundred --show-output --test-threads=1
suite agreement cargo test --locked --package usher-control --profile "${PROFILE:-dev}" --lib -- --ignored --show-output model::
suite rights "${test[@]}" --test rights -- --ignored --test-threads=1
suite rush "${test[@]}" --test rush -- --ignored --show-output
USHER_CRASH_ROUNDS=20 suite crash "${test[@]}" --test crash -- --show-output
totals

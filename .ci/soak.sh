#!/usr/bin/env bash
# Runs the long proofs whole, shows what they measured, then prints one line with the totals; fails when anything failed.
#
# Environment: PROFILE (of cargo), TEST_FEATURES (for cargo), USHER_RELEASE (the binary as it is shipped), USHER_SEED (see
# suites.sh).
cd "$(dirname "$0")/.."
. .ci/suites.sh

test=(cargo test --locked --workspace --profile "${PROFILE:-dev}" ${TEST_FEATURES:-} --no-fail-fast)

suite sockets "${test[@]}" --test tunnel --test abandoned -- --ignored --skip some_hundred --show-output --test-threads=1
suite rights "${test[@]}" --test rights -- --ignored --test-threads=1
# 200,000 schedules: optimised, and with the checks of a debug build all the same.
suite agreement cargo test --locked --package usher-control --profile "${PROFILE:-dev}" \
  --config "profile.${PROFILE:-dev}.package.usher-control.opt-level=2" --lib -- --ignored --show-output model::
# 60 of them on a real cluster; then what else several replicas are promised there.
suite schedules "${test[@]}" --test schedules -- --ignored --show-output
suite addresses cargo test --locked --package usher-proxy --profile "${PROFILE:-dev}" --lib -- --ignored --show-output accept::reuse
suite limits cargo test --locked --package usher-proxy --profile "${PROFILE:-dev}" --lib -- --ignored --show-output limits::
suite replicas "${test[@]}" --test kubernetes -- --ignored --show-output certificates::
suite pods "${test[@]}" --test addresses -- --ignored --show-output
suite identities cargo test --locked --package usher-control --profile "${PROFILE:-dev}" --lib -- --ignored --show-output users::
# A million signatures: their arithmetic optimised, the rest as it is.
arithmetic=()
for crate in p256 primeorder elliptic-curve crypto-bigint; do
  arithmetic+=(--config "profile.${PROFILE:-dev}.package.$crate.opt-level=3")
done
suite tokens cargo test --locked --package usher-proxy --profile "${PROFILE:-dev}" "${arithmetic[@]}" --lib -- --ignored --show-output machines::
suite labels "${test[@]}" --test records -- --ignored --show-output of_two_thousand
suite faults "${test[@]}" --test faults -- --ignored --show-output
suite certificates "${test[@]}" --test certificates -- --ignored --show-output --test-threads=1
suite kills cargo test --locked --package usher-certs --profile "${PROFILE:-dev}" --lib -- --ignored --show-output a_thousand_kills
# Optimised: three Ushers that take most of two cores from the cluster that they ask hear of it late.
USHER_BIN=$USHER_RELEASE suite rush "${test[@]}" --test rush -- --ignored --show-output
USHER_CRASH_ROUNDS=20 suite crash "${test[@]}" --test crash -- --show-output
totals

# Sourced by what runs suites: runs each to its end, then says the totals.
#
# Environment: USHER_SEED (what the tests leave to chance is drawn from it; none = a fresh one).
set -uo pipefail

log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
failed_suites=()

export USHER_SEED=${USHER_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
export PROPTEST_RNG_SEED=$USHER_SEED
echo "seed $USHER_SEED"

# Runs one suite: shows its output, keeps it for the totals, remembers whether it succeeded.
#
# Into a file and not through a pipe: any program that makes that non-blocking breaks off what all the others print.
suite() {
  local name=$1
  shift
  printf '\n== %s\n' "$name"
  : >"$log/$name"
  env --default-signal=INT "$@" >"$log/$name" 2>&1 &
  tail --pid=$! --lines=+1 --follow "$log/$name"
  wait $! || failed_suites+=("$name")
}

# The last line: how many passed and failed. Fails when anything did.
totals() {
  local passed failed
  # cargo: "     Running ..." of each binary, and at its end "test result: ok. 5 passed; 0 failed; ..."; one that breaks
  # off before has failed, and what passed until then counts. node: "ℹ pass 5", "ℹ fail 0".
  read -r passed failed < <(awk '
    function settle() { if (runs) { passed += ok; failed++ } runs = ok = 0 }
    FNR == 1 || /^ +(Running|Doc-tests) / { settle() }
    /^ +(Running|Doc-tests) / { runs = 1 }
    /^test .* \.\.\. ok$/ { ok++ }
    /^test result:/ { passed += $4; failed += $6; runs = ok = 0 }
    /^[^ ]+ pass [0-9]+$/ { passed += $3 }
    /^[^ ]+ (fail|cancelled) [0-9]+$/ { failed += $3 }
    END { settle(); print passed + 0, failed + 0 }' "$log"/*)

  # A suite that broke before it counted a failure (it did not compile, it was killed) is a failure, too.
  if [ ${#failed_suites[@]} -gt 0 ]; then
    printf '\nfailed: %s\n' "${failed_suites[*]}"
    [ "$failed" -gt 0 ] || failed=${#failed_suites[@]}
  fi
  printf '\n%d passed, %d failed (USHER_SEED=%s)\n' "$passed" "$failed" "$USHER_SEED"
  [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}

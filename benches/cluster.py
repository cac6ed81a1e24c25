"""A cluster that runs (`make cluster`), and Usher beside it with pods within its reach. Standard library only."""
import contextlib, http.client, json, os, pathlib, re, signal, ssl, subprocess, sys, tempfile, threading, time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tests/cluster/cluster.sh"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
DOMAIN = "lab.localhost"
THREADS = 16
# What the cluster adds to an object.
ADDED = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


class Cluster:
    """A cluster, by its folder. Whoever makes one goes on within its network, where pods have their addresses."""

    def __init__(self, run):
        self.run = pathlib.Path(run)
        if os.environ.get("USHER_BENCH_INSIDE") != str(self.run):
            os.environ["USHER_BENCH_INSIDE"] = str(self.run)
            network = f"--net=/proc/{(self.run / 'pid').read_text().strip()}/ns/net"
            os.execvp("nsenter", ["nsenter", network, sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]])
        self.kubeconfig = self.run / "admin.kubeconfig"
        text = self.kubeconfig.read_text()
        value = lambda key: re.search(rf'\b{key}: "?([^",}}]+)', text)[1]
        self.server, self.token = value("server").removeprefix("https://"), value("token")
        self.tls = ssl.create_default_context(cafile=value("certificate-authority"))

    def kubectl(self, *arguments):
        command = [self.run / "programs/kubectl", "--kubeconfig", self.kubeconfig, *arguments]
        return subprocess.check_output(command, text=True)

    def script(self, word, *arguments):
        return subprocess.check_output([SCRIPT, word, self.run, *arguments], text=True).strip()

    @contextlib.contextmanager
    def namespaces(self):
        """One for workspaces and one for records, deleted at the end."""
        names = [f"bench-{os.getpid()}", f"bench-records-{os.getpid()}"]
        for name in names:
            self.kubectl("create", "namespace", name)
        try:
            yield names
        finally:
            self.kubectl("delete", "namespace", "--wait=false", *names)

    def connect(self):
        return http.client.HTTPSConnection(self.server, context=self.tls, timeout=60)

    def call(self, connection, method, path, body=None):
        """One request on a connection that is kept; the answer's JSON."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": "Bearer " + self.token, "Content-Type": kind}
        connection.request(method, path, body and json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]}")
        return json.loads(text)

    def template(self, connection, namespace, name):
        """A StatefulSet without what the cluster added to it."""
        made = self.call(connection, "GET", f"/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}")
        made.pop("status")
        for key in ADDED:
            made["metadata"].pop(key, None)
        return made

    def create(self, path, objects):
        """Makes many objects, several at a time."""
        left, failed = iter(objects), []

        def work():
            connection = self.connect()
            try:
                while True:
                    with lock:
                        item = next(left, None)
                    if item is None:
                        return
                    self.call(connection, "POST", path, item)
            except Exception as error:
                failed.append(error)

        lock = threading.Lock()
        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]


class Usher:
    """One that runs on a configuration, until it is killed at the end of a `with`."""

    def __init__(self, usher, file):
        self.begun = time.time()
        command, quiet = [usher, "serve", "--config", file], subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=subprocess.PIPE, text=True)
        self.events, found = [], {}
        for line in self.process.stderr:
            event = self.take(line)
            for key in ("listener.address", "admin.address"):
                if key in event:
                    found[key] = int(event[key].rsplit(":", 1)[1])
            if len(found) == 2:
                break
        else:
            sys.exit("usher did not start")
        self.port, self.admin = found["listener.address"], found["admin.address"]
        # Somebody must read the log, or its pipe fills and usher waits for us.
        threading.Thread(target=lambda: [self.take(line) for line in self.process.stderr], daemon=True).start()

    def take(self, line):
        event = json.loads(line) if line.startswith("{") else {}
        fields = {**event, **event.get("fields", {})}
        self.events.append(fields)
        return fields

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def metrics(self):
        """All samples, by name and labels as they are written."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def metric(self, sample):
        return self.metrics().get(sample, 0)

    def await_metric(self, sample, enough, seconds=120, every=0.05):
        end = time.monotonic() + seconds
        while self.metric(sample) < enough:
            if time.monotonic() > end:
                sys.exit(f"{sample} is {self.metric(sample)} after {seconds} s, not {enough}")
            time.sleep(every)


@contextlib.contextmanager
def configured(cluster, namespaces, rest):
    """A file with the configuration of an Usher before the cluster."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "usher.toml"
        file.write_text(f"""
domain = "{DOMAIN}"
state_dir = "{folder}/state"
driver = "kubernetes"
kubernetes = {{ namespace = "{namespaces[0]}", records_namespace = "{namespaces[1]}", kubeconfig = "{cluster.kubeconfig}" }}
[[listeners]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
socket = "{folder}/admin.sock"
[login]
development = true
{rest}
""")
        yield file


def another(made, name, other):
    """The object of another user's workspace: their name in place of the first's, wherever it stands."""
    return json.loads(re.sub(rf"\b{name}\b", other, json.dumps(made)))


def demo(image, keys=""):
    """The keys of a template: the demo in a pod of the real node."""
    return f"""
image = "{image}"
image_pull_policy = "Never"
command = ["usher", "demo", "--address", "0.0.0.0:{{port}}"]
port = 8888
volume = "none"
stop_grace = "1s"
resources.requests = {{ cpu = "10m", memory = "16Mi" }}
resources.limits = {{ memory = "256Mi" }}
{keys}
"""


def percentile(times, q):
    """Of times in order."""
    return times[min(len(times) - 1, len(times) * q // 100)]


def load():
    """What the machine has to do, ours included: figures are worth little without it."""
    return f"load {os.getloadavg()[0]:.1f}"

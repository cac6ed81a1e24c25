#!/usr/bin/env python3
"""Measures an Usher before thousands of running workspaces of a cluster.

    run.py --cluster RUN [--usher FILE] [--workspaces 5000] [--restarts 3] [--rest 120] [--volumes]

RUN is the folder of a cluster that runs (`make cluster`). One workspace is started by a visit; the others are made as
Usher made that one, on simulated nodes, whose pods all answer by one demo. Then Usher is killed and started again:
measured is from the moment at which it has both lists, of StatefulSets and of pods, until all are routable; and once
nothing happens any more its memory, processor time and traffic with the API server. Exits 1 when a goal is missed:
routable within 1 s, at most 1 % of a core at rest."""
import argparse, datetime, http.client, math, pathlib, re, subprocess, sys, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from cluster import DOMAIN, TARGET, Cluster, Usher, another, configured, load, percentile  # noqa: E402
from road import Person  # noqa: E402

GOAL_S, GOAL_CPU = 1, 0.01
PODS_OF_A_NODE = 250
PORT = 18888
READY = 'usher_workspaces{phase="ready"}'
REQUESTS = 2000


def configuration(volumes):
    return f"""
[access]
allow = "true"
template = "'bench'"
[limits]
requests_per_address = 1000000000
logins_per_address = 1000000000
requests_per_user = "1000000000"
spawns_per_user = "1000000000"
messages_per_user = "1000000000"
[workspaces]
idle_after = "12h"
[templates.bench]
image = "simulated"
command = ["usher", "demo", "--address", "0.0.0.0:{{port}}"]
port = {PORT}
volume = {'{ size = "1Gi" }' if volumes else '"none"'}
resources.requests = {{ cpu = "10m", memory = "16Mi" }}
resources.limits = {{ memory = "256Mi" }}
node_selector = {{ "usher.test/simulated" = "true" }}
tolerations = [{{ key = "usher.test/simulated", operator = "Exists" }}]
"""


def make_others(cluster, namespace, count):
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets?fieldManager=usher-want"
    first = cluster.template(cluster.connect(), namespace, "u0")
    begun = time.monotonic()
    cluster.create(path, (another(first, "u0", f"u{index}") for index in range(1, count)))
    made = time.monotonic() - begun
    while (running := len(cluster.kubectl("get", "pods", "-n", namespace, "--field-selector=status.phase=Running", "-o", "name").split())) < count:
        if time.monotonic() - begun > 1200:
            sys.exit(f"only {running} of {count} pods run")
        time.sleep(2)
    print(f"{count} StatefulSets made in {made:.0f} s, their pods run {time.monotonic() - begun:.0f} s after the first", flush=True)


def moment(event):
    return datetime.datetime.fromisoformat(event["timestamp"]).timestamp()


def restart(usher, count):
    """In seconds: until both lists are known, until all are routable, from the one to the other; and the processor's."""
    usher.await_metric(READY, count, every=0.01)
    said = lambda words: [event for event in usher.events if event.get("message") == words]
    end = max(moment(event) for event in said("a workspace is ready"))
    whole = said("the watch knows the truth")
    lists = max(moment(event) for event in whole if re.search("/(statefulsets|pods) ", event["kubernetes.watch"]))
    return {"lists": lists - usher.begun, "all": end - usher.begun, "after": end - lists, "cpu": processor(usher)}


def memory(usher):
    """In KiB: what it allocated now, and the most that it ever had."""
    of = lambda file, key: int(re.search(rf"^{key}:\s+(\d+)", pathlib.Path(f"/proc/{usher.process.pid}/{file}").read_text(), re.M)[1])
    return of("smaps_rollup", "Anonymous"), of("status", "VmHWM")


def processor(usher):
    """Seconds so far."""
    tasks = pathlib.Path(f"/proc/{usher.process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def connections(usher):
    """Bytes received from the API server, by connection."""
    text = subprocess.check_output(["ss", "--tcp", "--numeric", "--info", "--processes", "--oneline", "dport", "=", ":6443"], text=True)
    ours = [line for line in text.splitlines() if f"pid={usher.process.pid}," in line]
    return {line.split()[3]: int(re.search(r"bytes_received:(\d+)", line)[1]) for line in ours}


def at_rest(usher, seconds):
    """What it uses while nothing happens."""
    calls = lambda: sum(v for k, v in usher.metrics().items() if k.startswith("usher_kubernetes_requests_total"))
    before, began, asked, spent = connections(usher), time.monotonic(), calls(), processor(usher)
    time.sleep(seconds)
    took = time.monotonic() - began
    cpu = (processor(usher) - spent) / took
    received = sum(value - before.get(key, 0) for key, value in connections(usher).items())
    return {"cpu": cpu, "kib": received / 1024 / took, "calls": (calls() - asked) / took}


def latencies(usher, person):
    """Of requests one after the other on one connection, in milliseconds and in order."""
    connection, times = http.client.HTTPConnection("127.0.0.1", usher.port), []
    for _ in range(REQUESTS):
        begun = time.monotonic_ns()
        connection.request("GET", "/", headers={"Host": person.host, "Cookie": person.cookie()})
        answer = connection.getresponse()
        answer.read()
        times.append((time.monotonic_ns() - begun) / 1e6)
        if answer.status != 200:
            sys.exit(f"{person.name}: {answer.status}")
    return sorted(times)


def measure(options, cluster, namespaces, file):
    person = Person(DOMAIN, "u0", 0)
    with Usher(options.usher, file) as usher:
        person.port = usher.port
        person.log_in()
        person.await_ready()
        alone = {"memory": memory(usher)[0], "times": latencies(usher, person)}
    make_others(cluster, namespaces[0], options.workspaces)
    restarts = []
    for _ in range(options.restarts):
        with Usher(options.usher, file) as usher:
            restarts.append({**restart(usher, options.workspaces), "load": load()})
    with Usher(options.usher, file) as usher:
        usher.await_metric(READY, options.workspaces)
        # What the beginning left to do is done by then, and its memory given back.
        time.sleep(30)
        rest = at_rest(usher, options.rest)
        used, most = memory(usher)
        person.port = usher.port
        times = latencies(usher, person)
    return alone, restarts, {**rest, "memory": used, "most": most, "times": times}


def tell(options, alone, restarts, many):
    count = options.workspaces
    print(f"\n## scale: {count} running workspaces{' with volumes' if options.volumes else ''}")
    print("| restart | lists after s | all routable after s | of these after the lists | CPU s |\n|---|---|---|---|---|")
    for index, times in enumerate(restarts, 1):
        print(f"| {index} ({times['load']}) | {times['lists']:.2f} | {times['all']:.2f} | {times['after']:.2f} | {times['cpu']:.2f} |")
    print("\n| workspaces | memory MiB | most MiB | KiB/workspace | CPU at rest | KiB/s from the API | calls/s | request p50 ms | p99 ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    each = (many["memory"] - alone["memory"]) / (count - 1)
    at = lambda side, q: percentile(side["times"], q)
    print(f"| 1 | {alone['memory'] / 1024:.1f} | | | | | | {at(alone, 50):.2f} | {at(alone, 99):.2f} |")
    print(f"| {count} ({load()}) | {many['memory'] / 1024:.1f} | {many['most'] / 1024:.1f} | {each:.1f} | {many['cpu']:.2%} | "
          f"{many['kib']:.1f} | {many['calls']:.1f} | {at(many, 50):.2f} | {at(many, 99):.2f} |")
    slowest = max(times["after"] for times in restarts)
    missed = [f"routable {slowest:.2f} s after the lists, goal {GOAL_S} s"] if slowest > GOAL_S else []
    missed += [f"{many['cpu']:.2%} of a core at rest, goal {GOAL_CPU:.0%}"] if many["cpu"] > GOAL_CPU else []
    if missed:
        sys.exit("missed: " + "; ".join(missed))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--cluster", type=pathlib.Path, required=True)
    arguments.add_argument("--usher", default=str(TARGET / "release/usher"))
    arguments.add_argument("--workspaces", type=int, default=5000)
    arguments.add_argument("--restarts", type=int, default=3)
    arguments.add_argument("--rest", type=int, default=120)
    arguments.add_argument("--volumes", action="store_true")
    options = arguments.parse_args()
    cluster = Cluster(options.cluster)
    cluster.script("nodes", str(math.ceil(options.workspaces * 1.1 / PODS_OF_A_NODE)))
    demo = subprocess.Popen([options.usher, "demo", "--address", f"0.0.0.0:{PORT}"], stderr=subprocess.DEVNULL)
    try:
        with cluster.namespaces() as namespaces, configured(cluster, namespaces, configuration(options.volumes)) as file:
            measured = measure(options, cluster, namespaces, file)
    finally:
        demo.kill()
        demo.wait()
    tell(options, *measured)


main()

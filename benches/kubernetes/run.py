#!/usr/bin/env python3
"""Measures how long first visits take in a cluster, beside the least that they can: a bare scale from 0 to 1.

    run.py --cluster RUN [--usher FILE] [--visits 40]

RUN is the folder of a cluster that runs (`make cluster`). Users come one after the other, log in without visiting, then ask
as a script does; in between StatefulSets like theirs are scaled by hand. When a program accepts connections its node's log
says: it is the first thing that the demo prints. Exits 1 when a goal is missed: from accepting to the user's first byte
p50 <= 50 ms and p99 <= 200 ms; from the first request to the first byte at most 100 ms more than from the scale to
accepting (medians)."""
import argparse, datetime, pathlib, statistics, subprocess, sys, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from cluster import DOMAIN, TARGET, Cluster, Usher, another, configured, demo, load, percentile  # noqa: E402
from road import Person  # noqa: E402

GOAL_MS, GOAL_MORE_MS = {50: 50, 99: 200}, 100
SAYS = "demo: listening"


def configuration(image):
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
[templates.bench]
{demo(image)}
"""


def accepted(cluster, namespace, pod):
    """When the program of a pod began to accept, by the clock of its node, which is ours."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for log in (cluster.run / "pods").glob(f"{namespace}_{pod}_*/workspace/0.log"):
            for line in log.read_text().splitlines():
                if line.endswith(SAYS):
                    # Python reads microseconds and no more.
                    stamp, zone = line.split(" ", 1)[0][:26], line.split(" ", 1)[0][-6:]
                    zone = "+00:00" if zone.endswith("Z") else zone
                    return datetime.datetime.fromisoformat(stamp.rstrip("Z") + zone).timestamp()
        time.sleep(0.02)
    sys.exit(f"{pod} did not begin to accept")


def visit(cluster, namespace, name, port):
    """In milliseconds: from the first request, and from accepting, to the first byte."""
    person = Person(DOMAIN, name, port)
    person.log_in(visit=False)
    begun = time.time()
    answer = person.request("GET", person.host, "/")
    answered = time.time()
    if answer.status != 200:
        sys.exit(f"{name}: {answer.status} {answer.read()[:300]}")
    accepting = accepted(cluster, namespace, f"{name}-0")
    origin = [("Origin", person.origin(person.host)), ("Sec-Fetch-Site", "same-origin")]
    person.request("POST", person.host, "/.usher/stop", origin).read()
    return {"visit": (answered - begun) * 1e3, "first byte": (answered - accepting) * 1e3}


def bare(cluster, connection, namespace, first, name):
    """From the scale of one by hand to accepting, in milliseconds."""
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    made = another(first, "v0", name)
    made["spec"]["replicas"] = 0
    # Usher would take it for one of its own.
    made["metadata"]["labels"].pop("app.kubernetes.io/managed-by")
    cluster.call(connection, "POST", path, made)
    # Until the controller has seen it.
    while cluster.call(connection, "GET", f"{path}/{name}").get("status", {}).get("observedGeneration") is None:
        time.sleep(0.02)
    begun = time.time()
    cluster.call(connection, "PATCH", f"{path}/{name}", {"spec": {"replicas": 1}})
    took = (accepted(cluster, namespace, f"{name}-0") - begun) * 1e3
    cluster.call(connection, "DELETE", f"{path}/{name}")
    return took


def measure(options, cluster, namespace, usher):
    times = {"visit": [], "first byte": [], "bare": []}
    visit(cluster, namespace, "v0", usher.port)
    connection = cluster.connect()
    first = cluster.template(connection, namespace, "v0")
    for index in range(1, options.visits + 1):
        for key, took in visit(cluster, namespace, f"v{index}", usher.port).items():
            times[key].append(took)
        times["bare"].append(bare(cluster, connection, namespace, first, f"b{index}"))
    return {key: sorted(took) for key, took in times.items()}


def tell(times):
    print(f"\n## kubernetes: {len(times['visit'])} first visits one after the other ({load()})")
    print("| from | to | p50 ms | p99 ms | mean ms | worst ms |\n|---|---|---|---|---|---|")
    rows = {"visit": ("first request", "first byte"), "bare": ("scale by hand", "accepting"), "first byte": ("accepting", "first byte")}
    for key, (start, end) in rows.items():
        took = times[key]
        at = lambda q: percentile(took, q)
        print(f"| {start} | {end} | {at(50):.1f} | {at(99):.1f} | {statistics.mean(took):.1f} | {took[-1]:.1f} |")
    more = percentile(times["visit"], 50) - percentile(times["bare"], 50)
    print(f"\na visit takes {more:.1f} ms more than a scale by hand")
    missed = [f"{more:.1f} ms more, goal {GOAL_MORE_MS} ms"] if more > GOAL_MORE_MS else []
    for q, goal in GOAL_MS.items():
        if (took := percentile(times["first byte"], q)) > goal:
            missed.append(f"p{q} {took:.1f} ms, goal {goal} ms")
    if missed:
        sys.exit("missed: " + "; ".join(missed))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--cluster", type=pathlib.Path, required=True)
    arguments.add_argument("--usher", default=str(TARGET / "release/usher"))
    arguments.add_argument("--visits", type=int, default=40)
    options = arguments.parse_args()
    cluster = Cluster(options.cluster)
    image = cluster.script("image", "usher", options.usher)
    with cluster.namespaces() as namespaces, configured(cluster, namespaces, configuration(image)) as file:
        with Usher(options.usher, file) as usher:
            times = measure(options, cluster, namespaces[0], usher)
    tell(times)


main()

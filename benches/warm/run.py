#!/usr/bin/env python3
"""Measures how long a user waits for a warm workspace of a cluster, beside one that starts as usual.

    run.py --cluster RUN [--usher FILE] [--users 200] [--cold 20]

RUN is the folder of a cluster that runs (`make cluster`). Each user logs in without visiting, then asks as a script
does. Measured is from the request that finds no workspace to its first byte: with a warm one that is the want, the claim, the
look at its port and the answer. Users come one after the other, each when enough warm ones are ready; in between some
get a template without warm ones. Exits 1 when the goal is missed: p99 <= 150 ms."""
import argparse, pathlib, statistics, sys, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from cluster import DOMAIN, TARGET, Cluster, Usher, configured, demo, load, percentile  # noqa: E402
from road import Person  # noqa: E402

GOAL_MS = 150
READY = 4


def configuration(image):
    return f"""
[access]
allow = "true"
template = "user.name.startsWith('w') ? 'warm' : 'cold'"
[limits]
requests_per_address = 1000000000
logins_per_address = 1000000000
requests_per_user = "1000000000"
spawns_per_user = "1000000000"
messages_per_user = "1000000000"
[templates.warm]
{demo(image, f"warm.ready = {READY}")}
[templates.cold]
{demo(image)}
"""


def once(name, port):
    """From the request that starts a workspace to its first byte, in milliseconds."""
    person = Person(DOMAIN, name, port)
    person.log_in(visit=False)
    begun = time.monotonic_ns()
    answer = person.request("GET", person.host, "/")
    took = (time.monotonic_ns() - begun) / 1e6
    if answer.status != 200:
        sys.exit(f"{name}: {answer.status} {answer.read()[:300]}")
    # It makes room for the next.
    origin = [("Origin", person.origin(person.host)), ("Sec-Fetch-Site", "same-origin")]
    person.request("POST", person.host, "/.usher/stop", origin).read()
    return took


def measure(options, usher):
    times = {"warm": [], "cold": []}
    for i in range(options.users):
        usher.await_metric('usher_warm_workspaces{state="ready",template="warm"}', READY)
        times["warm"].append(once(f"w{i}", usher.port))
        if i * options.cold // options.users > len(times["cold"]) - 1:
            times["cold"].append(once(f"c{i}", usher.port))
    return times


def calls(usher):
    """What creates and patches took on average, in milliseconds: those that starts wait for among them."""
    took = {}
    for verb in ("create", "patch"):
        labels = f'{{verb="{verb}"}}'
        name = "usher_kubernetes_request_duration_seconds"
        took[verb] = 1000 * usher.metric(f"{name}_sum{labels}") / max(1, usher.metric(f"{name}_count{labels}"))
    return took


def tell(times, claimed, called):
    print(f"\n## warm: from the request that finds no workspace to its first byte, one user after the other ({load()})")
    print("| template | users | p50 ms | p99 ms | mean ms | worst ms |\n|---|---|---|---|---|---|")
    for name, took in times.items():
        took.sort()
        at = lambda q: percentile(took, q)
        print(f"| {name} | {len(took)} | {at(50):.1f} | {at(99):.1f} | {statistics.mean(took):.1f} | {took[-1]:.1f} |")
    warm = times["warm"]
    p99 = percentile(warm, 99)
    print(f"\n{claimed:.0f} of {len(warm)} took a warm one; each takes a create and two patches of StatefulSets; ", end="")
    print(f"creates and patches took {called['create']:.1f} and {called['patch']:.1f} ms on average")
    if p99 > GOAL_MS:
        sys.exit(f"missed: p99 {p99:.1f} ms, goal {GOAL_MS} ms")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--cluster", type=pathlib.Path, required=True)
    arguments.add_argument("--usher", default=str(TARGET / "release/usher"))
    arguments.add_argument("--users", type=int, default=200)
    arguments.add_argument("--cold", type=int, default=20)
    options = arguments.parse_args()
    cluster = Cluster(options.cluster)
    image = cluster.script("image", "usher", options.usher)
    with cluster.namespaces() as namespaces, configured(cluster, namespaces, configuration(image)) as file:
        with Usher(options.usher, file) as usher:
            times = measure(options, usher)
            claimed, called = usher.metric('usher_warm_claims_total{result="claimed"}'), calls(usher)
    tell(times, claimed, called)


main()

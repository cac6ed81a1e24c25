#!/usr/bin/env python3
"""Measure proxies side by side and print one table per job, with ratios against the first target.

    run.py [--rounds 3] [--cells h1,h2,...] [--secs 6] [--out FILE] TARGET ... | @FILE
    TARGET = name=port:pid[:features]   features joined by '+': h1 h2 ws plain backend alone (default h1+h2+ws)

Give the backend as name=port:pid:backend so that its CPU is not counted as noise. Each round visits every
target in turn, starting one further on, so that a busy spell does not hit one target only.
"us/op" is the CPU time that the proxy itself used per operation: the figure to trust on shared cores."""
import argparse, json, os, pathlib, re, resource, shutil, socket, statistics, subprocess, sys, time

HERE = pathlib.Path(__file__).resolve().parent
ap = argparse.ArgumentParser()
ap.add_argument("targets", nargs="+")
ap.add_argument("--rounds", type=int, default=3)
ap.add_argument("--secs", type=int, default=6)
ap.add_argument("--cells", default="rss,idle,h1,rate,h2,hs,tls13,tls12,echo,d64k,d1m")
ap.add_argument("--idle", type=int, default=2000, help="WebSockets held open in the cell 'idle'")
ap.add_argument("--rate", type=int, default=2000, help="requests/s in the cell 'rate'")
ap.add_argument("--noise", type=float, default=12, help="redo a sample if others used more than this %% of the machine")
ap.add_argument("--out", default="")
o = ap.parse_args()

DOMAIN = os.environ.setdefault("DOMAIN", "lab.test")
os.environ.setdefault("HOSTS", "1000")
for t in o.targets:  # peers.py leaves a cookie with a valid JWT beside its targets
    cookie = pathlib.Path(t[1:]).with_name("cookie")
    if t[0] == "@" and cookie.exists():
        os.environ.setdefault("COOKIE", cookie.read_text())
os.environ.setdefault("COOKIE", "usher_session=eyJhbGciOiJFUzI1NiJ9." + "A" * 240 + "." + "B" * 86)  # size of a real JWT
WSLOAD = shutil.which(os.environ.get("WSLOAD", "wsload")) or sys.exit("set WSLOAD to the wsload binary")
NAME = f"u{int(os.environ['HOSTS']) // 2}.{DOMAIN}"
try:
    assert socket.gethostbyname(NAME) == "127.0.0.1"
except (OSError, AssertionError):
    sys.exit(f"{NAME} must resolve to 127.0.0.1: add '127.0.0.1 {NAME}' to /etc/hosts")
TICK, CPUS = os.sysconf("SC_CLK_TCK"), os.cpu_count()


class Target:
    def __init__(self, text):
        self.name, rest = text.split("=")
        port, pid, *feat = rest.split(":")
        self.port, self.pid = int(port), int(pid)
        self.feat = set((feat[0] if feat else "h1+h2+ws").split("+"))
        self.tls = "plain" not in self.feat
        if self.tls:
            self.feat.add("tls")

    def pids(self):
        if "alone" in self.feat:  # usher's children are the workspaces, which are the backends here
            return [self.pid]
        todo, all_ = [self.pid], []
        while todo:
            p = todo.pop()
            all_.append(p)
            for t in pathlib.Path(f"/proc/{p}/task").iterdir():
                todo += map(int, (t / "children").read_text().split())
        return all_

    def cpu(self):
        """Seconds of CPU so far, to the nanosecond where the kernel keeps schedstat."""
        total = 0
        for p in self.pids():
            for t in pathlib.Path(f"/proc/{p}/task").iterdir():
                total += int((t / "schedstat").read_text().split()[0])
        return total / 1e9

    def pss(self):
        """Memory in KiB; pages that processes share count once."""
        return sum(int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{p}/smaps_rollup").read_text(), re.M)[1])
                   for p in self.pids())


def machine():
    f = list(map(int, open("/proc/stat").readline().split()[1:]))
    return (sum(f[:3]) + sum(f[5:8])) / TICK  # user nice system irq softirq steal


def client_cpu():
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


def quiet():
    """Wait (at most 15 s) until the machine is nearly idle."""
    for _ in range(15):
        a = machine()
        time.sleep(0.5)
        if (machine() - a) / (0.5 * CPUS) < 0.08:
            return
        time.sleep(0.5)


def seconds(text):
    n, unit = re.match(r"([\d.]+)(us|ms|s)", text).groups()
    return float(n) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def wrk(t, path, conns, secs):
    url = f"http{'s' if t.tls else ''}://{NAME}:{t.port}"
    p = subprocess.run(["wrk", "-t1", f"-c{conns}", f"-d{secs}s", "--latency", "-s", HERE / "wrk.lua", url, "--", path],
                       capture_output=True, text=True)
    out, done = p.stdout, re.search(r"(\d+) requests in ([\d.]+)(m?s)", p.stdout)
    if not done:
        raise RuntimeError(f"wrk: {p.returncode} {p.stdout} {p.stderr}")
    n, used = done[1], done[2]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    return dict(count=int(n), rate=int(n) / float(used), errors=int(bad[1]) if bad else 0,
                p50_us=seconds(re.search(r"\n\s+50%\s+(\S+)", out)[1]), p99_us=seconds(re.search(r"\n\s+99%\s+(\S+)", out)[1]))


def h2load(t, secs):
    out = subprocess.run(["h2load", "-t1", "-c10", "-m10", "-D", str(secs), "-H", "cookie: " + os.environ["COOKIE"],
                          f"https://{NAME}:{t.port}/"], capture_output=True, text=True).stdout
    ok = int(re.search(r"(\d+) succeeded", out)[1])
    mean = re.search(r"time for request:\s+\S+\s+\S+\s+(\S+)", out)[1]
    return dict(count=ok, rate=ok / secs, p50_us=seconds(mean), errors=int(re.search(r"(\d+) failed", out)[1]))


def wsload(t, *args):
    out = subprocess.run([WSLOAD, args[0], f"127.0.0.1:{t.port}", *map(str, args[1:])], capture_output=True, text=True,
                         env={**os.environ, "TLS": "1" if t.tls else "0"})
    return json.loads(out.stdout) if out.stdout else dict(count=0, rate=0, errors=1)


def idle(t):
    p = subprocess.Popen([WSLOAD, "idle", f"127.0.0.1:{t.port}", str(o.idle)], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True, env={**os.environ, "TLS": "1" if t.tls else "0"})
    r = json.loads(p.stdout.readline())
    cpu = t.cpu()
    time.sleep(2)
    r["kib_conn"] = (t.pss() - t.fresh) / max(r["count"], 1)
    r["cpu_at"] = cpu
    p.stdin.close()
    r["alive"] = json.loads(p.stdout.readline())["alive"]
    p.wait()
    for _ in range(15):  # allocators give back when some seconds have passed
        time.sleep(1)
        r["kib_left"] = (t.pss() - t.fresh) / max(r["count"], 1)
        if r["kib_left"] < r["kib_conn"] / 10:
            break
    return r


CELLS = {  # name: (needs, what to run, what one operation is, figures)
    "h1": ("h1", lambda t: wrk(t, "/", 64, o.secs), "HTTP/1.1 keep-alive GET, 64 connections", "rate us_op p50_us p99_us"),
    "rate": ("h1", lambda t: wsload(t, "rate", 64, o.secs, o.rate), "HTTP/1.1 GET at a fixed rate, 64 connections", "rate us_op p50_us p99_us"),
    "h2": ("h2", lambda t: h2load(t, o.secs), "HTTP/2 GET, 10 connections x 10 streams (p50 is a mean)", "rate us_op p50_us"),
    "hs": ("h1", lambda t: wsload(t, "hs", 16, o.secs), "full TLS 1.3 handshake + GET + close, 16 at a time", "rate us_op p50_us p99_us"),
    "tls13": ("tls", lambda t: wsload(t, "shake", 16, o.secs, "1.3"), "full TLS 1.3 handshake, nothing else, 16 at a time", "rate us_op p50_us p99_us"),
    "tls12": ("tls", lambda t: wsload(t, "shake", 16, o.secs, "1.2"), "full TLS 1.2 handshake, nothing else, 16 at a time", "rate us_op p50_us p99_us"),
    "echo": ("ws", lambda t: wsload(t, "echo", 64, o.secs), "WebSocket 128-byte round trip, 64 connections", "rate us_op p50_us p99_us"),
    "d64k": ("h1", lambda t: wrk(t, "/64k", 16, o.secs), "64 KiB download, 16 connections", "rate us_op gb_s us_mib"),
    "d1m": ("h1", lambda t: wrk(t, "/1m", 8, o.secs), "1 MiB download, 8 connections", "rate us_op gb_s us_mib"),
    "idle": ("ws", idle, f"{o.idle} WebSockets opened and held", "rate us_op kib_conn kib_left alive"),
}
# What Usher shall keep to: the cell, the figure, at most so much of it; of bare Pingora's in the same run, or by itself.
GOALS = [("h1", "us_op", 1.15, True), ("tls13", "us_op", 1.05, True), ("tls12", "us_op", 1.05, True),
         ("idle", "kib_conn", 12, False)]
SIZE = {"d64k": 65536, "d1m": 1 << 20}


def sample(cell, t):
    for attempt in range(2):
        quiet()
        m0, c0, b0, k0, w0 = machine(), t.cpu(), back.cpu() if back else 0, client_cpu(), time.time()
        r = CELLS[cell][1](t)
        c1 = r.pop("cpu_at", None) or t.cpu()
        wall = time.time() - w0
        mine = t.cpu() - c0 + (client_cpu() - k0) + (back.cpu() - b0 if back and back.pid != t.pid else 0)
        r["noise_pct"] = max(0, machine() - m0 - mine) / (wall * CPUS) * 100
        r["us_op"] = (c1 - c0) / max(r["count"], 1) * 1e6
        r["cores"] = (c1 - c0) / wall
        if cell in SIZE:
            r["gb_s"] = r["rate"] * SIZE[cell] / 1e9
            r["us_mib"] = r["us_op"] / (SIZE[cell] / 2**20)
        if r["noise_pct"] <= o.noise:
            break
    return r


texts = sum((pathlib.Path(t[1:]).read_text().split() if t[0] == "@" else [t] for t in o.targets), [])
targets = [Target(t) for t in texts]
back = next((t for t in targets if "backend" in t.feat), None)
targets = [t for t in targets if t is not back]
cells = o.cells.split(",")
got = {}
log = open(o.out, "a") if o.out else None

for t in targets:
    t.fresh = t.pss()
if "rss" in cells:
    print("\n## Memory before any traffic (PSS, MiB)\n" + "  ".join(f"{t.name} {t.fresh / 1024:.1f}" for t in targets), flush=True)
for rnd in range(o.rounds):
    for cell in (c for c in cells if c in CELLS):
        if cell == "idle" and rnd:
            continue  # memory is only meaningful on a fresh process
        k = rnd % len(targets)
        for t in targets[k:] + targets[:k]:
            if CELLS[cell][0] not in t.feat:
                continue
            try:
                r = sample(cell, t)
            except Exception as e:
                print(f"! {rnd} {cell} {t.name}: {e!r}", file=sys.stderr, flush=True)
                continue
            got.setdefault((cell, t.name), []).append(r)
            if log:
                log.write(json.dumps(dict(cell=cell, target=t.name, round=rnd, **r)) + "\n")
                log.flush()
            print(f"# {rnd} {cell} {t.name} " + " ".join(f"{k}={v:.5g}" for k, v in r.items()), file=sys.stderr, flush=True)

LABEL = dict(rate="op/s", us_op="CPU us/op", p50_us="p50 us", p99_us="p99 us", gb_s="GB/s", us_mib="CPU us/MiB",
             kib_conn="KiB/conn", kib_left="KiB/conn after closing", alive="alive")
for cell in (c for c in cells if c in CELLS):
    names = [t.name for t in targets if (cell, t.name) in got]
    if targets[0].name not in names:  # no base for the ratios
        continue
    med = {n: {k: statistics.median(r[k] for r in got[cell, n]) for k in got[cell, n][0]} for n in names}
    cols = CELLS[cell][3].split()
    base = med[names[0]]
    print(f"\n## {cell}: {CELLS[cell][2]} (median of {len(got[cell, names[0]])})")
    print("| target | " + " | ".join(LABEL[c] for c in cols) + f" | CPU/op vs {names[0]} | op/s vs {names[0]} | spread of CPU/op | noise | errors |")
    print("|---" * (len(cols) + 6) + "|")
    for n in names:
        m, us = med[n], [r["us_op"] for r in got[cell, n]]
        spread = (max(us) - min(us)) / m["us_op"] * 100 if m["us_op"] else 0
        print(f"| {n} | " + " | ".join(f"{m[c]:,.0f}" if m[c] >= 100 else f"{m[c]:.3g}" for c in cols)
              + f" | {m['us_op'] / base['us_op']:.2f} | {m['rate'] / base['rate']:.2f} | {spread:.0f}% | {m['noise_pct']:.0f}%"
              + f" | {sum(r['errors'] for r in got[cell, n])} |")

print("\n## Goals of usher")
missed = False
for cell, figure, most, beside in GOALS:
    if (cell, "usher") not in got or beside and (cell, "pingora") not in got:
        continue
    mid = lambda name: statistics.median(r[figure] for r in got[cell, name])
    is_now = mid("usher") / mid("pingora") if beside else mid("usher")
    missed |= is_now > most
    print(f"{cell}: {is_now:.2f} {'of the CPU/op of bare Pingora' if beside else LABEL[figure]}, goal at most {most}{': MISSED' if is_now > most else ''}")
sys.exit(missed)

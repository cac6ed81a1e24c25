#!/usr/bin/env python3
"""Start the backend, the reference floors and the peer proxies, all with the same job; print the targets.

    peers.py WORKDIR [NAME ...]      names: see PEERS below; default: all whose program is found

Writes configs and WORKDIR/targets, then stays until Ctrl-C or SIGTERM and ends what it started.
Programs: RAWPINGORA, WSLOAD, USHER, CHP, PINGAP name the binaries (or put them on PATH)."""
import base64, json, os, pathlib, shutil, signal, subprocess, sys, time, urllib.request

import road

DOMAIN, N = os.environ.get("DOMAIN", "lab.test"), int(os.environ.get("HOSTS", "1000"))
BACK = "127.0.0.1:" + os.environ.get("BACKEND_PORT", "9000")
work = pathlib.Path(sys.argv[1]).resolve()
work.mkdir(parents=True, exist_ok=True)
cert, key, both = work / "cert.pem", work / "key.pem", work / "both.pem"
hosts = [f"u{i}.{DOMAIN}" for i in range(N)]
started = []


def program(name):
    found = shutil.which(os.environ.get(name.upper(), name))
    if not found:
        raise FileNotFoundError(name)
    return found


def make_cert():
    if not cert.exists():
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                        "-nodes", "-keyout", key, "-out", cert, "-days", "30", "-subj", f"/CN=*.{DOMAIN}",
                        "-addext", f"subjectAltName=DNS:*.{DOMAIN},DNS:{DOMAIN}",
                        "-addext", "basicConstraints=critical,CA:FALSE"], check=True, stderr=subprocess.DEVNULL)
    both.write_text(cert.read_text() + key.read_text())


def make_cookie():
    """A session cookie with a valid ES256 JWT, for the peers that check one; run.py sends it to all."""
    key, pub = work / "jwt.key", work / "jwt.pub"
    if not key.exists():
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
        subprocess.run(["openssl", "ec", "-in", key, "-pubout", "-out", pub], check=True, stderr=subprocess.DEVNULL)
    b64 = lambda b: base64.urlsafe_b64encode(b).rstrip(b"=")
    claims = {"iss": f"https://hub.{DOMAIN}", "sub": "u500", "sid": "0123456789abcdef0123456789abcdef",
              "iat": int(time.time()), "exp": int(time.time()) + 30 * 86400, "scope": "lab terminal files"}
    text = b64(json.dumps({"alg": "ES256", "typ": "JWT"}).encode()) + b"." + b64(json.dumps(claims).encode())
    der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text, stdout=subprocess.PIPE, check=True).stdout
    r_len = der[3]
    r, s = der[4:4 + r_len], der[6 + r_len:]
    sig = b"".join(int.from_bytes(v, "big").to_bytes(32, "big") for v in (r, s))
    (work / "cookie").write_text("usher_session=" + (text + b"." + b64(sig)).decode())


def start(name, argv, **env):
    log = open(work / f"{name}.log", "wb")
    p = subprocess.Popen([str(a) for a in argv], stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=work,
                         env={**os.environ, **{k: str(v) for k, v in env.items()}})
    started.append(p)
    return p


def pingora(port, name="pingora", exe="rawpingora", **env):
    return start(name, [program(exe)], LISTEN=f"127.0.0.1:{port}", UPSTREAM=BACK, CERT=cert, KEY=key,
                 ROUTES=N, DOMAIN=DOMAIN, **env)


def usher_listener(port):
    """Where Usher listens, and with which certificate."""
    return f"""
[[listeners]]
address = "127.0.0.1:{port}"
protocol = "https"
[certificates.site]
source = "files"
certificate = "{cert}"
private_key = "{key}"
"""


def usher(port):
    """Usher with every host's workspace being a backend of its own; their cookies go into WORKDIR/cookie.

    A session belongs to one host, so with more hosts than one there is no cookie that all accept: HOSTS=1."""
    if N != 1:
        raise FileNotFoundError("usher is measured with HOSTS=1")
    (work / "usher.toml").write_text(f"""
domain = "{DOMAIN}"
state_dir = "{work}/usher-state"
{usher_listener(port)}
[admin]
address = "127.0.0.1:0"
socket = "{work}/usher.sock"
[login]
development = true
[access]
allow = "true"
template = "'backend'"
[limits]
handshakes_per_address = 1000000000
requests_per_address = 1000000000
logins_per_address = 1000000000
requests_per_user = "1000000000"
spawns_per_user = "1000000000"
messages_per_user = "1000000000"
[workspaces]
idle_after = "never"
[templates.backend]
command = ["{program("wsload")}", "backend", "127.0.0.1:{{port}}"]
connect = "port"
""")
    p = start("usher", [program("usher"), "serve", "--config", work / "usher.toml"], RUST_LOG="warn")
    person = road.Person(DOMAIN, "u0", port, cert)
    person.await_listening()
    person.log_in()
    person.await_ready()
    with open(work / "cookie", "a") as out:
        out.write("; " + person.cookie())
    return p


def nginx(port, name="nginx", auth=False):
    (work / f"{name}.conf").write_text(f"""
daemon off; worker_processes 2; worker_rlimit_nofile 20000; pid {work}/{name}.pid; error_log {work}/{name}.err warn;
events {{ worker_connections 20000; }}
http {{
  access_log off; server_tokens off; tcp_nodelay on; keepalive_requests 100000000; keepalive_timeout 1h;
  map_hash_max_size 8192; map_hash_bucket_size 128;
  map $host $up {{ {" ".join(f"{h} be;" for h in hosts)} }}
  map $http_upgrade $conn {{ default upgrade; '' ''; }}
  upstream be {{ server {BACK}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} ssl http2 reuseport backlog=4096;
    ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    {"location = /_auth { internal; proxy_pass http://be/auth; proxy_http_version 1.1; proxy_pass_request_body off;"
     " proxy_set_header Content-Length ''; proxy_set_header Connection ''; }" if auth else ""}
    location / {{
      {"auth_request /_auth;" if auth else ""}
      if ($up = '') {{ return 404; }}
      proxy_pass http://$up; proxy_http_version 1.1; proxy_max_temp_file_size 0;
      proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $conn;
      proxy_read_timeout 1h;
    }}
  }}
}}""")
    return start(name, ["nginx", "-p", work, "-c", work / f"{name}.conf"])


def haproxy(port, name="haproxy", auth=False):
    (work / "hosts.map").write_text("".join(f"{h} be\n" for h in hosts))
    check = f"""http-request deny deny_status 401 unless {{ req.cook(usher_session),jwt_verify("ES256","{work}/jwt.pub") -m int 1 }}"""
    (work / f"{name}.cfg").write_text(f"""
global
  nbthread 2
  maxconn 9900
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  option http-keep-alive
  http-reuse always
frontend fe
  bind 127.0.0.1:{port} ssl crt {both} alpn h2,http/1.1 backlog 4096
  {check if auth else ""}
  use_backend %[req.hdr(host),field(1,:),lower,map({work}/hosts.map)]
  default_backend none
backend be
  server s {BACK} pool-max-conn 512
backend none
  http-request return status 404
""")
    return start(name, ["haproxy", "-db", "-f", work / f"{name}.cfg"])


def caddy(port):
    # One map directive, not 1,000 site blocks: the cheaper of Caddy's ways to route by host.
    (work / "Caddyfile").write_text(f"""
{{
  admin off
  auto_https off
  servers {{
    protocols h1 h2
  }}
}}
https://*.{DOMAIN}:{port} {{
  bind 127.0.0.1
  tls {cert} {key} {{
    protocols tls1.2 tls1.3
  }}
  map {{host}} {{up}} {{
{chr(10).join(f"    {h} {BACK}" for h in hosts)}
  }}
  reverse_proxy {{up}} {{
    transport http {{
      keepalive_idle_conns 1024
      keepalive_idle_conns_per_host 512
      compression off
    }}
  }}
}}
""")
    return start("caddy", ["caddy", "run", "--adapter", "caddyfile", "--config", work / "Caddyfile"],
                 GOMAXPROCS=2, XDG_DATA_HOME=work / "caddy", XDG_CONFIG_HOME=work / "caddy", HOME=work)


def chp(port):
    p = start("chp", [program("chp"), "--ip", "127.0.0.1", "--port", port, "--api-ip", "127.0.0.1", "--api-port", port + 500,
                      "--ssl-key", key, "--ssl-cert", cert, "--host-routing", "--log-level", "error"])
    for h in hosts:
        body = json.dumps({"target": f"http://{BACK}"}).encode()
        for wait in (0.2,) * 50:
            try:
                req = urllib.request.Request(f"http://127.0.0.1:{port + 500}/api/routes/{h}", data=body, method="POST")
                urllib.request.urlopen(req).read()
                break
            except OSError:
                time.sleep(wait)
    return p


def pingap(port):
    (work / "pingap.toml").write_text(f"""
[basic]
threads = 2
log_level = "ERROR"
work_stealing = true
upstream_keepalive_pool_size = 1024
[certificates.lab]
domains = "*.{DOMAIN}"
tls_cert = \"\"\"{cert.read_text()}\"\"\"
tls_key = \"\"\"{key.read_text()}\"\"\"
is_default = true
[upstreams.be]
addrs = ["{BACK}"]
[servers.s]
addr = "127.0.0.1:{port}"
threads = 2
global_certificates = true
enabled_h2 = true
tls_min_version = "tlsv1.2"
locations = [{", ".join(f'"l{i}"' for i in range(N))}]
""" + "".join(f'[locations.l{i}]\nupstream = "be"\nhost = "{h}"\n' for i, h in enumerate(hosts)))
    return start("pingap", [program("pingap"), "-c", work / "pingap.toml"])


def wsload(*args, name, **env):
    return start(name, [program("wsload"), *args], **env)


PEERS = {  # name: (port, features, start)
    "pingora": (8441, "h1,h2,ws", pingora),
    "usher": (8470, "h1,h2,ws,alone", usher),
    "nginx": (8443, "h1,h2,ws", nginx),
    "haproxy": (8444, "h1,h2,ws", haproxy),
    "caddy": (8445, "h1,h2,ws", caddy),
    "chp": (8446, "h1,ws", chp),
    "pingap": (8448, "h1,h2,ws", pingap),
    "tls-pipe": (8449, "h1,ws", lambda p: wsload("tls-pipe", f"127.0.0.1:{p}", BACK, cert, key, name="tls-pipe", THREADS=2)),
    "tls-direct": (8450, "h1,ws", lambda p: wsload("tls-direct", f"127.0.0.1:{p}", cert, key, name="tls-direct", THREADS=2)),
    "direct": (int(BACK.split(":")[1]), "h1,ws,plain", None),
    # Peers that also check the session: nginx asks the backend per request, HAProxy verifies the ES256 JWT per request.
    "nginx-auth": (8460, "h1,h2,ws", lambda p: nginx(p, "nginx-auth", auth=True)),
    "haproxy-jwt": (8461, "h1,h2,ws", lambda p: haproxy(p, "haproxy-jwt", auth=True)),
    # Variants of the floor, for "which setting mattered" (name them to run them).
    "pingora-nosteal": (8451, "h1,h2,ws", lambda p: pingora(p, "pingora-nosteal", STEAL=0)),
    "pingora-1thread": (8452, "h1,h2,ws", lambda p: pingora(p, "pingora-1thread", THREADS=1)),
    "pingora-4kbuf": (8455, "h1,h2,ws", lambda p: pingora(p, "pingora-4kbuf", RBUF=4096, WBUF=4096)),
    "pingora-32kbuf": (8456, "h1,h2,ws", lambda p: pingora(p, "pingora-32kbuf", RBUF=32768, WBUF=32768)),
    "pingora-pool16": (8453, "h1,h2,ws", lambda p: pingora(p, "pingora-pool16", POOL=16)),
}
DEFAULT = ["pingora", "usher", "nginx", "haproxy", "nginx-auth", "haproxy-jwt", "caddy", "chp", "pingap", "tls-pipe", "tls-direct", "direct"]


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    make_cert()
    make_cookie()
    lines = []
    try:
        backend = wsload("backend", BACK, name="backend")
        for name in sys.argv[2:] or DEFAULT:
            port, features, begin = PEERS[name]
            try:
                p = begin(port) if begin else backend
            except FileNotFoundError as e:
                print(f"skipped {name}: program not found: {e}", file=sys.stderr)
                continue
            lines.append(f"{name}={port}:{p.pid}:{features.replace(',', '+')}")
        time.sleep(1.5)
        dead = [p.args[0] for p in started if p.poll() is not None]
        if dead:
            print("did not stay up:", dead, file=sys.stderr)
        (work / "targets").write_text("\n".join([f"backend={BACK.split(':')[1]}:{backend.pid}:backend", *lines]) + "\n")
        print((work / "targets").read_text(), flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        for p in started:
            p.terminate()
        for p in started:
            try:
                p.wait(3)
            except subprocess.TimeoutExpired:  # Pingora would drain for minutes
                p.kill()


main()

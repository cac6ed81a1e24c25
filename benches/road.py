"""Walks usher's road as a browser does: the development login, the hand-off, the wait. Standard library only.

Python does not resolve *.localhost: connections go to 127.0.0.1 and Host says the rest."""
import html, http.client, json, re, socket, ssl, time, urllib.parse

NAVIGATE = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}
FETCH = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Accept": "*/*"}


class Person:
    """Somebody with a cookie jar; `certificate` is a file to trust, none = plain HTTP."""

    def __init__(self, domain, name, port, certificate=None):
        self.domain, self.name, self.port = domain, name, port
        self.host = f"{name}.{domain}"
        self.scheme = "https" if certificate else "http"
        self.tls = ssl.create_default_context(cafile=certificate) if certificate else None
        self.jar = {}

    def request(self, method, host, path, headers=(), body=None):
        """One request on a connection of its own; the answer, its body still to be read."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        connection = http.client.HTTPConnection(host, self.port)
        connection.sock = self.tls.wrap_socket(raw, server_hostname=host) if self.tls else raw
        cookies = "; ".join(f"{k}={v}" for k, v in self.jar.get(host, {}).items())
        connection.request(method, path, body, {**dict(headers), **({"Cookie": cookies} if cookies else {})})
        answer = connection.getresponse()
        for field in answer.headers.get_all("Set-Cookie") or []:
            pair, _, attributes = field.partition(";")
            name, _, value = pair.partition("=")
            if "max-age=0" in attributes.lower():
                self.jar.get(host, {}).pop(name, None)
            else:
                self.jar.setdefault(host, {})[name] = value
        return answer

    def await_listening(self, seconds=30):
        end = time.monotonic() + seconds
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), timeout=seconds).close()
            except ConnectionRefusedError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def origin(self, host):
        return f"{self.scheme}://{host}:{self.port}"

    def log_in(self, visit=True):
        """Through the login to the own host; with `visit` also to the page asked for, which starts the workspace."""
        url, form = self.origin(self.host) + "/", None
        for _ in range(16):
            parts = urllib.parse.urlsplit(url)
            path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
            headers = dict(NAVIGATE)
            if form is not None:
                headers |= {"Origin": self.origin(parts.hostname), "Content-Type": "application/x-www-form-urlencoded"}
            answer = self.request("GET" if form is None else "POST", parts.hostname, path, headers, form)
            page, form = answer.read().decode(errors="replace"), None
            if answer.status in (301, 302, 303, 307, 308):
                url = urllib.parse.urljoin(url, answer.headers["Location"])
                if not visit and "__Host-usher-ws" in self.jar.get(self.host, {}):
                    return
            elif parts.path == "/login":
                action, form = self.fill_in(page)
                url = urllib.parse.urljoin(url, action)
            else:
                return
        raise RuntimeError(f"{self.name}: redirected 16 times, last to {url}")

    def fill_in(self, page):
        body = page[page.index("<form"):page.index("</form>")]
        fields, typed = {}, False
        for tag in re.findall(r"<input[^>]*>", body):
            attributes = {k: html.unescape(v) for k, v in re.findall(r'([a-z-]+)="?([^"\s>]*)"?', tag)}
            if attributes.get("type") == "hidden":
                fields[attributes["name"]] = attributes.get("value", "")
            elif attributes.get("type", "text") == "text" and not typed:
                fields[attributes["name"]], typed = self.name, True
        action = re.search(r'action="?([^"\s>]*)', body)
        return html.unescape(action[1]) if action else "", urllib.parse.urlencode(fields)

    def cookie(self):
        return f"__Host-usher-ws={self.jar[self.host]['__Host-usher-ws']}"

    def await_ready(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = self.request("GET", self.host, "/.usher/status", FETCH)
            if json.loads(answer.read()).get("phase") == "ready":
                return
            time.sleep(0.1)
        raise RuntimeError(f"{self.name}: not ready after {seconds} s")

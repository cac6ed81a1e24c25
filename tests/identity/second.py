# A second OpenID provider for the tests, written by others in another language: Canaille, on a free port of loopback.
#
#   python second.py '{"accounts": {"alice": {"groups": ["staff"]}}}'
#
# Everybody's password is `password`. It prints its address in one line, and is told what changes by POSTs of JSON to
# /control/:
#   client    a client's metadata, by which it is known from then on
#   account   {"id": …, "claims": {"groups": […]}}; without claims the account is locked
#   asked     answers how often each path was asked for
# It ends with its standard input.
import datetime
import json
import logging
import os
import sys
import threading
import warnings
from collections import Counter

from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

from canaille import create_app  # noqa: E402
from canaille.app import models  # noqa: E402
from canaille.backends import Backend  # noqa: E402

settings = {"accounts": {}, **json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}")}
asked = Counter()


def control(what, said):
    if what == "client":
        tell_client(said)
    elif what == "account" and "claims" in said:
        account(said["id"], said["claims"])
    elif what == "account":
        user = Backend.instance.get(models.User, user_name=said["id"])
        user.lock_date = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=1)
        Backend.instance.save(user)
    return dict(asked)


def tell_client(said):
    lists = ["redirect_uris", "post_logout_redirect_uris", "grant_types", "response_types"]
    client = models.Client(
        client_id=said["client_id"],
        client_secret=said["client_secret"],
        client_name=said["client_id"],
        # What is trusted asks nobody for consent.
        client_uri=said["redirect_uris"][0],
        token_endpoint_auth_method="client_secret_post",
        scope=["openid", "profile", "email", "groups"],
        **{name: said[name] for name in lists},
    )
    Backend.instance.save(client)
    client.audience = [client]
    Backend.instance.save(client)


def account(name, claims):
    user = Backend.instance.get(models.User, user_name=name) or models.User(
        user_name=name, formatted_name=name.title(), family_name=name.title(), display_name=name,
        emails=[f"{name}@example.org"], password="password",
    )
    Backend.instance.save(user)
    wanted = set(claims.get("groups", []))
    for group in Backend.instance.query(models.Group):
        group.members = [member for member in group.members if member.id != user.id or group.display_name in wanted]
        if group.members:
            Backend.instance.save(group)
        else:
            Backend.instance.delete(group)
    for wanted_name in wanted:
        group = Backend.instance.get(models.Group, display_name=wanted_name)
        if group is None:
            group = models.Group(display_name=wanted_name, members=[])
        if all(member.id != user.id for member in group.members):
            group.members = [*group.members, user]
        Backend.instance.save(group)


class Provider:
    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        request = Request(environ)
        asked[request.path] += 1
        if not request.path.startswith("/control/"):
            return self.app(environ, start_response)
        with self.app.app_context():
            said = control(request.path.removeprefix("/control/"), json.loads(request.get_data()))
        return Response(json.dumps(said), mimetype="application/json")(environ, start_response)


server = make_server("127.0.0.1", 0, None, threaded=True)
address = f"http://127.0.0.1:{server.server_port}"
app = create_app({
    "SECRET_KEY": "only for tests",
    "SERVER_NAME": f"127.0.0.1:{server.server_port}",
    "PREFERRED_URL_SCHEME": "http",
    "SESSION_COOKIE_SECURE": False,
    "CANAILLE_DATABASE": "memory",
    "CANAILLE": {"NAME": "Canaille"},
    "CANAILLE_OIDC": {},
})
with app.app_context():
    for name, claims in settings["accounts"].items():
        account(name, claims)
server.app = Provider(app)
print(address, flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server.serve_forever()

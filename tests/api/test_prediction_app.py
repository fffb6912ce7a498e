"""What an owner may use of Flask: each answers as in Flask itself, whose steps are left out."""

import pytest
from flask import (
    Blueprint,
    Flask,
    Response,
    after_this_request,
    request_tearing_down,
    session,
    url_for,
)
from flask.sessions import SessionInterface, SessionMixin

from app import create_app
from helpers import EXAMPLE_REQUEST, EXAMPLE_RESPONSE, JSON
from serving.api.messages import JSONResponse
from serving.api.prediction_app import PredictionApp

LINE = b'{"status":"alive"}\n'


def shop():
    """Return a blueprint with three views."""
    blueprint = Blueprint("shop", "owner")

    @blueprint.get("/things/<name>")
    def thing(name):
        return {"name": name}

    @blueprint.get("/once")
    def once():
        @after_this_request
        def change(response):
            response.headers["X-Once"] = "yes"
            return response

        return {"once": True}

    @blueprint.get("/visits")
    def visits():
        session["visits"] = session.get("visits", 0) + 1
        return {"visits": session["visits"]}

    return blueprint


def add_hooks(target, events):
    """Let an application or a blueprint note in `events` which of its functions are called."""

    def note_response(response):
        events.append("after")
        return response

    target.before_request(lambda: events.append("before"))
    target.after_request(note_response)
    target.teardown_request(lambda _: events.append("teardown"))


def build(app_class, events, hooks_of="application", **config):
    """Return an application with the blueprint, of which one or both have functions."""
    app = app_class("owner", static_folder=None)
    app.config.update(config)
    blueprint = shop()
    if hooks_of in ("application", "both", "values"):
        add_hooks(app, events)
    if hooks_of in ("blueprint", "both"):
        add_hooks(blueprint, events)
    if hooks_of == "values":
        blueprint.url_value_preprocessor(lambda *_: events.append("values"))
    app.register_blueprint(blueprint)
    return app


def outcomes(app, events, paths):
    """Return the responses of an application to a client, and the events of each."""
    client = app.test_client()
    found = []
    for path in paths:
        events.clear()
        response = client.get(path)
        headers = sorted(response.headers.items())
        found.append((response.status, headers, response.data, list(events)))
    return found


@pytest.mark.parametrize("hooks_of", ["application", "blueprint", "both", "values"])
def test_hooks_are_called_as_in_flask(hooks_of):
    """Functions of the application and of a blueprint are called, each time and in order."""
    paths = ["/things/1", "/once", "/once", "/missing"]
    results = []
    for app_class in (Flask, PredictionApp):
        events = []
        app = build(app_class, events, hooks_of)
        results.append(outcomes(app, events, paths))
    assert results[0] == results[1]
    assert {"before", "after", "teardown"} <= set(results[0][1][3])
    assert ("X-Once", "yes") in results[0][2][1]


def test_refusal_before_a_request_is_the_response():
    """What a function before the request returns is the response."""
    app = build(PredictionApp, [])
    app.before_request(lambda: ("closed", 503))
    response = app.test_client().get("/once")
    assert (response.status_code, response.text) == (503, "closed")


def test_coroutine_is_run_before_and_after_a_request():
    """A function before or after a request may be a coroutine function."""
    app = build(PredictionApp, [])

    @app.before_request
    async def refuse():
        return "closed", 503

    @app.after_request
    async def add_header(response):
        response.headers["Retry-After"] = "60"
        return response

    response = app.test_client().get("/once")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "60")


def test_sessions_need_a_key_as_in_flask():
    """With a secret key a client has its session; without one a session cannot be changed."""
    app = build(PredictionApp, [], SECRET_KEY="secret", TESTING=True)
    first = app.test_client()
    assert [first.get("/visits").json["visits"] for _ in range(2)] == [1, 2]
    assert app.test_client().get("/visits").json["visits"] == 1

    keyless = build(PredictionApp, [], TESTING=True).test_client()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no secret key"):
            keyless.get("/visits")


class ServerSessions(SessionInterface):
    """Sessions that are kept here, by a cookie: they need no secret key."""

    class Session(dict, SessionMixin):
        """A session in memory."""

    def __init__(self):
        self.sessions = {}

    def open_session(self, app, request):
        key = request.cookies.get("key", "1")
        return self.sessions.setdefault(key, self.Session())

    def save_session(self, app, session, response):
        response.set_cookie("key", "1")


def test_sessions_of_an_extension_need_no_key():
    """Other sessions than Flask's are saved, too."""
    app = build(PredictionApp, [], TESTING=True)
    app.session_interface = ServerSessions()
    client = app.test_client()
    responses = [client.get("/visits") for _ in range(2)]
    assert [response.json["visits"] for response in responses] == [1, 2]
    assert all("key=1" in response.headers["Set-Cookie"] for response in responses)


@pytest.mark.parametrize(
    "host", ["good.example", "Good.Example", "good.example:80", "[::1]:443", ""]
)
@pytest.mark.parametrize("prefix", ["", "/pre", "/pr\u00e9"])
def test_addresses_are_those_of_flask(host, prefix):
    """Host, prefix, path and query are decoded, and built into addresses, as in Flask."""
    targets = ["/things/a%20b?c=d%20e", "/things/%C3%A4", "/things/%FF", "//things/a", "/none"]
    targets += ["/gr%C3%B6%C3%9Fe/", "/gr%C3%B6%C3%9Fe?x=%C3%A4&y", "/list?x=1"]
    outcomes_by_class = []
    for app_class in (Flask, PredictionApp):
        app = build(app_class, [])
        for path in ("/gr\u00f6\u00dfe/", "/list/"):
            app.add_url_rule(path, path, lambda: url_for("shop.once", _external=True))
        outcomes_by_class.append([])
        for target in targets:
            environ = {"HTTP_HOST": host, "SCRIPT_NAME": prefix.encode().decode("latin-1")}
            response = app.test_client().get(target, environ_overrides=environ)
            location = response.headers.get("Location")
            outcomes_by_class[-1].append((target, response.status_code, location, response.data))
    assert outcomes_by_class[0] == outcomes_by_class[1]


HOST_SETTINGS = {  # of the configuration, of the application, and of the route
    "none": ({}, {}, {}),
    "trusted": ({"TRUSTED_HOSTS": ["good.example"]}, {}, {}),
    "server name": ({"SERVER_NAME": "good.example"}, {}, {}),
    "subdomains": (
        {"SERVER_NAME": "good.example"},
        {"subdomain_matching": True},
        {"subdomain": "api"},
    ),
    "hosts": (
        {},
        {"host_matching": True, "static_host": "good.example"},
        {"host": "api.good.example"},
    ),
}


@pytest.mark.filterwarnings("ignore:Current server name")
@pytest.mark.parametrize(("config", "options", "rule"), HOST_SETTINGS.values(), ids=HOST_SETTINGS)
def test_host_settings_hold_as_in_flask(config, options, rule):
    """What an application says of hosts decides as in Flask which request is answered."""
    outcomes_by_class = []
    for app_class in (Flask, PredictionApp):
        app = app_class("owner", **options)
        app.config.update(config)
        app.add_url_rule("/url", "url", lambda: url_for("url", _external=True), **rule)

        outcomes_by_class.append([])
        for host in ("good.example", "api.good.example", "bad.example"):
            response = app.test_client().get("/url", headers={"Host": host})
            outcomes_by_class[-1].append((host, response.status_code, response.data))
        if "SERVER_NAME" in config:
            with app.app_context():
                outcomes_by_class[-1].append(url_for("url"))
    assert outcomes_by_class[0] == outcomes_by_class[1]


def test_end_of_a_request_is_signalled():
    """An extension that waits for the end of requests is called."""
    ended = []
    app = PredictionApp("owner", static_folder=None)
    with request_tearing_down.connected_to(lambda *_, **__: ended.append("end"), app):
        app.test_client().get("/")
    assert ended == ["end"]


def test_only_paths_of_routes_are_remembered():
    """A path is remembered if it is a route's; not one with a parameter, nor an unknown one."""
    app = create_app()
    client = app.test_client()
    for _ in range(2):
        response = client.post("/predict", data=EXAMPLE_REQUEST, headers=JSON)
        assert response.data == EXAMPLE_RESPONSE
        assert client.get("/predict").status_code == 405
        assert client.get("/v2/models/unknown").status_code == 404
        assert client.get("/unknown").status_code == 404
    assert set(app.rules_by_path) == {("POST", "/predict")}


def respond(response, method="GET", change=None):
    """Return the response that a client receives for one of a view, which `change` may change."""
    app = PredictionApp("owner", static_folder=None)
    app.add_url_rule("/", view_func=lambda: response)

    def change_response(sent):
        if change is not None:
            change(sent)
        return sent

    app.after_request(change_response)
    received = app.test_client().open("/", method=method, buffered=True)
    return received.status, sorted(received.headers.items()), received.data


def replace_body(response):
    response.data = b"{}\n"


def stream_body(response):
    response.response = iter([b"{", b"}\n"])
    response.headers.remove("Content-Length")


def remove_body(response):
    response.status_code = 204


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("change", [None, replace_body, stream_body, remove_body])
def test_json_response_is_sent_as_a_response_of_flask(method, change):
    """Status, headers and body are those of Flask's response, also after a change."""
    ours = respond(JSONResponse(LINE, {"X-A": "b"}), method, change)
    theirs = Response(LINE, headers={"X-A": "b"}, content_type="application/json")
    assert ours == respond(theirs, method, change)
    assert ours[0] in ("200 OK", "204 NO CONTENT")


def test_json_response_is_closed():
    """What a view has asked to be called at the end of its response is called."""
    closed = []
    response = JSONResponse(LINE, {})
    response.call_on_close(lambda: closed.append("closed"))
    assert respond(response)[2] == LINE
    assert closed == ["closed"]

"""Routing, probes, the index and request ids, for SERVICE_URL as well."""

import re

import pytest

from app import create_app
from helpers import EXAMPLE_REQUEST, JSON, NAMES, VERSION, assert_json


def test_other_methods_are_405(call):
    """Another method is answered 405 with the allowed ones."""
    answer = call("GET", "/predict")
    assert_json(answer, 405, {"error": "GET /predict: Method Not Allowed"})
    assert sorted(answer.headers["Allow"].split(", ")) == ["OPTIONS", "POST"]
    assert_json(call("DELETE", "/healthz"), 405, {"error": "DELETE /healthz: Method Not Allowed"})


@pytest.mark.parametrize("path", ["/nothing", "/predict/", "/static/app.py", "/..%2fmodel.pkl"])
def test_unknown_paths_are_404(call, path):
    """An unknown path is answered 404 in JSON."""
    answer = call("POST", path, EXAMPLE_REQUEST, JSON)
    assert answer.status == 404
    assert answer.json["error"].endswith(": Not Found")
    assert answer.headers["Content-Type"] == "application/json"


def test_probes_pass(call):
    """Liveness and readiness are answered 200."""
    assert_json(call("GET", "/healthz"), 200, {"status": "alive"})
    answer = call("GET", "/readyz")
    assert_json(answer, 200, {"status": "ready"})
    assert answer.headers["X-Model-Version"] == VERSION


def test_index_lists_routes(call):
    """The index has the model and each route with a summary."""
    answer = call("GET", "/")
    routes = {(route["method"], route["path"]) for route in answer.json["routes"]}
    rules = create_app().url_map.iter_rules()
    assert routes == {
        (method, rule.rule) for rule in rules for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert all(route["summary"] for route in answer.json["routes"])
    model = {
        "name": "iris",
        "version": VERSION,
        "features": NAMES,
        "classes": ["setosa", "versicolor", "virginica"],
        "prediction_plan": "linear",
    }
    assert_json(answer, 200, {"status": "alive", "model": model, "routes": answer.json["routes"]})


@pytest.mark.parametrize("sent", ["abc-1", "0" * 100, "a.B_c"])
def test_safe_request_id_is_echoed(call, sent):
    """A safe request id is returned with success and failure."""
    assert call("GET", "/healthz", None, {"X-Request-ID": sent}).headers["X-Request-ID"] == sent
    assert call("GET", "/nothing", None, {"X-Request-ID": sent}).headers["X-Request-ID"] == sent


@pytest.mark.parametrize("sent", ["", "a b", '{"x":1}', "0" * 101, "\u00e9"])
def test_unsafe_request_id_is_replaced(call, sent):
    """An unsafe request id is replaced by a random one."""
    answer = call("GET", "/healthz", None, {"X-Request-ID": sent})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])

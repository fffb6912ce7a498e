"""Calls from web pages of other origins: refused by browsers, unless CORS_ORIGINS allows them."""

import pytest

from app import create_app
from helpers import EXAMPLE_REQUEST, JSON, in_process

PAGE = "https://shop.example"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


def allowed(answer):
    """Return the headers of an answer that tell a browser what a page may do."""
    prefix = "Access-Control-"
    return {
        name.removeprefix(prefix): value
        for name, value in answer.headers.items()
        if name.startswith(prefix)
    }


@pytest.mark.parametrize("path", ["/predict", "/invocations", "/v2/models/iris/infer", "/drift"])
def test_preflight_needs_no_key(path):
    """A browser that asks without the key may call each route with it."""
    app = create_app(API_KEYS="one", CORS_ORIGINS=f"http://localhost:3000, {PAGE}")
    answer = in_process(app, "OPTIONS", path, None, PREFLIGHT)
    assert answer.status == 200
    assert allowed(answer) == {
        "Allow-Origin": PAGE,
        "Allow-Methods": "GET, POST",
        "Allow-Headers": "authorization, content-type",
        "Expose-Headers": "Inference-Header-Content-Length, X-Model-Version, X-Request-ID",
        "Max-Age": "600",
    }
    assert answer.headers["Vary"] == "Origin"


def test_page_reads_predictions_and_errors():
    """A page of an allowed origin may read what is answered, errors as well."""
    app = create_app(API_KEYS="one", CORS_ORIGINS=PAGE)
    headers = JSON | {"Origin": PAGE, "Authorization": "Bearer one"}
    for body, key, status in (
        (EXAMPLE_REQUEST, "one", 200),
        (b"{}", "one", 400),
        (EXAMPLE_REQUEST, "two", 401),
    ):
        headers["Authorization"] = f"Bearer {key}"
        answer = in_process(app, "POST", "/predict", body, headers)
        assert (answer.status, allowed(answer)["Allow-Origin"]) == (status, PAGE)


@pytest.mark.parametrize(
    "origin",
    ["https://shop.example.org", "http://shop.example", "https://shopxexample", "null"],
)
def test_other_origin_is_not_allowed(origin):
    """An origin that resembles an allowed one is not allowed."""
    app = create_app(CORS_ORIGINS=f"{PAGE},https://other.example")
    for method, body in (("OPTIONS", None), ("POST", EXAMPLE_REQUEST)):
        headers = JSON | PREFLIGHT | {"Origin": origin}
        assert allowed(in_process(app, method, "/predict", body, headers)) == {}


def test_any_origin():
    """`*` allows every page, without its cookies."""
    answer = in_process(create_app(CORS_ORIGINS="*"), "OPTIONS", "/predict", None, PREFLIGHT)
    assert allowed(answer)["Allow-Origin"] == "*"
    assert "Allow-Credentials" not in allowed(answer)


def test_no_origin_by_default():
    """Without the setting no page may read an answer, and OPTIONS needs a key as any method."""
    app = create_app(API_KEYS="one")
    answer = in_process(app, "OPTIONS", "/predict", None, PREFLIGHT)
    assert (answer.status, allowed(answer)) == (401, {})
    answer = in_process(create_app(), "POST", "/predict", EXAMPLE_REQUEST, JSON | {"Origin": PAGE})
    assert (answer.status, allowed(answer)) == (200, {})

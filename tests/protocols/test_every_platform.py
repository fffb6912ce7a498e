"""What every prediction endpoint has in common: predictions, media types, limits and errors.

With SERVICE_URL set, the requests go to that service, such as the image.
"""

import json

import pytest
from sklearn.datasets import load_iris

from endpoints import (
    ENDPOINTS,
    ESTIMATOR,
    OPEN_INFERENCE,
    ROWS,
    assert_error,
    every_endpoint,
    parametrize_endpoints,
)
from helpers import JSON, SETOSA, VERSION
from serving.config import Settings

INVALID_ROWS = {
    "too few numbers": "[[1,1,1]]",
    "too many numbers": "[[1,1,1,1,1]]",
    "rows of different length": "[[1,1,1,1],[1,1,1]]",
    "no rows": "[]",
    "empty row": "[[]]",
    "boolean": "[[1,1,1,true]]",
    "string in a row": '[[1,1,1,"1"]]',
    "null in a row": "[[1,1,1,null]]",
    "null as row": "[null]",
    "NaN": "[[1,1,1,NaN]]",
    "Infinity": "[[1,1,1,-Infinity]]",
    "beyond float64": "[[1,1,1,1e999]]",
    "integer of 400 digits": f"[[1,1,1,{'9' * 400}]]",
    "beyond float32": "[[1,1,1,1e39]]",
    "string as rows": '"x"',
    "unknown feature": '[{"x":1}]',
    "three dimensions": "[[[1,1,1,1]]]",
    "deep nesting": "[" * 100_000,
}


@every_endpoint
def test_predictions_match_estimator(call, endpoint):
    """Every platform receives the predictions of the estimator itself."""
    rows = load_iris().data
    response = call("POST", endpoint.path, endpoint.encode(rows.tolist()), JSON)
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    assert endpoint.read_predictions(response.json) == ESTIMATOR.predict(rows).tolist()
    assert response.headers["X-Model-Version"] == VERSION


@every_endpoint
@pytest.mark.parametrize("rows", INVALID_ROWS.values(), ids=INVALID_ROWS)
def test_invalid_rows_return_400(call, endpoint, rows):
    """Invalid rows are refused, and the error names no model version."""
    response = call("POST", endpoint.path, endpoint.body(rows), JSON)
    pattern = "Expected|Object|Number out of range|JSON is malformed|too deeply"
    assert_error(response, endpoint, 400, pattern)
    assert "X-Model-Version" not in response.headers


@every_endpoint
@pytest.mark.parametrize(
    ("body", "pattern"),
    [
        (b"", "The body is empty"),
        (b"hello", "JSON is malformed"),
        (
            b'{"features":{"\xff":1}}',
            "not UTF-8|required field|Expected exactly one of|Expected `array`",
        ),
        (b"null", "Expected `.*`, got `null`"),
        (b"{}", "missing required field|Expected exactly one of|Expected `array`"),
    ],
    ids=["empty", "no JSON", "no UTF-8", "null", "no member"],
)
def test_invalid_body_returns_400(call, endpoint, body, pattern):
    """A body that is no request of the platform is refused."""
    assert_error(call("POST", endpoint.path, body, JSON), endpoint, 400, pattern)


@parametrize_endpoints(*(name for name in ENDPOINTS if name != "SageMaker"))
def test_duplicate_key_returns_400(call, endpoint):
    """An object that has a key twice is refused; SageMaker's request is an array."""
    body = endpoint.encode(ROWS)
    name = next(iter(json.loads(body)))
    body = body[:-1] + b',"%s":[]}' % name.encode()
    pattern = f"Object contains field `{name}` twice|Expected"
    assert_error(call("POST", endpoint.path, body, JSON), endpoint, 400, pattern)


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff",
        b'"\xff"',
        b'"\x01"',
        b"NaN",
        b"01",
        b"[" * 9000,
        b"[" * 200_000 + b"]" * 200_000,
        b'{"a":1,"a":1}',
    ],
    ids=[
        "byte",
        "no UTF-8",
        "control character",
        "NaN",
        "leading zero",
        "truncated",
        "deep nesting",
        "duplicate key",
    ],
)
@parametrize_endpoints("KServe V1", "Open Inference V2", "MLflow", "Azure ML")
def test_junk_in_ignored_member_returns_400(call, endpoint, junk):
    """The JSON of a member that is not read must be valid as well."""
    body = endpoint.encode(ROWS)[:-1] + b',"unread":' + junk + b"}"
    pattern = "JSON|not UTF-8|too deeply|twice|truncated"
    assert_error(call("POST", endpoint.path, body, JSON), endpoint, 400, pattern)


@every_endpoint
def test_too_many_rows_return_413(call, endpoint):
    """MAX_ROWS rows are accepted, one row more is not."""
    rows = [SETOSA] * (Settings().max_rows + 1)
    response = call("POST", endpoint.path, endpoint.encode(rows), JSON)
    assert_error(response, endpoint, 413, "Expected at most 10000 rows, got 10001")

    response = call("POST", endpoint.path, endpoint.encode(rows[:-1]), JSON)
    predictions = endpoint.read_predictions(response.json)
    assert (response.status, predictions) == (200, [0] * 10_000)


@every_endpoint
def test_too_large_body_returns_413(call, endpoint):
    """MAX_BODY_BYTES bytes are accepted, one byte more is not."""
    body = endpoint.encode(ROWS).ljust(Settings().max_body_bytes)
    assert call("POST", endpoint.path, body, JSON).status == 200

    response = call("POST", endpoint.path, body + b" ", JSON)
    assert_error(response, endpoint, 413, "Expected at most 1048576 bytes")


@every_endpoint
def test_unsupported_content_returns_415(call, endpoint):
    """Another media type and another compression are refused."""
    body = endpoint.encode(ROWS)
    for headers in ({"Content-Type": "application/xml"}, JSON | {"Content-Encoding": "br"}):
        response = call("POST", endpoint.path, body, headers)
        assert_error(response, endpoint, 415, "Expected Content-(Type|Encoding)")


@parametrize_endpoints(*(name for name in ENDPOINTS if name != "own API"))
def test_unacceptable_response_returns_406(call, endpoint):
    """Accept is negotiated on the platforms' routes; our own API always sends JSON."""
    body = endpoint.encode(ROWS)
    response = call("POST", endpoint.path, body, JSON | {"Accept": "text/html, image/*"})
    assert_error(response, endpoint, 406, "Expected an Accept that admits application/json")

    accepted = [
        "",
        "*/*",
        "application/*",
        "text/html, */*;q=0.1",
        "application/json, text/csv",
    ]
    for accept in accepted:
        response = call("POST", endpoint.path, body, JSON | {"Accept": accept})
        assert response.headers["Content-Type"] == "application/json"


@every_endpoint
def test_wrong_method_returns_405(call, endpoint):
    """PUT is refused, and Allow names the methods."""
    response = call("PUT", endpoint.path)
    assert_error(response, endpoint, 405, f"PUT {endpoint.path}: Method Not Allowed")
    assert "POST" in response.headers["Allow"]


@pytest.mark.parametrize("path", ["/v1/models/iris:predict", "/v2/models/iris/infer"])
def test_get_of_action_returns_405(call, path):
    """GET of an action is a wrong method, not an unknown model."""
    response = call("GET", path)
    allowed = sorted(response.headers["Allow"].split(", "))
    assert (response.status, allowed) == (405, ["OPTIONS", "POST"])


@pytest.mark.parametrize(
    "route",
    [
        "POST /v2/models/rose/infer",
        "POST /v2/models/iris/versions/2/infer",
        "GET /v2/models/rose",
        "GET /v2/models/iris/versions/2",
        "GET /v2/models/rose/ready",
        "POST /v1/models/rose:predict",
        "POST /v1/models/iris/versions/2:predict",
        "GET /v1/models/rose",
        "GET /v2/nothing",
    ],
)
def test_unknown_model_returns_404(call, route):
    """Another model name, another version and an unknown path are not found."""
    method, path = route.split()
    response = call(method, path, b"{}", JSON)
    assert_error(response, OPEN_INFERENCE, 404, f"{method} {path}: Not Found(; expected |$)")


def test_unknown_model_names_the_served_one(call):
    """The error names the model, or its version, that is served."""
    response = call("GET", "/v2/models/rose")
    assert response.json == {"error": "GET /v2/models/rose: Not Found; expected the model iris"}
    response = call("GET", "/v2/models/iris/versions/2")
    assert response.json["error"].endswith(f"Not Found; expected the version {VERSION}")

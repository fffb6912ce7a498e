"""Requests of clients of SageMaker, MLflow and Azure ML are answered or refused as in the table."""

import gzip

import pytest

from client_requests import ANSWERED, INVOCATIONS, JSON_LINES, REFUSED, SCORE, encode, lines
from endpoints import ENDPOINTS, ROWS, assert_error
from helpers import VERSION


def endpoint_at(path):
    return next(endpoint for endpoint in ENDPOINTS.values() if endpoint.path == path)


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("path", "content_type", "body", "expected"), ANSWERED.values(), ids=ANSWERED
)
def test_request_is_answered(call, path, content_type, body, expected, compressed):
    """Each request gets its predictions, and is the same if it is compressed."""
    headers = {"Content-Type": content_type, "Accept": "application/json"}
    if compressed:
        headers["Content-Encoding"] = "gzip"
        body = gzip.compress(body)
    response = call("POST", path, body, headers)
    assert (response.status, response.json) == (200, expected)
    assert response.headers["X-Model-Version"] == VERSION


@pytest.mark.parametrize(
    ("path", "content_type", "body", "status", "pattern"), REFUSED.values(), ids=REFUSED
)
def test_request_is_refused(call, path, content_type, body, status, pattern):
    """Each request is refused with what is wrong and where."""
    response = call("POST", path, body, {"Content-Type": content_type})
    assert_error(response, endpoint_at(path), status, pattern)


def test_json_lines_return_json_lines(call):
    """JSON lines are answered with one prediction in each line, unless Accept says otherwise."""
    headers = {"Content-Type": "application/jsonlines"}
    response = call("POST", INVOCATIONS, lines(*JSON_LINES), headers)
    assert response.headers["Content-Type"] == "application/jsonlines"
    assert response.body == b"0\n2\n"

    headers["Accept"] = "text/csv"
    response = call("POST", INVOCATIONS, lines(*JSON_LINES), headers)
    assert response.headers["Content-Type"] == "text/csv"


def test_method_predict_proba_returns_probabilities(call):
    """Azure's `method` asks for a row of probabilities for each row."""
    body = encode({"data": ROWS, "method": "predict_proba"})
    response = call("POST", SCORE, body, {"Content-Type": "application/json"})
    own = call(
        "POST",
        "/predict",
        encode({"features": ROWS, "outputs": ["probability"]}),
        {"Content-Type": "application/json"},
    )
    assert (response.status, response.json) == (200, own.json["probability"])

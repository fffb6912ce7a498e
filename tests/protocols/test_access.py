"""Every platform's endpoints: API keys, counters, probes, and unexpected errors."""

import json

import pytest

from app import create_app
from endpoints import PROBE_PATHS, ROWS, VERTEX_AI, assert_error, every_endpoint
from helpers import JSON, VERSION, in_process

AUTHORIZED = {"Authorization": "Bearer one"}


@every_endpoint
def test_predictions_need_key(endpoint):
    """Without a key a prediction is refused; with one it is counted by row and class."""
    app = create_app(API_KEYS="one")
    body = endpoint.encode(ROWS)
    response = in_process(app, "POST", endpoint.path, body, JSON)
    assert_error(response, endpoint, 401, "Expected Authorization: Bearer with a valid key")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert in_process(app, "POST", endpoint.path, body, JSON | AUTHORIZED).status == 200

    metrics = in_process(app, "GET", "/metrics", None, AUTHORIZED).body.decode()
    assert f'rows_total{{model_version="{VERSION}"}} 2.0' in metrics
    assert f'predictions_total{{class="2",model_version="{VERSION}"}} 1.0' in metrics


@every_endpoint
def test_unexpected_error_returns_500(endpoint, caplog):
    """The response to an unexpected error hides its text; the log has it."""
    app = create_app()

    def fail(rows):
        raise RuntimeError("secret")

    app.extensions["model"].predict = fail
    response = in_process(app, "POST", endpoint.path, endpoint.encode(ROWS), JSON)
    assert response.status == 500
    assert response.json == endpoint.error_body("Internal Server Error", 500)
    assert "secret" in caplog.text


def test_probes_need_no_key(caplog):
    """Probes need no key and are not logged; predictions on the same path need one and are."""
    app = create_app(API_KEYS="one", AIP_HEALTH_ROUTE="/alive")
    caplog.set_level("INFO")
    for path in [*PROBE_PATHS, "/alive"]:
        assert in_process(app, "GET", path).status == 200
    assert "GET" not in caplog.text

    body = json.dumps({"instances": ROWS})
    assert in_process(app, "POST", VERTEX_AI.path, body, JSON).status == 401
    caplog.clear()
    assert in_process(app, "POST", VERTEX_AI.path, body, JSON | AUTHORIZED).status == 200
    assert "POST" in caplog.text


@pytest.fixture(scope="module")
def failing_app():
    """Return the service with a model that fails its self-test."""
    app = create_app()
    app.extensions["model"].estimator.coef_[:] = 0
    return app


@pytest.mark.parametrize(
    "path",
    [
        "/ping",
        "/health",
        "/v2/health/ready",
        "/v2/models/iris/ready",
        "/v1/models/iris",
        VERTEX_AI.path,
    ],
)
def test_failed_self_test_returns_503(failing_app, path):
    """A model that fails its self-test is ready on no platform."""
    assert in_process(failing_app, "GET", path).status == 503


def test_failed_self_test_stays_live(failing_app):
    """Liveness does not depend on the model."""
    assert in_process(failing_app, "GET", "/v2/health/live").status == 200

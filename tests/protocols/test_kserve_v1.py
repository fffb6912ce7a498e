"""KServe V1, TensorFlow Serving, Vertex AI: instances, model status, and Vertex AI's paths."""

import json

import pytest

from app import ConfigurationError, create_app
from endpoints import (
    CLASSES,
    KSERVE_V1,
    NAMED_ROWS,
    ROWS,
    ROWS_BY_COLUMN,
    VERTEX_AI,
    assert_error,
)
from helpers import EXAMPLE_REQUEST, JSON, SETOSA, VERSION, in_process


def test_model_status(call):
    """The status serves KServe (`ready`) and TensorFlow Serving (`model_version_status`)."""
    version_status = {
        "version": VERSION,
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    assert call("GET", "/v1/models/iris").json == {
        "name": "iris",
        "ready": True,
        "model_version_status": [version_status],
    }


def test_list_models(call):
    """The list names the one model that is served."""
    assert call("GET", "/v1/models").json == {"models": ["iris"]}


def test_index_reports_alive(call):
    """KServe V1 and Azure ML read `status` at the root."""
    assert call("GET", "/").json["status"] == "alive"


def test_vertex_ai_health(call):
    """Vertex AI's default health path is its predict path."""
    response = call("GET", VERTEX_AI.path)
    assert (response.status, response.body) == (200, b"\n")


@pytest.mark.parametrize(
    "payload",
    [
        {"instances": NAMED_ROWS, "parameters": {"x": [[[]]]}, "signature_name": "x"},
        {"inputs": ROWS_BY_COLUMN},
    ],
    ids=["instances", "inputs"],
)
def test_rows_by_feature_name(call, payload):
    """Rows may be objects, or one object with a column for each feature."""
    response = KSERVE_V1.post(call, payload)
    assert KSERVE_V1.read_predictions(response.json) == CLASSES


@pytest.mark.parametrize(
    ("payload", "pattern"),
    [
        (
            {"instances": ROWS, "inputs": ROWS},
            "Expected exactly one of instances, inputs, got instances and inputs",
        ),
        ({"instances": [SETOSA, NAMED_ROWS[0]]}, "Expected rows of one kind"),
    ],
    ids=["both members", "mixed rows"],
)
def test_conflicting_members_return_400(call, payload, pattern):
    """A request has one list of rows, and all its rows have one form."""
    assert_error(KSERVE_V1.post(call, payload), KSERVE_V1, 400, pattern)


def test_vertex_ai_routes():
    """AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE replace our own routes on the same paths."""
    app = create_app(AIP_HEALTH_ROUTE="/healthz", AIP_PREDICT_ROUTE="/predict")
    body = json.dumps({"instances": ROWS})
    assert in_process(app, "GET", "/healthz").body == b"\n"
    assert in_process(app, "POST", "/predict", body, JSON).json == {"predictions": CLASSES}
    assert in_process(app, "POST", "/predict", EXAMPLE_REQUEST, JSON).status == 400


def test_vertex_ai_routes_share_path():
    """Health and predict may have the same path; our own predict route stays."""
    app = create_app(AIP_HEALTH_ROUTE="/a", AIP_PREDICT_ROUTE="/a")
    body = json.dumps({"instances": ROWS})
    assert in_process(app, "GET", "/a").status == 200
    assert in_process(app, "POST", "/a", body, JSON).status == 200
    assert in_process(app, "POST", "/predict", EXAMPLE_REQUEST, JSON).json == {"prediction": [0]}

    document = in_process(app, "GET", "/openapi.json").json
    assert document["paths"]["/a"].keys() == {"get", "post"}


@pytest.mark.parametrize("route", ["a", "/<a>", "/a b", "/a?b", "/a\n"])
def test_invalid_vertex_ai_route(route):
    """A route that is no plain path is a configuration error."""
    with pytest.raises(ConfigurationError, match="AIP_HEALTH_ROUTE: expected a path, got "):
        create_app(AIP_HEALTH_ROUTE=route)

"""Models other than the shipped one: regressors, other classes, one feature, no model card."""

import csv
import json
import struct

import joblib
import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app import create_app
from endpoints import CLASSES, CSV, NAMED_ROWS, ROWS, SHUFFLED_SPLIT
from helpers import JSON, in_process
from serving.model.card import ClassInfo, FeatureInfo
from serving.model.storage import save_model

ACCEPT_CSV = JSON | {"Accept": "text/csv"}


def create_app_with(tmp_path, estimator, X, names=None, classes=()):
    """Return the service of a saved estimator with a model card."""
    names = names or [f"f{i}" for i in range(X.shape[1])]
    path = tmp_path / "model.pkl"
    save_model(
        path,
        estimator,
        name="m",
        features=[
            FeatureInfo(name=name, minimum=0.0, maximum=1.0, edges=[0.0, 1.0], shares=[1.0])
            for name in names
        ],
        rows=len(X),
        metrics={},
        data={},
        reference=X[:3],
        classes=list(classes),
    )
    return create_app(MODEL_PATH=str(path))


def post_infer(app, rows, **members):
    """Send one tensor of rows to Open Inference V2."""
    tensor = {
        "name": "x",
        "shape": list(np.shape(rows)),
        "datatype": "FP64",
        "data": np.asarray(rows).tolist(),
    }
    body = msgspec.json.encode({"inputs": [tensor]} | members)
    return in_process(app, "POST", "/v2/models/m/infer", body, JSON)


def read_csv(response):
    return list(csv.reader(response.body.decode().splitlines()))


@pytest.fixture(scope="module")
def regressor(tmp_path_factory):
    """Return a service with a regressor, two of its rows, and their predictions."""
    X, y = load_diabetes(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LinearRegression()).fit(X, y)
    app = create_app_with(tmp_path_factory.mktemp("regressor"), pipeline, X)
    return app, X[:2].tolist(), pipeline.predict(X[:2]).tolist()


def test_regressor_with_open_inference(regressor):
    """A regressor has one output of floats."""
    app, rows, expected = regressor
    assert in_process(app, "GET", "/v2/models/m").json["outputs"] == [
        {"name": "predict", "datatype": "FP64", "shape": [-1]}
    ]
    [output] = post_infer(app, rows).json["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("predict", "FP64", [2])
    np.testing.assert_allclose(output["data"], expected)


@pytest.mark.parametrize(
    ("path", "member"),
    [("/v1/models/m:predict", "instances"), ("/invocations", None), ("/score", "data")],
)
def test_regressor_with_tabular_request(regressor, path, member):
    """A regressor returns floats in each tabular format."""
    app, rows, expected = regressor
    request = {member: rows} if member else rows
    payload = in_process(app, "POST", path, msgspec.json.encode(request), JSON).json
    predictions = payload["predictions"] if isinstance(payload, dict) else payload
    np.testing.assert_allclose(predictions, expected)


def test_regressor_with_several_outputs(tmp_path):
    """A regressor with two outputs returns a row of two for each row, in JSON and CSV."""
    X, y = load_diabetes(return_X_y=True)
    estimator = LinearRegression().fit(X, np.column_stack([y, -y]))
    app = create_app_with(tmp_path, estimator, X)
    expected = estimator.predict(X[:2])
    assert in_process(app, "GET", "/v2/models/m").json["outputs"] == [
        {"name": "predict", "datatype": "FP64", "shape": [-1, 2]}
    ]
    [output] = post_infer(app, X[:2]).json["outputs"]
    assert output["shape"] == [2, 2]
    np.testing.assert_allclose(output["data"], expected.ravel())

    body = msgspec.json.encode(X[:2].tolist())
    response = in_process(app, "POST", "/invocations", body, ACCEPT_CSV)
    predictions = [list(map(float, line)) for line in read_csv(response)]
    np.testing.assert_allclose(predictions, expected)


@pytest.mark.parametrize(
    ("values", "datatype", "binary_data"),
    [
        (["no", "yes, it is"], "BYTES", struct.pack("<I2sI10s", 2, b"no", 10, b"yes, it is")),
        ([False, True], "BOOL", b"\0\1"),
    ],
    ids=["text", "boolean"],
)
def test_other_class_types(tmp_path, values, datatype, binary_data):
    """Classes that are texts or booleans keep their type in JSON, binary data and CSV."""
    X, y = load_iris(return_X_y=True)
    two_classes = y < 2
    X = X[two_classes]
    y = np.array(values)[y[two_classes]]
    rows = X[[0, -1]]
    classes = [ClassInfo(value, f"label of {value}", 0.5) for value in values]
    app = create_app_with(tmp_path, LogisticRegression().fit(X, y), X, classes=classes)
    outputs = in_process(app, "GET", "/v2/models/m").json["outputs"]
    assert outputs[0]["datatype"] == datatype

    requested = [{"name": "predict"}]
    [output] = post_infer(app, rows, outputs=requested).json["outputs"]
    assert (output["datatype"], output["data"]) == (datatype, values)

    parameters = {"binary_data_output": True}
    response = post_infer(app, rows, outputs=requested, parameters=parameters)
    json_length = int(response.headers["Inference-Header-Content-Length"])
    assert response.body[json_length:] == binary_data

    response = in_process(app, "POST", "/invocations", json.dumps(rows.tolist()), ACCEPT_CSV)
    assert read_csv(response) == [[str(value)] for value in values]


@pytest.fixture(scope="module")
def app_without_card(tmp_path_factory):
    """Return a service whose model has no model card."""
    path = tmp_path_factory.mktemp("no_card") / "model.pkl"
    X, y = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=200).fit(X, y), path)
    return create_app(MODEL_PATH=str(path))


def test_no_card_metadata(app_without_card):
    """Without a card the model is called `model` and has no labels."""
    metadata = in_process(app_without_card, "GET", "/v2/models/model").json
    names = [output["name"] for output in metadata["outputs"]]
    assert names == ["predict", "predict_proba"]


def test_no_card_numbered_columns(app_without_card):
    """Without a card the columns are numbers."""
    split = {"columns": [0, 1, 2, 3], "data": ROWS}
    body = json.dumps({"dataframe_split": split})
    response = in_process(app_without_card, "POST", "/invocations", body, JSON)
    assert response.json == {"predictions": CLASSES}


@pytest.mark.parametrize(
    "payload",
    [
        {"instances": [{}]},
        {"inputs": {}},
        {"instances": NAMED_ROWS},
        {"dataframe_split": SHUFFLED_SPLIT},
    ],
    ids=["empty row", "no columns", "named rows", "named columns"],
)
def test_no_card_rejects_names(app_without_card, payload):
    """Without a card no feature has a name."""
    body = json.dumps(payload)
    assert in_process(app_without_card, "POST", "/invocations", body, JSON).status == 400


def test_no_card_rejects_csv_header(app_without_card):
    """Without a card a CSV header is refused."""
    lines = [SHUFFLED_SPLIT["columns"], *SHUFFLED_SPLIT["data"]]
    body = "\n".join(",".join(map(str, line)) for line in lines)
    assert in_process(app_without_card, "POST", "/invocations", body, CSV).status == 400


@pytest.fixture(scope="module")
def app_with_one_feature(tmp_path_factory):
    X, y = load_iris(return_X_y=True)
    estimator = LinearRegression().fit(X[:, :1], y)
    return create_app_with(tmp_path_factory.mktemp("one"), estimator, X[:, :1], names=["a"])


@pytest.mark.parametrize(("name", "shape"), [("a", [2]), ("a", [2, 1]), ("x", [2, 1]), ("x", [1])])
def test_single_feature(app_with_one_feature, name, shape):
    """With one feature a tensor of one dimension is a column if it has the feature's name."""
    data = [1.0, 2.0][: shape[0]]
    tensor = {"name": name, "shape": shape, "datatype": "FP64", "data": data}
    body = msgspec.json.encode({"inputs": [tensor]})
    response = in_process(app_with_one_feature, "POST", "/v2/models/m/infer", body, JSON)
    assert response.json["outputs"][0]["shape"] == shape[:1]

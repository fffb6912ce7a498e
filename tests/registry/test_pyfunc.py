"""MLflow's own tools with a version: pyfunc and `mlflow models serve` answer as the service."""

import json
import os

import mlflow
import msgspec
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from app import create_app
from fixture_models import MEASUREMENTS, load_penguins, model_file
from helpers import JSON, free_port, in_process, over_http
from registries import BIN, register, run_python
from serving.model.card import FeatureInfo
from serving.model.errors import InvalidInput, ModelError
from serving.model.loading import load_model
from serving.registry.mlflow_model import describe_column, find_trusted_types
from serving.registry.pyfunc import ServedModel
from serving.training.dataset import Dataset
from serving.training.training import train_model, write_model

COLUMNS = [*MEASUREMENTS, "island", "sex"]

PREDICT = """
import sys, json
import mlflow, pandas
model = mlflow.pyfunc.load_model("models:/penguins/1")
penguins = pandas.read_csv(sys.argv[1])
print(json.dumps(model.predict(penguins).tolist()))
print(sys.modules["serving.model"].__file__)
"""


@pytest.fixture(scope="module")
def penguins_server(mlflow_server):
    """Return the address of the server, with the penguins as a version."""
    register(mlflow_server.url, model_file("penguins"), "penguins")
    return mlflow_server.url


@pytest.fixture
def penguins(penguins_server, monkeypatch):
    """Return MLflow's pyfunc of the penguins."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", penguins_server)
    return mlflow.pyfunc.load_model("models:/penguins/1")


def test_signature_has_names_and_types(penguins):
    """The signature is that of the card; a column that may be missing is optional."""
    inputs = penguins.metadata.signature.inputs.to_dict()
    types = ["double"] * 4 + ["string"] * 2
    assert [column["name"] for column in inputs] == COLUMNS
    assert [column["type"] for column in inputs] == types
    optional = [column["name"] for column in inputs if not column["required"]]
    assert optional == [*MEASUREMENTS, "sex"]
    assert penguins.input_example.columns.tolist() == COLUMNS


@pytest.mark.parametrize(
    ("feature", "data_type"),
    [
        (FeatureInfo(name="a"), "double"),
        (FeatureInfo(name="a", type="integer"), "long"),
        (FeatureInfo(name="a", type="integer", nullable=True), "double"),
        (FeatureInfo(name="a", type="boolean", nullable=True), "boolean"),
        (FeatureInfo(name="a", type="category", categories=["x"]), "string"),
        (FeatureInfo(name="a", type="category", categories=[1, 2]), "long"),
        (FeatureInfo(name="a", type="text"), "string"),
    ],
)
def test_each_type_has_a_type_of_mlflow(feature, data_type):
    """Each type of a feature is a type of MLflow, whose integers cannot be missing."""
    column = describe_column(feature).to_dict()
    assert column == {"type": data_type, "name": "a", "required": not feature.nullable}


def test_dataframe_gets_the_predictions_of_the_estimator(penguins):
    """The DataFrame that the model was trained on, with its gaps, in another order and in parts."""
    frame = load_penguins()[COLUMNS]
    assert frame.isna().any().sum() == 5
    expected = load_model(model_file("penguins")).estimator.predict(frame).tolist()
    assert penguins.predict(frame).tolist() == expected
    assert penguins.predict(frame[COLUMNS[::-1]].assign(year=2007)).tolist() == expected

    without_sex = frame.assign(sex=frame["sex"].where(frame["sex"].isna()))
    expected = load_model(model_file("penguins")).estimator.predict(without_sex).tolist()
    assert penguins.predict(frame.drop(columns="sex")).tolist() == expected


def test_version_needs_no_checkout(penguins_server, tmp_path):
    """In another directory the copy of our loader in the version is used."""
    csv = tmp_path / "penguins.csv"
    frame = load_penguins()[COLUMNS]
    frame.to_csv(csv)
    status, output, errors = run_python(
        tmp_path, "-c", PREDICT, csv, MLFLOW_TRACKING_URI=penguins_server
    )
    assert status == 0, errors
    predictions, module = output.splitlines()
    assert (
        json.loads(predictions)
        == load_model(model_file("penguins")).estimator.predict(frame).tolist()
    )
    assert module.endswith("/code/serving/model/__init__.py")


def test_mlflow_server_answers_as_the_service(penguins_server, start_server, tmp_path):
    """`mlflow models serve` and our `/invocations` answer the same requests alike."""
    port = free_port()
    command = [BIN / "mlflow", "models", "serve", "--model-uri", "models:/penguins/1"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", port]
    environ = os.environ | {"MLFLOW_TRACKING_URI": penguins_server, "PATH": f"{BIN}:/usr/bin:/bin"}
    start_server(command, f"http://127.0.0.1:{port}/ping", tmp_path, environ)
    app = create_app(MODEL_PATH=str(model_file("penguins")))

    frame = load_penguins()[COLUMNS].head(9)
    rows = json.loads(frame.to_json(orient="values"))
    assert None in rows[3]
    records = []
    for row in rows:
        values = zip(COLUMNS, row, strict=True)
        records.append({name: value for name, value in values if value is not None})

    for payload in (
        {"dataframe_split": {"columns": COLUMNS, "data": rows}},
        {"dataframe_records": records},
    ):
        body = msgspec.json.encode(payload)
        ours = in_process(app, "POST", "/invocations", body, JSON)
        theirs = over_http(f"127.0.0.1:{port}", "POST", "/invocations", body, JSON)
        assert (ours.status, theirs.status) == (200, 200)
        assert theirs.json == ours.json


def test_array_model_takes_arrays_and_names(monkeypatch, registered):
    """A model of arrays takes an array, and a DataFrame with its columns in any order."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registered)
    iris = mlflow.pyfunc.load_model("models:/iris/1")
    model = load_model(model_file("iris"))
    rows = np.array([reference.features for reference in model.card.reference])
    expected = model.estimator.predict(rows).tolist()

    frame = pd.DataFrame(rows, columns=model.features)
    for model_input in (rows, rows.tolist(), frame, frame[model.features[::-1]]):
        assert iris.predict(model_input).tolist() == expected


def test_missing_value_is_refused_as_in_the_service():
    """A value that must not be missing is refused with its row and name."""
    model = load_model(model_file("penguins"))
    frame = load_penguins()[COLUMNS].head(3)
    frame.loc[1, "island"] = None
    with pytest.raises(InvalidInput, match="Row 1 has no value of `island`"):
        ServedModel(model).predict(frame)


def test_integers_and_booleans_may_be_missing(monkeypatch, mlflow_server, tmp_path):
    """An integer and a boolean that are missing are what the estimator was trained with."""
    frame = pd.DataFrame(
        {
            "rooms": [1, None, 3, 4, 5, 6, 7, 8, 9, 10],
            "garden": [True, False, None, True, False] * 2,
            "city": ["Bern", "Bonn"] * 5,
        }
    )
    columns = make_column_transformer(
        (SimpleImputer(), ["rooms"]), (OneHotEncoder(), ["garden", "city"])
    )
    dataset = Dataset(frame, np.arange(10.0), types={"rooms": "integer"})
    model = train_model("flats", dataset, lambda: make_pipeline(columns, Ridge()))
    write_model(tmp_path / "model.pkl", model)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
    register(mlflow_server.url, tmp_path / "model.pkl", "flats")
    flats = mlflow.pyfunc.load_model("models:/flats/1")
    types = [column["type"] for column in flats.metadata.signature.inputs.to_dict()]
    assert types == ["double", "boolean", "string"]
    np.testing.assert_allclose(flats.predict(frame), model.estimator.predict(model.data.X))
    with pytest.raises(InvalidInput, match="The values of `rooms` must be integers"):
        flats.predict(frame.assign(rooms=2.5))


def test_skops_gets_only_types_of_the_allow_list():
    """A type that is not on the allow-list is never trusted; those of an estimator are."""
    allowed = make_pipeline(FunctionTransformer(np.clip), LogisticRegression())
    assert find_trusted_types(skops.io.dumps(allowed)) == ["numpy.clip"]

    hostile = FunctionTransformer(os.path.join)
    with pytest.raises(ModelError, match=r"posixpath\.join, which is not on the allow-list"):
        find_trusted_types(skops.io.dumps(hostile))
    method = FunctionTransformer(LogisticRegression().fit)
    with pytest.raises(ModelError, match=r"LogisticRegression cannot be imported"):
        find_trusted_types(skops.io.dumps(method))

"""Predictions of the batch: the service's numbers, a regressor, the drift verdict."""

import re

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LinearRegression

from batches import (
    IRIS,
    LABELS,
    batch_error,
    iris_table,
    read_csv_rows,
    run_batch,
)
from helpers import NAMES
from serving.model.card import FeatureInfo
from serving.model.storage import save_model
from serving.monitoring.drift import bin_shares, quantile_edges


def test_drift_covers_whole_file(tmp_path):
    """The drift verdict is about all rows of the file."""
    pq.write_table(iris_table(20_000, noise=0), tmp_path / "in.parquet")
    assert "  drift     quiet\n" in run_batch(tmp_path / "in.parquet", tmp_path / "out.parquet")
    data = iris_table(20_000, noise=0)
    moved = data.set_column(1, NAMES[3], pa.array(data.column(NAMES[3]).to_numpy() + 1))
    pq.write_table(moved, tmp_path / "in.parquet")
    printed = run_batch(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert re.search(r"  drift     petal width \(cm\) [0-9.]+, classes [0-9.]+\n", printed)
    pq.write_table(iris_table(99), tmp_path / "in.parquet")
    assert "  drift     too few rows\n" in run_batch(
        tmp_path / "in.parquet", tmp_path / "out.parquet"
    )


def test_scores_with_regressor(tmp_path):
    """A regressor adds a prediction, and neither label nor probabilities."""
    X = IRIS.data[:, :3]
    y = IRIS.data[:, 3]
    features = []
    for name, column in zip("abc", X.T, strict=True):
        edges = quantile_edges(column)
        bounds = float(column.min()), float(column.max())
        features.append(
            FeatureInfo(
                name=name,
                minimum=bounds[0],
                maximum=bounds[1],
                edges=edges.tolist(),
                shares=bin_shares(column, edges).tolist(),
            )
        )
    card_fields = {
        "name": "width",
        "features": features,
        "classes": [],
        "rows": 150,
        "metrics": {},
        "data": {},
    }
    estimator = LinearRegression().fit(X, y)
    save_model(tmp_path / "model.pkl", estimator, reference=X[:2], **card_fields)
    (tmp_path / "in.csv").write_text("a,b,c\n5.1,3.5,1.4\n,3.5,1.4\n")
    run_batch(
        tmp_path / "in.csv",
        tmp_path / "out.csv",
        "--model",
        tmp_path / "model.pkl",
        "--on-error",
        "null",
    )
    head, first, second = read_csv_rows(tmp_path / "out.csv")
    assert head == ["a", "b", "c", "prediction"] and second == ["", "3.5", "1.4", ""]
    assert float(first[3]) == pytest.approx(estimator.predict([[5.1, 3.5, 1.4]])[0])
    assert "no probabilities" in batch_error(
        tmp_path / "in.csv", tmp_path / "out.csv", "--proba", "--model", tmp_path / "model.pkl"
    )
    (tmp_path / "model.json").unlink()
    assert "has no model card" in batch_error(
        tmp_path / "in.csv", tmp_path / "out.csv", "--model", tmp_path / "model.pkl"
    )


def test_service_and_batch_agree(call, tmp_path):
    """The service and the batch return the same predictions and probabilities."""
    data = iris_table(300)
    rows = [
        list(row) for row in zip(*(data.column(name).to_pylist() for name in NAMES), strict=True)
    ]
    body = msgspec.json.encode({"features": rows, "outputs": ["label", "probability"]})
    answer = call("POST", "/predict", body, {"Content-Type": "application/json"}).json
    pq.write_table(data, tmp_path / "in.parquet")
    run_batch(tmp_path / "in.parquet", tmp_path / "out.parquet", "--proba")
    output = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert output["prediction"] == answer["prediction"] and output["label"] == answer["label"]
    probabilities = np.column_stack([output[f"probability_{label}"] for label in LABELS])
    np.testing.assert_allclose(probabilities, answer["probability"], rtol=1e-9)

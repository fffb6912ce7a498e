"""Thirty-eight models in a batch: each predicts from files and lines as its estimator does."""

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from documentation import table
from serving.batch.files import score_files
from serving.batch.ndjson import NdjsonScorer
from serving.batch.scoring import Scorer
from serving.model.loading import load_model
from zoo import ZOO
from zoo_models import zoo_model

DOCUMENTED = {row[0]: row[3] for row in table("your-model.md", "Models that were tried")}

MAX_ROWS = 200


def feature_table(model, rows):
    """Return rows as a table, in which the model's features are in reverse order."""
    values = model.signature.to_values(rows)
    columns = dict(zip(model.signature.names, zip(*values, strict=True), strict=True))
    return pa.table({name: list(columns[name]) for name in reversed(columns)})


def read_predictions(output):
    """Return the predictions in a table, with one column for each output, as rows or values."""
    names = [name for name in output.column_names if name.startswith("prediction")]
    columns = [output.column(name).to_pylist() for name in names]
    if len(columns) == 1:
        return np.array(columns[0])
    return np.array(list(zip(*columns, strict=True)))


def assert_equal(actual, expected):
    if np.asarray(expected).dtype.kind == "f":
        np.testing.assert_allclose(np.asarray(actual, float), expected, rtol=1e-9)
    else:
        assert list(map(str, actual.ravel())) == list(map(str, expected.ravel()))


@pytest.mark.parametrize("name", ZOO)
def test_model_scores_files_and_lines(tmp_path, name):
    """Parquet, CSV and JSON lines have the predictions of the estimator."""
    trained, path = zoo_model(name)
    model = load_model(path)
    scorer = Scorer(model, "fail", proba=False, keep=None)
    rows = trained.data.rows[:MAX_ROWS]
    expected = np.asarray(trained.estimator.predict(trained.data.X[: len(rows)]))
    data = feature_table(model, rows)

    pq.write_table(data, tmp_path / "in.parquet")
    pyarrow.csv.write_csv(data, tmp_path / "in.csv")
    for kind in ("parquet", "csv"):
        total, _ = score_files(
            scorer, [f"{tmp_path}/in.{kind}"], f"{tmp_path}/{kind}.parquet", None
        )
        assert (total.rows, total.n_bad) == (len(rows), 0)
        assert_equal(read_predictions(pq.read_table(tmp_path / f"{kind}.parquet")), expected)
    score_files(scorer, [f"{tmp_path}/in.csv"], f"{tmp_path}/out.csv", None)
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    output = pyarrow.csv.read_csv(tmp_path / "out.csv", parse_options=options)
    assert_equal(read_predictions(output), expected)

    block = b"\n".join(msgspec.json.encode(record) for record in data.to_pylist())
    lines, stats = NdjsonScorer(scorer)(block)
    predictions = [msgspec.json.decode(line)["prediction"] for line in lines.split(b"\n") if line]
    assert stats.n_bad == 0
    assert_equal(np.array(predictions), expected)
    assert DOCUMENTED[name] == "yes"

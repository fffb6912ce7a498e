"""Files that packages ship and write: the batch reads what a program in pandas would read."""

from importlib.util import find_spec
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from fixture_models import PENGUINS, load_penguins, model_file
from serving.batch.csv_format import ReadOptions
from serving.batch.files import score_files
from serving.batch.scoring import Scorer
from serving.model.loading import load_model
from serving.training.dataset import Dataset
from serving.training.training import train_model, write_model

STATSMODELS = {
    "anes96/anes96.csv": "\t",
    "committee/committee.csv": ",",
    "co2/co2.csv": ",",
    "copper/copper.csv": ",",
    "grunfeld/grunfeld.csv": ",",
    "modechoice/modechoice.csv": ";",
    "spector/spector.csv": "\t",
    "star98/star98.csv": ",",
    "statecrime/statecrime.csv": ",",
}
VEGA = ["iowa-electricity", "la-riots", "seattle-weather", "stocks", "us-employment"]
# Without a header, or with a delimiter that is not guessed.
SCIKIT_LEARN = {
    "diabetes_data_raw.csv.gz": {"delimiter": " ", "has_header": False},
    "digits.csv.gz": {"has_header": False},
    "linnerud_exercise.csv": {"delimiter": " "},
}


def shipped_file(package, name):
    """Return the path of a file in a package, which is not imported."""
    return Path(find_spec(package).origin).parent / name


def score(path, output, model_path, **reading):
    """Score a file or a directory in this process; return the number of rows."""
    scorer = Scorer(load_model(model_path), "fail", False, None, ReadOptions(**reading))
    total, _ = score_files(scorer, [str(path)], str(output), None)
    return total.rows


def assert_scored_as_read(path, frame, directory, **reading):
    """Train on what pandas reads from a file; compare its predictions with those of the batch."""
    numbers = list(frame.select_dtypes("number").columns)

    def build_estimator():
        encoder = OneHotEncoder(handle_unknown="ignore")
        columns = make_column_transformer((SimpleImputer(), numbers), remainder=encoder)
        return make_pipeline(columns, Ridge())

    model_path = directory / "model.pkl"
    target = np.random.default_rng(0).normal(size=len(frame))
    write_model(model_path, train_model("published", Dataset(frame, target), build_estimator))
    assert score(path, directory / "out.parquet", model_path, **reading) == len(frame)
    output = pq.read_table(directory / "out.parquet").column("prediction").to_pylist()
    np.testing.assert_allclose(output, load_model(model_path).estimator.predict(frame))


@pytest.mark.parametrize("name", STATSMODELS)
def test_scores_files_of_statsmodels(tmp_path, name):
    """Files of statsmodels: tabs and semicolons, quotation marks, years that are missing."""
    path = shipped_file("statsmodels", f"datasets/{name}")
    assert_scored_as_read(path, pd.read_csv(path, sep=STATSMODELS[name]), tmp_path)


@pytest.mark.parametrize("name", VEGA)
def test_scores_files_of_vega(tmp_path, name):
    """Files of vega-datasets: names, dates and gaps."""
    path = shipped_file("vega_datasets", f"_data/{name}.csv")
    assert_scored_as_read(path, pd.read_csv(path), tmp_path)


@pytest.mark.parametrize("name", SCIKIT_LEARN)
def test_scores_files_of_scikit_learn(tmp_path, name):
    """Files of scikit-learn: compressed, without a header, with spaces between the values."""
    path = shipped_file("sklearn", f"datasets/data/{name}")
    reading = SCIKIT_LEARN[name]
    header = "infer" if reading.get("has_header", True) else None
    frame = pd.read_csv(path, sep=reading.get("delimiter", ","), header=header)
    frame.columns = [str(column) for column in frame.columns]
    assert_scored_as_read(path, frame, tmp_path, **reading)


def copy_with_duckdb(path, options):
    source = f"read_csv('{PENGUINS}', nullstr = 'NA')"
    duckdb.sql(f"COPY (FROM {source}) TO '{path}' ({options})")


def with_polars():
    return pl.from_pandas(load_penguins())


WRITERS = {
    "pandas, German.csv": lambda path: load_penguins().to_csv(path, sep=";", decimal=","),
    "pandas, zip.csv.zip": lambda path: load_penguins().to_csv(path, index=False),
    "pandas, UTF-16.csv": lambda path: load_penguins().to_csv(path, encoding="utf-16"),
    "pandas, all quoted.csv": lambda path: load_penguins().to_csv(path, quoting=1, na_rep="<NA>"),
    "pandas, CRLF.tsv": lambda path: load_penguins().to_csv(path, sep="\t", lineterminator="\r\n"),
    "pandas, index.parquet": lambda path: load_penguins().set_index("year").to_parquet(path),
    "polars, BOM.csv": lambda path: with_polars().write_csv(path, include_bom=True),
    "polars, nulls.csv": lambda path: with_polars().write_csv(path, null_value="null"),
    "polars.parquet": lambda path: with_polars().write_parquet(path, row_group_size=100),
    "duckdb.csv.gz": lambda path: copy_with_duckdb(path, "HEADER, DELIMITER '|'"),
    "duckdb.csv.zst": lambda path: copy_with_duckdb(path, "HEADER, COMPRESSION zstd"),
    "duckdb.parquet": lambda path: copy_with_duckdb(path, "FORMAT parquet, COMPRESSION zstd"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_scores_files_of_writers(tmp_path, name):
    """What pandas, polars and DuckDB write is read as the data that they were given."""
    WRITERS[name](tmp_path / name)
    path = model_file("penguins")
    assert score(tmp_path / name, tmp_path / "out.parquet", path) == 344
    model = load_model(path)
    expected = model.estimator.predict(load_penguins()[model.features]).tolist()
    output = pq.read_table(tmp_path / "out.parquet", columns=["prediction"])
    assert output.column("prediction").to_pylist() == expected

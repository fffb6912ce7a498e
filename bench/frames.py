"""Time to build a DataFrame of rows, and to predict from it, for each library.

It needs pandas, polars and pyarrow: .venv-bench/bin/python bench/frames.py
"""

import statistics
import sys
import time

import pandas
import polars
import pyarrow

from load import ROOT

sys.path.insert(0, str(ROOT))

from examples.penguins.train import CATEGORIES, MEASUREMENTS, build_estimator, load_data
from serving.training.dataset import TrainingData

SIZES = {1: 200, 10_000: 10}  # rows: repetitions


def build_pandas(columns):
    series = {}
    for name, values in columns.items():
        dtype = "float64" if name in MEASUREMENTS else "str"
        series[name] = pandas.Series(values, dtype=dtype)
    return pandas.DataFrame(series, copy=False)


def build_polars(columns):
    series = []
    for name, values in columns.items():
        dtype = polars.Float64 if name in MEASUREMENTS else polars.String
        series.append(polars.Series(name, values, dtype=dtype))
    return polars.DataFrame(series)


def build_pyarrow(columns):
    arrays = {}
    for name, values in columns.items():
        arrow_type = pyarrow.float64() if name in MEASUREMENTS else pyarrow.string()
        arrays[name] = pyarrow.array(values, type=arrow_type)
    return pyarrow.table(arrays)


def median_seconds(call, repetitions):
    seconds = []
    for _ in range(repetitions):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main():
    data = TrainingData(load_data())
    rows = data.signature.to_values(data.rows)
    names = [*MEASUREMENTS, *CATEGORIES]
    reference = {}

    for library, build in (
        ("pandas", build_pandas),
        ("polars", build_polars),
        ("pyarrow", build_pyarrow),
    ):
        columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
        estimator = build_estimator().fit(build(columns), data.y)
        for n_rows, repetitions in SIZES.items():
            repeated = {name: (values * 40)[:n_rows] for name, values in columns.items()}
            frame = build(repeated)
            seconds = (
                median_seconds(lambda frame=repeated: build(frame), repetitions),  # noqa: B023
                median_seconds(lambda frame=frame: estimator.predict(frame), repetitions),  # noqa: B023
            )
            first = reference.setdefault(n_rows, seconds)
            build_ratio, predict_ratio = (
                value / beside for value, beside in zip(seconds, first, strict=True)
            )
            print(
                f"{library}, {n_rows} rows: {build_ratio:.2f} of pandas' time to build, "
                f"{predict_ratio:.2f} to predict"
            )


if __name__ == "__main__":
    main()

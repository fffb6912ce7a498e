"""Hostile pickles. Each would leave a file behind if anything in it ran."""

import io
import os
import pickle
import subprocess
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from helpers import ROOT, Call
from serving.model.errors import ModelError
from serving.model.storage import load_model
from serving.model.unpickling import restricted_loads


def dumped(value):
    buffer = io.BytesIO()
    joblib.dump(value, buffer)
    return buffer.getvalue()


def hidden(value):
    """`value` in the attributes of an estimator that works."""
    iris = load_iris()
    estimator = LogisticRegression(max_iter=200).fit(iris.data, iris.target)
    estimator.extra = value
    return estimator


def named(module, name):
    return b"\x80\x04" + b"c" + module.encode() + b"\n" + name.encode() + b"\n" + b"."


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        hidden,
        lambda x: hidden(np.array([x], dtype=object)),
        lambda x: hidden({"a": [x]}),
    ],
    ids=["bare", "in an estimator", "in an array of objects", "in a dict"],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda marker: Call(os.system, f"touch {marker}"),
        lambda marker: Call(subprocess.check_output, ["touch", marker]),
        lambda marker: Call(eval, f"open({str(marker)!r}, 'w')"),
        lambda marker: Call(Path.touch, marker),
        lambda marker: Call(np.save, str(marker), np.zeros(1)),
        lambda marker: Call(joblib.dump, 1, str(marker)),
        lambda marker: Call(joblib.load, str(marker)),
    ],
    ids=["os", "subprocess", "builtins", "pathlib", "numpy", "joblib", "another pickle"],
)
def test_nothing_in_a_hostile_pickle_runs(tmp_path, call, wrap):
    marker = tmp_path / "marker"
    (tmp_path / "model.pkl").write_bytes(dumped(wrap(call(marker))))
    with pytest.raises(ModelError, match="which is not on the allow-list"):
        load_model(tmp_path / "model.pkl")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "getattr"),
        ("sklearn", "os.system"),
        ("sklearn.base", "platform"),  # a module imported there
        ("sklearn.base", "platform.os.system"),  # and what it leads to
        ("sklearn.datasets._base", "Path"),  # a class imported there
        ("sklearn.datasets._covtype", "GzipFile"),
        ("sklearn.metrics._scorer", "_BaseScorer.__call__"),
        ("sklearn.utils.validation", "joblib"),
        ("sklearn.datasets", "fetch_openml"),
        ("sklearn.datasets", "load_files"),
        ("sklearn.utils.parallel", "delayed"),
        ("numpy", "load"),
        ("numpy.f2py.__main__", "main"),
        ("joblib", "load"),
        ("joblib.numpy_pickle", "NDArrayWrapper"),  # reads a file that it names
        ("this", "s"),
    ],
)
def test_what_is_not_on_the_list_cannot_be_named(module, name):
    with pytest.raises(pickle.UnpicklingError, match="which is not on the allow-list"):
        restricted_loads(named(module, name))


def test_what_is_on_the_list_can():
    assert (
        restricted_loads(named("sklearn.linear_model._logistic", "LogisticRegression"))
        is LogisticRegression
    )
    assert restricted_loads(named("numpy", "log1p")) is np.log1p


PICKLED = (ROOT / "model.pkl").read_bytes()


@pytest.mark.parametrize("length", [*range(0, len(PICKLED), 50), len(PICKLED) - 1])
def test_a_file_that_was_cut_off_is_refused(tmp_path, length):
    (tmp_path / "model.pkl").write_bytes(PICKLED[:length])
    with pytest.raises(ModelError, match="cannot be loaded as a model"):
        load_model(tmp_path / "model.pkl")


@given(st.integers(0, len(PICKLED) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_in_one_line_or_loads_an_estimator(
    tmp_path_factory, position, byte
):
    path = tmp_path_factory.mktemp("changed") / "model.pkl"
    path.write_bytes(PICKLED[:position] + bytes([byte]) + PICKLED[position + 1 :])
    try:
        assert isinstance(load_model(path).estimator, LogisticRegression)
    except ModelError as error:
        assert "\n" not in str(error)

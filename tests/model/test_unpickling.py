"""Hostile and broken pickles. A hostile one would create a marker file if it ran."""

import io
import os
import subprocess
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from helpers import MODEL_FILE, Call
from serving.model.errors import ModelError
from serving.model.loading import load_model
from serving.model.unpickling import restricted_loads

MODEL_BYTES = (MODEL_FILE).read_bytes()


def pickle_bytes(value):
    buffer = io.BytesIO()
    joblib.dump(value, buffer)
    return buffer.getvalue()


def estimator_with(value):
    """Return a fitted estimator with `value` as one of its attributes."""
    iris = load_iris()
    estimator = LogisticRegression(max_iter=200).fit(iris.data, iris.target)
    estimator.extra = value
    return estimator


def pickle_of_name(module, name):
    """Return a pickle that imports a name and does nothing with it."""
    words = [b"\x8c" + bytes([len(word.encode())]) + word.encode() for word in (module, name)]
    return b"\x80\x04" + b"".join(words) + b"\x93."


@pytest.mark.parametrize(
    "wrap",
    [
        lambda call: call,
        estimator_with,
        lambda call: estimator_with(np.array([call], dtype=object)),
        lambda call: estimator_with({"a": [call]}),
    ],
    ids=["bare", "in an estimator", "in an array of objects", "in a dict"],
)
@pytest.mark.parametrize(
    "build_call",
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
def test_hostile_pickle_does_not_run(tmp_path, build_call, wrap):
    """Nothing in a hostile pickle runs, wherever in an estimator it is."""
    marker = tmp_path / "marker"
    (tmp_path / "model.pkl").write_bytes(pickle_bytes(wrap(build_call(marker))))
    with pytest.raises(ModelError, match="which is not on the allow-list"):
        load_model(tmp_path / "model.pkl")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("sklearn", "os.system"),
        ("sklearn.base", "platform"),  # a module that was imported there
        ("sklearn.base", "platform.os.system"),  # an attribute of it
        ("sklearn.datasets._base", "Path"),  # a class that was imported there
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
        ("numpy", "apply_along_axis"),  # calls its argument
        ("numpy", "frompyfunc"),
        ("operator", "attrgetter"),
        ("sklearn.metrics._scorer", "_cached_call"),  # calls a method that an argument names
        ("sklearn.metrics._scorer", "check_scoring"),
        ("sklearn.metrics._scorer", "get_scorer"),
        ("sklearn.metrics._scorer", "make_scorer"),
        ("sklearn.metrics.pairwise", "_parallel_pairwise"),
        ("sklearn.metrics.pairwise", "config_context"),  # a function that was imported there
        ("sklearn.metrics.pairwise", "kernel_metrics"),
        ("sklearn.metrics.pairwise", "pairwise_distances_chunked"),
        ("sklearn.pipeline", "make_pipeline"),
        ("sklearn.preprocessing._data", "check_array"),
        ("this", "s"),
    ],
)
def test_other_names_cannot_be_imported(module, name):
    """A name that is not on the allow-list cannot be imported."""
    with pytest.raises(ModelError, match="which is not on the allow-list"):
        restricted_loads(pickle_of_name(module, name))


@pytest.mark.parametrize("name", ["\nndarray", "\x1b[2Jndarray"])
def test_message_has_no_control_character(name):
    """A name that a damaged file has is shown with its control characters escaped."""
    with pytest.raises(ModelError) as raised:
        restricted_loads(pickle_of_name("numpy", name))
    assert f"it imports numpy.{repr(name)[1:-1]}, which" in str(raised.value)


def test_allowed_names_can_be_imported():
    """A function of numpy can be imported; a class stands only for its instances."""
    assert restricted_loads(pickle_of_name("numpy", "log1p")).value is np.log1p
    name = pickle_of_name("sklearn.linear_model._logistic", "LogisticRegression")
    cls = restricted_loads(name).value
    with pytest.raises(ModelError, match=r"an estimator calls the class .*LogisticRegression"):
        cls()


@pytest.mark.parametrize("length", [*range(0, len(MODEL_BYTES), 50), len(MODEL_BYTES) - 1])
def test_truncated_file_is_rejected(tmp_path, length):
    """A file that was cut off anywhere is rejected."""
    (tmp_path / "model.pkl").write_bytes(MODEL_BYTES[:length])
    message = "it is cut off or damaged: copy or train it again" if length else "it is empty"
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "model.pkl")


@settings(deadline=None)
@given(st.integers(0, len(MODEL_BYTES) - 1), st.integers(0, 255))
def test_changed_byte_is_handled(tmp_path_factory, position, byte):
    """A changed byte is rejected in one line, or an estimator is loaded all the same."""
    path = tmp_path_factory.mktemp("changed") / "model.pkl"
    path.write_bytes(MODEL_BYTES[:position] + bytes([byte]) + MODEL_BYTES[position + 1 :])
    try:
        assert isinstance(load_model(path).estimator, LogisticRegression)
    except ModelError as error:
        assert "\n" not in str(error)

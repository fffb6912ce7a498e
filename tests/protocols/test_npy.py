"""SageMaker's arrays of numpy: read without pickles, bounded by the body, answered in kind."""

import io
import json
import pickle
import random

import numpy as np
import pytest

from app import create_app
from endpoints import CLASSES, MLFLOW, ROWS, assert_error
from fixture_models import TEXTS, model_file
from helpers import JSON, SETOSA, in_process
from zoo_models import zoo_model

NPY = {"Content-Type": "application/x-npy"}


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def header(shape, descr="'<f8'", order="False", version=b"\x01\x00"):
    """Return an array file without its values."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n".encode()
    length = len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + length + text


FILES = {
    "float64": npy(np.array(ROWS)),
    "float32": npy(np.array(ROWS, np.float32)),
    "float16": npy(np.array(ROWS, np.float16)),
    "big-endian": npy(np.array(ROWS, ">f8")),
    "column by column": npy(np.asfortranarray(ROWS)),
    "128 bits": npy(np.array(ROWS, np.longdouble)),
    "version 2 of the format": header((2, 4), version=b"\x02\x00") + np.array(ROWS).tobytes(),
}


@pytest.mark.parametrize("body", FILES.values(), ids=FILES)
def test_array_is_answered_with_array(call, body):
    """Each type of number is read, and the response is an array of the predictions."""
    response = call("POST", "/invocations", body, NPY)
    assert (response.status, response.headers["Content-Type"]) == (200, "application/x-npy")
    assert np.load(io.BytesIO(response.body), allow_pickle=False).tolist() == CLASSES


def test_integers_and_one_row(call):
    """Integers are numbers, and an array of one dimension is one row."""
    headers = NPY | {"Accept": "application/json"}
    response = call("POST", "/invocations", npy(np.array([[5, 3, 1, 0]])), headers)
    assert (response.status, response.json) == (200, [0])
    assert call("POST", "/invocations", npy(np.array(SETOSA)), headers).json == [0]


def test_json_may_be_answered_with_array(call):
    """Accept decides, whatever the request is."""
    headers = {"Content-Type": "application/json", "Accept": "application/x-npy"}
    response = call("POST", "/invocations", b"[[5.1, 3.5, 1.4, 0.2]]", headers)
    assert np.load(io.BytesIO(response.body)).tolist() == [0]


REFUSED = {
    "nothing": (b"", "not an array of numpy's file format"),
    "words": (b"hello", "not an array of numpy's file format"),
    "pickle": (pickle.dumps(np.array(ROWS)), "not an array of numpy's file format"),
    "objects": (npy(np.array(ROWS, object)), "numbers or strings, got dtype object"),
    "records": (npy(np.zeros(2, "f8,f8")), "numbers or strings, got dtype void"),
    "dates": (npy(np.zeros((1, 4), "M8[D]")), "numbers or strings, got dtype datetime64"),
    "complex": (npy(np.zeros((1, 4), complex)), "numbers or strings, got dtype complex128"),
    "booleans": (npy(np.ones((1, 4), bool)), "Expected an array of numbers, got dtype bool"),
    "strings": (npy(np.array([list("1234")])), "Expected an array of numbers, got dtype str"),
    "too few columns": (npy(np.ones((1, 3))), r"shape \(rows, 4\), got \(1, 3\)"),
    "no rows": (npy(np.ones((0, 4))), r"shape \(rows, 4\), got \(0, 4\)"),
    "one number": (npy(np.ones(())), r"shape \(rows, 4\), got \(\)"),
    "three dimensions": (npy(np.ones((1, 1, 4))), r"shape \(rows, 4\), got \(1, 1, 4\)"),
    "32 dimensions": (npy(np.ones((1,) * 32)), r"shape \(rows, 4\), got 32 dimensions"),
    "NaN": (npy(np.array([[1, 1, 1, np.nan]])), r"finite number .* - at `\$\[0\]\[3\]`"),
    "Infinity": (npy(np.array([[1, 1, -np.inf, 1]])), r"finite number .* - at `\$\[0\]\[2\]`"),
    "beyond float32": (npy(np.array([[1, 1, 1, 1e39]])), r"finite number .* - at `\$\[0\]\[3\]`"),
    "cut off": (npy(np.array(ROWS))[:-1], r"Expected 64 bytes for float64 of shape \(2, 4\)"),
    "too long": (npy(np.array(ROWS)) + b"x", "Expected 64 bytes .*, got 65"),
    "a shape without values": (header((10**12, 4)), "Expected 32000000000000 bytes"),
    "a negative length": (header((-1, -4)) + bytes(32), "Expected 32 bytes"),
    "a header that is code": (header("__import__('os').getpid()"), "not an array"),
    "a deep header": (header("-" * 9000 + "1"), "not an array"),
    "a long header": (header("1" * 60000), "not an array"),
    "version 9 of the format": (header((2, 4), version=b"\x09\x00"), "not an array"),
    "an archive of arrays": (b"PK\x03\x04" + bytes(50), "not an array of numpy's file format"),
}


@pytest.mark.parametrize(("body", "pattern"), REFUSED.values(), ids=REFUSED)
def test_other_array_is_refused(call, body, pattern):
    """What is no table of numbers is refused, without any memory for what a header only states."""
    assert_error(call("POST", "/invocations", body, NPY), MLFLOW, 400, pattern)


def test_changed_bytes_are_answered_or_refused(call):
    """A file with changed bytes is 200 or 400, and never an error of the service."""
    numbers = random.Random(0)
    content = npy(np.array(ROWS))
    for _ in range(500):
        changed = bytearray(content)
        for _ in range(numbers.randint(1, 4)):
            changed[numbers.randrange(128)] = numbers.randrange(256)
        response = call("POST", "/invocations", bytes(changed), NPY)
        assert response.status in (200, 400), bytes(changed)


def test_text_model_takes_an_array_of_strings():
    """An array of strings is rows of texts, and the labels come back as strings."""
    app = create_app(MODEL_PATH=str(model_file("languages")))
    rows = [[text] for text in TEXTS["de"]]
    expected = in_process(app, "POST", "/invocations", json.dumps(rows), JSON).json
    response = in_process(app, "POST", "/invocations", npy(np.array(rows)), NPY)
    assert np.load(io.BytesIO(response.body)).tolist() == expected

    response = in_process(app, "POST", "/invocations", npy(np.ones((1, 1))), NPY)
    assert_error(response, MLFLOW, 400, r"Expected `str`, got `float` - at `\$\[0\]\[0\]`")

    no_unicode = npy(np.array(rows))[:-4] + b"\xff\xff\xff\xff"
    response = in_process(app, "POST", "/invocations", no_unicode, NPY)
    assert_error(response, MLFLOW, 400, "a string that is not Unicode")


def test_nan_is_a_missing_number():
    """NaN stands for a missing value where the model takes one."""
    model, path = zoo_model("HistGradientBoostingClassifier with gaps")
    app = create_app(MODEL_PATH=str(path))
    rows = model.data.rows[:20]
    assert np.isnan(rows).any()
    response = in_process(app, "POST", "/invocations", npy(rows), NPY)
    predictions = np.load(io.BytesIO(response.body))
    np.testing.assert_array_equal(predictions, model.estimator.predict(rows))

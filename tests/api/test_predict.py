"""POST /predict. With SERVICE_URL set, the tests are put to that service, such as the image."""

import joblib
import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_iris

from helpers import (
    EXAMPLE_REQUEST,
    JSON,
    MODEL_FILE,
    NAMES,
    SETOSA,
    VERSION,
    VIRGINICA,
    assert_json,
    predict,
)
from serving.config import Settings


def test_example_request_predicts_setosa(call):
    """The README's request has the README's response."""
    answer = call("POST", "/predict", EXAMPLE_REQUEST, JSON)
    assert answer.body == b'{"prediction":[0]}\n'
    assert_json(answer, 200, {"prediction": [0]})
    assert answer.headers["X-Model-Version"] == VERSION


def test_predictions_equal_estimator(call):
    """Predictions and probabilities of many rows are the estimator's own."""
    rows = load_iris().data
    estimator = joblib.load(MODEL_FILE)
    answer = predict(call, features=rows.tolist(), outputs=["probability"])
    assert answer.status == 200
    assert answer.json["prediction"] == estimator.predict(rows).tolist()
    np.testing.assert_allclose(
        answer.json["probability"], estimator.predict_proba(rows), rtol=1e-12
    )


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_predict_accepts_names_in_any_order(call, order):
    """Rows by feature name are put in the order of the features."""
    rows = [{NAMES[i]: row[i] for i in order} for row in (SETOSA, VIRGINICA)]
    assert_json(predict(call, features=rows), 200, {"prediction": [0, 2]})
    assert_json(predict(call, features=rows[1]), 200, {"prediction": [2]})


def test_predict_adds_requested_outputs(call):
    """`outputs` adds label and probability to the response."""
    answer = predict(call, features=[SETOSA, VIRGINICA], outputs=["label", "probability"])
    probability = joblib.load(MODEL_FILE).predict_proba([SETOSA, VIRGINICA])
    assert list(answer.json) == ["prediction", "label", "probability"]
    assert answer.json["label"] == ["setosa", "virginica"]
    np.testing.assert_allclose(answer.json["probability"], probability, rtol=1e-12)
    assert_json(predict(call, features=SETOSA, outputs=[]), 200, {"prediction": [0]})


MALFORMED = "JSON is malformed: invalid character (byte 13)"
LOST_QUOTES = "; a shell changed the quotation marks: send a file, such as -d @body.json"
INVALID_BODIES = {
    "no body": (b"", "The body is empty"),
    "not JSON": (b"hello", "JSON is malformed: invalid character (byte 0)"),
    "single quotes of Windows' cmd": (
        b"'{features:[5.1,",
        f"JSON is malformed: invalid character (byte 0){LOST_QUOTES}",
    ),
    "double quotes that PowerShell loses": (
        b"{features:[5.1, 3.5, 1.4, 0.2]}",
        f"JSON is malformed: object keys must be strings (byte 1){LOST_QUOTES}",
    ),
    "cut off": (b'{"features":[5.1', "Input data was truncated"),
    "more than JSON": (
        EXAMPLE_REQUEST + b"x",
        f"JSON is malformed: trailing characters (byte {len(EXAMPLE_REQUEST) + 1})",
    ),
    "not an object": (b"[5.1,3.5,1.4,0.2]", "Expected `object`, got `array`"),
    "NaN": (b'{"features":[NaN,1,1,1]}', MALFORMED),
    "Infinity": (b'{"features":[Infinity,1,1,1]}', MALFORMED),
    "1e999": (b'{"features":[1,1e999,1,1]}', "Number out of range - at `$.features[1]`"),
    "400 digits": (
        b'{"features":[' + b"9" * 400 + b",1,1,1]}",
        "Number out of range - at `$.features[0]`",
    ),
    "beyond float32": (
        b'{"features":[1,1,-1e39,1]}',
        "Expected `float` >= -3.4028234663852886e+38 - at `$.features[2]`",
    ),
    "bool": (
        b'{"features":[[1,1,1,true]]}',
        "Expected `float`, got `bool` - at `$.features[0][3]`",
    ),
    "string": (
        b'{"features":[[1,1,1,"1"]]}',
        "Expected `float`, got `str` - at `$.features[0][3]`",
    ),
    "null": (
        b'{"features":[[1,1,1,null]]}',
        "Expected `float`, got `null` - at `$.features[0][3]`",
    ),
    "bool alone": (
        b'{"features":[true,1,1,1]}',
        "Expected `float | object | array`, got `bool` - at `$.features[0]`",
    ),
    "3 features": (b'{"features":[1,1,1]}', "Expected 4 numbers, got 3 - at `$.features`"),
    "5 features": (b'{"features":[1,1,1,1,1]}', "Expected 4 numbers, got 5 - at `$.features`"),
    "ragged": (
        b'{"features":[[1,1,1,1],[1,1,1]]}',
        "Expected 4 numbers, got 3 - at `$.features[1]`",
    ),
    "no rows": (b'{"features":[]}', "Expected at least one row - at `$.features`"),
    "an empty row": (b'{"features":[[]]}', "Expected 4 numbers, got 0 - at `$.features[0]`"),
    "a row and a number": (
        b'{"features":[[1,1,1,1],1]}',
        "Expected rows of one kind, or numbers alone - at `$.features[1]`",
    ),
    "no features": (b"{}", "Object missing required field `features`"),
    "features a string": (
        b'{"features":"x"}',
        "Expected `object | array`, got `str` - at `$.features`",
    ),
    "missing name": (
        b'{"features":{"sepal length (cm)":1}}',
        "Object missing required field `sepal width (cm)` - at `$.features`",
    ),
    "unknown name": (
        b'{"features":[{"Petal_width":1}]}',
        "Object contains unknown field `Petal_width` - at `$.features[0]`; "
        "expected petal width (cm), sepal width (cm), petal length (cm)",
    ),
    "name's value": (
        b'{"features":[{"sepal length (cm)":"1"}]}',
        "Expected `float`, got `str` - at `$.features[0].sepal length (cm)`",
    ),
    "duplicate name": (
        msgspec.json.encode({"features": dict(zip(NAMES, SETOSA, strict=True))})[:-2]
        + b',"petal width (cm)":1}}',
        "Object contains field `petal width (cm)` twice",
    ),
    "duplicate member": (
        EXAMPLE_REQUEST[:-1] + b',"features":[1,1,1,1]}',
        "Object contains field `features` twice",
    ),
    "escaped duplicate": (
        EXAMPLE_REQUEST[:-1] + b',"\\u0066eatures":[1,1,1,1]}',
        "Object contains field `features` twice",
    ),
    "unknown member": (
        EXAMPLE_REQUEST[:-1] + b',"output":1}',
        "Object contains unknown field `output`; expected outputs, features",
    ),
    "long unknown member": (
        EXAMPLE_REQUEST[:-1] + b',"' + b"x" * 9999 + b'":1}',
        f"Object contains unknown field `{'x' * 119} ... {'x' * 99}`",
    ),
    "unknown output": (
        EXAMPLE_REQUEST[:-1] + b',"outputs":["x"]}',
        "Invalid enum value 'x' - at `$.outputs[0]`",
    ),
    "outputs null": (
        EXAMPLE_REQUEST[:-1] + b',"outputs":null}',
        "Expected `array`, got `null` - at `$.outputs`",
    ),
    "deep arrays": (
        b'{"features":' + b"[" * 100_000,
        "Expected `float`, got `array` - at `$.features[0][0]`",
    ),
    "deep objects": (
        b'{"features":' * 50_000,
        "Object contains unknown field `features` - at `$.features`; "
        "expected sepal width (cm), petal width (cm), sepal length (cm)",
    ),
    "deep unknown": (
        b'{"feature":' + b"[" * 100_000,
        "Object contains unknown field `feature`; expected features, outputs",
    ),
    "not UTF-8": (b'{"features":{"\xff":1}}', "The body is not UTF-8"),
    "UTF-16": (
        EXAMPLE_REQUEST.decode().encode("utf-16"),
        "JSON is malformed: invalid character (byte 0)",
    ),
    "lone surrogate": (
        b'{"features":[{"\\ud800 ":1}]}',
        "JSON is malformed: unexpected end of escaped utf-16 surrogate pair (byte 21)",
    ),
}


@pytest.mark.parametrize("fault", INVALID_BODIES)
def test_predict_locates_invalid_input(call, fault):
    """An invalid body is answered 400 with the place of the error, and the next request works."""
    body, message = INVALID_BODIES[fault]
    answer = call("POST", "/predict", body, JSON)
    assert_json(answer, 400, {"error": message})
    assert "X-Model-Version" not in answer.headers
    assert call("POST", "/predict", EXAMPLE_REQUEST, JSON).status == 200


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Content-Type": "text/plain"}, "Expected Content-Type application/json, got text/plain"),
        ({}, "Expected Content-Type application/json, got none"),
        (
            JSON | {"Content-Encoding": "br"},
            "Expected Content-Encoding gzip, deflate, identity, got br",
        ),
    ],
)
def test_predict_rejects_other_media_types(call, headers, message):
    """A body that is not plain JSON is answered 415."""
    assert_json(call("POST", "/predict", EXAMPLE_REQUEST, headers), 415, {"error": message})


def test_predict_accepts_charset(call):
    """A charset parameter does not change the media type."""
    assert (
        call(
            "POST", "/predict", EXAMPLE_REQUEST, {"Content-Type": "application/json; charset=utf-8"}
        ).status
        == 200
    )


def test_predict_has_row_limit(call):
    """MAX_ROWS rows are predicted; one more is answered 413."""
    assert predict(call, features=[SETOSA] * 10_000).json == {"prediction": [0] * 10_000}
    message = "Expected at most 10000 rows, got 10001 - at `$.features`"
    assert_json(predict(call, features=[SETOSA] * 10_001), 413, {"error": message})


def test_predict_has_body_limit(call):
    """A body of MAX_BODY_BYTES is read; one more byte is answered 413."""
    limit = Settings().max_body_bytes
    assert limit == 1024 * 1024
    assert call("POST", "/predict", EXAMPLE_REQUEST.ljust(limit), JSON).status == 200
    message = f"Expected at most {limit} bytes of body"
    assert_json(
        call("POST", "/predict", EXAMPLE_REQUEST.ljust(limit + 1), JSON), 413, {"error": message}
    )
    assert call("POST", "/predict", EXAMPLE_REQUEST, JSON).status == 200

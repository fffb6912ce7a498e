"""The routes of our own API. With SERVICE_URL set, the first part tests that service."""

import json
import re

import joblib
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris

from app import create_app
from helpers import (
    ARTICLE,
    JSON,
    NAMES,
    ROOT,
    SETOSA,
    VERSION,
    VIRGINICA,
    assert_json,
    in_process,
    predict,
)
from serving.api.service import service_of
from serving.config import Settings


def test_the_articles_request_is_answered_as_in_the_article(call):
    answer = call("POST", "/predict", ARTICLE, JSON)
    assert answer.body == b'{"prediction":[0]}\n'
    assert_json(answer, 200, {"prediction": [0]})
    assert answer.headers["X-Model-Version"] == VERSION


def test_many_rows_are_answered_as_by_the_estimator_itself(call):
    rows = load_iris().data
    estimator = joblib.load(ROOT / "model.pkl")
    answer = predict(call, features=rows.tolist(), outputs=["probability"])
    assert answer.status == 200
    assert answer.json["prediction"] == estimator.predict(rows).tolist()
    np.testing.assert_allclose(
        answer.json["probability"], estimator.predict_proba(rows), rtol=1e-12
    )


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_names_may_come_in_any_order(call, order):
    rows = [{NAMES[i]: row[i] for i in order} for row in (SETOSA, VIRGINICA)]
    assert_json(predict(call, features=rows), 200, {"prediction": [0, 2]})
    assert_json(predict(call, features=rows[1]), 200, {"prediction": [2]})


def test_outputs_add_members(call):
    answer = predict(call, features=[SETOSA, VIRGINICA], outputs=["label", "probability"])
    probability = joblib.load(ROOT / "model.pkl").predict_proba([SETOSA, VIRGINICA])
    assert list(answer.json) == ["prediction", "label", "probability"]
    assert answer.json["label"] == ["setosa", "virginica"]
    np.testing.assert_allclose(answer.json["probability"], probability, rtol=1e-12)
    assert_json(predict(call, features=SETOSA, outputs=[]), 200, {"prediction": [0]})


MALFORMED = "JSON is malformed: invalid character (byte 13)"
FAULTS = {
    "no body": (b"", "The body is empty"),
    "not JSON": (b"hello", "JSON is malformed: invalid character (byte 0)"),
    "cut off": (b'{"features":[5.1', "Input data was truncated"),
    "more than JSON": (
        ARTICLE + b"x",
        f"JSON is malformed: trailing characters (byte {len(ARTICLE) + 1})",
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
        b'{"features":[{"x":1}]}',
        "Object contains unknown field `x` - at `$.features[0]`",
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
        ARTICLE[:-1] + b',"features":[1,1,1,1]}',
        "Object contains field `features` twice",
    ),
    "escaped duplicate": (
        ARTICLE[:-1] + b',"\\u0066eatures":[1,1,1,1]}',
        "Object contains field `features` twice",
    ),
    "unknown member": (ARTICLE[:-1] + b',"x":1}', "Object contains unknown field `x`"),
    "long unknown member": (
        ARTICLE[:-1] + b',"' + b"x" * 9999 + b'":1}',
        f"Object contains unknown field `{'x' * 119} ... {'x' * 99}`",
    ),
    "unknown output": (
        ARTICLE[:-1] + b',"outputs":["x"]}',
        "Invalid enum value 'x' - at `$.outputs[0]`",
    ),
    "outputs null": (
        ARTICLE[:-1] + b',"outputs":null}',
        "Expected `array`, got `null` - at `$.outputs`",
    ),
    "deep arrays": (
        b'{"features":' + b"[" * 100_000,
        "Expected `float`, got `array` - at `$.features[0][0]`",
    ),
    "deep objects": (
        b'{"features":' * 50_000,
        "Object contains unknown field `features` - at `$.features`",
    ),
    "deep unknown": (b'{"x":' + b"[" * 100_000, "Object contains unknown field `x`"),
    "not UTF-8": (b'{"features":{"\xff":1}}', "The body is not UTF-8"),
    "UTF-16": (ARTICLE.decode().encode("utf-16"), "JSON is malformed: invalid character (byte 0)"),
    "byte order mark": (b"\xef\xbb\xbf" + ARTICLE, "JSON is malformed: invalid character (byte 0)"),
    "lone surrogate": (
        b'{"features":[{"\\ud800 ":1}]}',
        "JSON is malformed: unexpected end of escaped utf-16 surrogate pair (byte 21)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_located_and_the_next_request_works(call, fault):
    body, message = FAULTS[fault]
    answer = call("POST", "/predict", body, JSON)
    assert_json(answer, 400, {"error": message})
    assert "X-Model-Version" not in answer.headers
    assert call("POST", "/predict", ARTICLE, JSON).status == 200


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Content-Type": "text/plain"}, "Expected Content-Type application/json, got text/plain"),
        ({}, "Expected Content-Type application/json, got none"),
        (JSON | {"Content-Encoding": "gzip"}, "Expected no Content-Encoding, got gzip"),
    ],
)
def test_another_media_type_is_415(call, headers, message):
    assert_json(call("POST", "/predict", ARTICLE, headers), 415, {"error": message})


def test_a_charset_is_no_other_media_type(call):
    assert (
        call(
            "POST", "/predict", ARTICLE, {"Content-Type": "application/json; charset=utf-8"}
        ).status
        == 200
    )


def test_ten_thousand_rows_are_one_request_and_one_more_is_413(call):
    assert predict(call, features=[SETOSA] * 10_000).json == {"prediction": [0] * 10_000}
    message = "Expected at most 10000 rows, got 10001 - at `$.features`"
    assert_json(predict(call, features=[SETOSA] * 10_001), 413, {"error": message})


def test_a_body_of_one_mebibyte_is_read_and_one_byte_more_is_413(call):
    limit = Settings().max_body_bytes
    assert limit == 1024 * 1024
    assert call("POST", "/predict", ARTICLE.ljust(limit), JSON).status == 200
    message = f"Expected at most {limit} bytes of body"
    assert_json(call("POST", "/predict", ARTICLE.ljust(limit + 1), JSON), 413, {"error": message})
    assert call("POST", "/predict", ARTICLE, JSON).status == 200


def test_another_method_is_405_and_says_which_are_allowed(call):
    answer = call("GET", "/predict")
    assert_json(answer, 405, {"error": "GET /predict: Method Not Allowed"})
    assert sorted(answer.headers["Allow"].split(", ")) == ["OPTIONS", "POST"]
    assert_json(call("DELETE", "/healthz"), 405, {"error": "DELETE /healthz: Method Not Allowed"})


@pytest.mark.parametrize("path", ["/nothing", "/predict/", "/static/app.py", "/..%2fmodel.pkl"])
def test_an_unknown_path_is_404_in_json(call, path):
    answer = call("POST", path, ARTICLE, JSON)
    assert answer.status == 404
    assert answer.json["error"].endswith(": Not Found")
    assert answer.headers["Content-Type"] == "application/json"


def test_probes_answer(call):
    assert_json(call("GET", "/healthz"), 200, {"status": "alive"})
    answer = call("GET", "/readyz")
    assert_json(answer, 200, {"status": "ready"})
    assert answer.headers["X-Model-Version"] == VERSION


def test_the_index_lists_every_route_and_describes_the_model(call):
    answer = call("GET", "/")
    routes = {(route["method"], route["path"]) for route in answer.json["routes"]}
    rules = create_app().url_map.iter_rules()
    assert routes == {
        (method, rule.rule) for rule in rules for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert all(route["summary"] for route in answer.json["routes"])
    model = {
        "name": "iris",
        "version": VERSION,
        "features": NAMES,
        "classes": ["setosa", "versicolor", "virginica"],
    }
    assert_json(answer, 200, {"status": "alive", "model": model, "routes": answer.json["routes"]})


@pytest.mark.parametrize("sent", ["abc-1", "0" * 100, "a.B_c"])
def test_a_safe_request_id_is_echoed_on_success_and_failure(call, sent):
    assert call("GET", "/healthz", None, {"X-Request-ID": sent}).headers["X-Request-ID"] == sent
    assert call("GET", "/nothing", None, {"X-Request-ID": sent}).headers["X-Request-ID"] == sent


@pytest.mark.parametrize("sent", ["", "a b", '{"x":1}', "0" * 101, "\u00e9"])
def test_another_request_id_is_replaced(call, sent):
    answer = call("GET", "/healthz", None, {"X-Request-ID": sent})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])


# From here on in this process: what is not the default, and what must never happen.


@pytest.mark.parametrize("sent", ["Bearer one", "bearer two", "Bearer \u00fcber"])
def test_a_key_opens(sent):
    app = create_app(API_KEYS="one, two,\u00fcber")
    header = sent.encode().decode("latin-1")  # as a server hands bytes on
    assert (
        in_process(app, "POST", "/predict", ARTICLE, JSON | {"Authorization": header}).status == 200
    )


@pytest.mark.parametrize(
    "sent", [None, "", "one", "Bearer", "Bearer ", "Bearer on", "Bearer one,two", "Basic one"]
)
def test_without_a_key_only_probes_answer(sent):
    app = create_app(API_KEYS="one,two")
    headers = {} if sent is None else {"Authorization": sent}
    for method, path in [("POST", "/predict"), ("GET", "/"), ("GET", "/nothing")]:
        answer = in_process(app, method, path, ARTICLE, JSON | headers)
        assert_json(answer, 401, {"error": "Expected Authorization: Bearer with a valid key"})
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert (
        in_process(app, "GET", "/healthz").status == in_process(app, "GET", "/readyz").status == 200
    )


def test_an_unforeseen_error_is_a_500_that_tells_nothing(caplog):
    app = create_app()

    def fail(rows):
        raise RuntimeError("secret")

    service_of(app).model.predict = fail
    answer = in_process(app, "POST", "/predict", ARTICLE, JSON)
    assert_json(answer, 500, {"error": "Internal Server Error"})
    assert "secret" in caplog.text


def test_not_ready_is_503_with_the_reason_and_alive_all_the_same():
    app = create_app()
    service_of(app).model.estimator.coef_[:] = 0
    reason = "self-test failed: the predictions differ from the reference rows of the model card"
    assert_json(in_process(app, "GET", "/readyz"), 503, {"error": reason})
    assert in_process(app, "GET", "/healthz").status == 200


numbers = st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3))
rows = st.lists(numbers, max_size=6)
named = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), numbers, max_size=5)
anything = st.recursive(
    numbers, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner)
)
requests = st.fixed_dictionaries(
    {"features": st.one_of(rows, st.lists(rows | named | numbers, max_size=3), named, anything)},
    optional={
        "outputs": st.lists(st.sampled_from(["label", "probability", "x"]), max_size=3) | anything
    },
)
good = st.lists(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4),
    min_size=1,
)
bodies = st.one_of(
    st.binary(),
    st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
    (anything | requests).map(lambda value: json.dumps(value).encode()),
    st.tuples(requests, st.binary(max_size=3), st.integers(0, 60)).map(
        lambda t: (body := json.dumps(t[0]).encode())[: t[2]] + t[1] + body[t[2] :]
    ),
)
APP = create_app()


@given(bodies)
def test_no_body_at_all_makes_a_500(body):
    answer = in_process(APP, "POST", "/predict", body, JSON)
    assert answer.status in (200, 400, 413)
    assert next(iter(answer.json)) == ("prediction" if answer.status == 200 else "error")


@given(good)
def test_every_finite_float32_is_answered(features):
    answer = in_process(
        APP,
        "POST",
        "/predict",
        msgspec.json.encode({"features": features, "outputs": ["probability"]}),
        JSON,
    )
    assert answer.status == 200
    assert len(answer.json["prediction"]) == len(features)
    np.testing.assert_allclose(np.sum(answer.json["probability"], axis=1), 1, rtol=1e-9)

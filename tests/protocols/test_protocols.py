"""Each platform's contract: what it asks is answered in its shape, and what is wrong is refused in its shape.

With SERVICE_URL set, the first part is put to that service, such as the image.
"""

import csv
import json
import re
import resource
import struct
from dataclasses import dataclass
from typing import Any

import joblib
import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import serving
from app import DEFAULTS, ConfigurationError, create_app
from helpers import ARTICLE, JSON, NAMES, ROOT, SETOSA, VERSION, VIRGINICA, in_process
from serving.model.card import ClassInfo, FeatureInfo
from serving.model.storage import save_model

CSV = {"Content-Type": "text/csv"}
ROWS, CLASSES = [SETOSA, VIRGINICA], [0, 2]
ESTIMATOR = joblib.load(ROOT / "model.pkl")


def tensor(text, rows=None):
    """Return an inference request whose data is `text`, with the shape that the rows have."""
    shape = [len(rows), 4] if rows is not None else [1, 4]
    return f'{{"inputs":[{{"name":"x","shape":{shape},"datatype":"FP64","data":{text}}}]}}'


def alone(text, status):
    return {"error": text}


def of_invocations(text, status):
    return {
        "error": text,
        "error_code": "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST",
        "message": text,
    }


@dataclass
class Contract:
    """Where one asks, how rows are wrapped, where the predictions are, and what a failure looks like."""

    path: str
    wrap: Any = "{}"
    unwrap: Any = lambda told: told
    failure: Any = alone

    def body(self, text, rows=None):
        return (
            self.wrap(text, rows) if callable(self.wrap) else self.wrap.replace("{}", text)
        ).encode()


def predictions(told):
    assert list(told) == ["predictions"]
    return told["predictions"]


def output(told):
    [found] = [output for output in told["outputs"] if output["name"] == "predict"]
    assert (found["datatype"], found["shape"]) == ("INT64", [len(found["data"])])
    return found["data"]


V1 = Contract("/v1/models/iris:predict", '{"instances":{}}', predictions)
V2 = Contract("/v2/models/iris/infer", tensor, output)
MLFLOW = Contract("/invocations", '{"inputs":{}}', predictions, of_invocations)
SAGEMAKER = Contract("/invocations", "{}", failure=of_invocations)
AZURE = Contract("/score", '{"data":{}}', failure=lambda text, _: {"message": text})
CONTRACTS = {
    "our own": Contract("/predict", '{"features":{}}', lambda told: told["prediction"]),
    "Open Inference V2": V2,
    "Open Inference V2, of a version": Contract(
        f"/v2/models/iris/versions/{VERSION}/infer", tensor, output
    ),
    "KServe V1": V1,
    "KServe V1, of a version": Contract(
        f"/v1/models/iris/versions/{VERSION}:predict", '{"inputs":{}}', predictions
    ),
    "Vertex AI": Contract("/v1/endpoints/1/deployedModels/2:predict", V1.wrap, predictions),
    "SageMaker": SAGEMAKER,
    "MLflow": MLFLOW,
    "MLflow, split": Contract(
        "/invocations", '{"dataframe_split":{"data":{}}}', predictions, of_invocations
    ),
    "Azure ML": AZURE,
    "Azure ML, frame": Contract("/score", '{"input_data":{"data":{}}}', failure=AZURE.failure),
}
every_contract = pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)


@every_contract
def test_it_answers_as_the_estimator_itself(call, contract):
    rows = load_iris().data
    answer = call("POST", contract.path, contract.body(json.dumps(rows.tolist()), rows), JSON)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert contract.unwrap(answer.json) == ESTIMATOR.predict(rows).tolist()
    assert answer.headers["X-Model-Version"] == VERSION


# A place in the body is told, and what is wrong there; `{}` stands where rows do.
FAULTS = {
    "wrong count": "[[1,1,1]]",
    "too many numbers": "[[1,1,1,1,1]]",
    "ragged": "[[1,1,1,1],[1,1,1]]",
    "no rows": "[]",
    "an empty row": "[[]]",
    "bool": "[[1,1,1,true]]",
    "string": '[[1,1,1,"1"]]',
    "null": "[[1,1,1,null]]",
    "null for a row": "[null]",
    "NaN": "[[1,1,1,NaN]]",
    "Infinity": "[[1,1,1,-Infinity]]",
    "1e999": "[[1,1,1,1e999]]",
    "400 digits": f"[[1,1,1,{'9' * 400}]]",
    "beyond float32": "[[1,1,1,1e39]]",
    "a string": '"x"',
    "an unknown name": '[{"x":1}]',
    "three dimensions": "[[[1,1,1,1]]]",
    "deep": "[" * 100_000,
}


def assert_refused(answer, contract, status, text):
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
    told = next(iter(answer.json.values()))
    assert answer.json == contract.failure(told, status)
    assert re.search(text, told), told
    assert len(told) < 400


@every_contract
@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_rows_are_400(call, contract, fault):
    answer = call("POST", contract.path, contract.body(FAULTS[fault]), JSON)
    assert_refused(answer, contract, 400, "Expected|Object|Number out of range|JSON is malformed")
    assert "X-Model-Version" not in answer.headers


@every_contract
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "The body is empty"),
        (b"hello", "JSON is malformed"),
        (
            b'{"features":{"\xff":1}}',
            "not UTF-8|required field|Expected exactly one of|Expected `array`",
        ),
        (b"null", "Expected `.*`, got `null`"),
        (b"{}", "missing required field|Expected exactly one of|Expected `array`"),
    ],
)
def test_a_wrong_body_is_400(call, contract, body, text):
    assert_refused(call("POST", contract.path, body, JSON), contract, 400, text)


@pytest.mark.parametrize(
    "contract", [c for c in CONTRACTS.values() if c is not SAGEMAKER], ids=lambda c: c.path
)
def test_a_member_that_comes_twice_is_400(call, contract):
    body = contract.body(json.dumps(ROWS), ROWS)
    name = next(iter(json.loads(body)))
    answer = call("POST", contract.path, body[:-1] + b',"%s":[]}' % name.encode(), JSON)
    assert_refused(answer, contract, 400, f"Object contains field `{name}` twice|Expected")


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff",
        b'"\xff"',
        b'"\x01"',
        b"NaN",
        b"01",
        b"[" * 9000,
        b"[" * 200_000 + b"]" * 200_000,
        b'{"a":1,"a":1}',
    ],
)
@pytest.mark.parametrize(
    "contract", [V1, V2, MLFLOW, AZURE], ids=["V1", "V2", "MLflow", "Azure ML"]
)
def test_junk_in_a_member_that_is_not_read_is_400_all_the_same(call, contract, junk):
    body = contract.body(json.dumps(ROWS), ROWS)[:-1] + b',"unread":' + junk + b"}"
    assert_refused(
        call("POST", contract.path, body, JSON),
        contract,
        400,
        "JSON|not UTF-8|too deeply|twice|truncated",
    )


@every_contract
def test_too_many_rows_or_bytes_are_413(call, contract):
    rows = [SETOSA] * (DEFAULTS["MAX_ROWS"] + 1)
    answer = call("POST", contract.path, contract.body(json.dumps(rows), rows), JSON)
    assert_refused(answer, contract, 413, "Expected at most 10000 rows, got 10001")
    answer = call("POST", contract.path, contract.body(json.dumps(rows[:-1]), rows[:-1]), JSON)
    assert (answer.status, contract.unwrap(answer.json)) == (200, [0] * 10_000)
    body = contract.body(json.dumps(ROWS), ROWS).ljust(DEFAULTS["MAX_BODY_BYTES"])
    assert call("POST", contract.path, body, JSON).status == 200
    assert_refused(
        call("POST", contract.path, body + b" ", JSON),
        contract,
        413,
        "Expected at most 1048576 bytes",
    )


@every_contract
def test_another_media_type_or_a_compressed_body_is_415(call, contract):
    body = contract.body(json.dumps(ROWS), ROWS)
    for headers in ({"Content-Type": "application/x-npy"}, JSON | {"Content-Encoding": "gzip"}):
        assert_refused(
            call("POST", contract.path, body, headers),
            contract,
            415,
            "Expected (Content-Type|no Content-)",
        )


# Our own is JSON, whatever is accepted.
@pytest.mark.parametrize("contract", list(CONTRACTS.values())[1:], ids=list(CONTRACTS)[1:])
def test_an_answer_that_is_not_accepted_is_406(call, contract):
    body = contract.body(json.dumps(ROWS), ROWS)
    answer = call("POST", contract.path, body, JSON | {"Accept": "text/html, image/*"})
    assert_refused(answer, contract, 406, "Expected an Accept that admits application/json")
    for accepts in (
        "",
        "*/*",
        "application/*",
        "text/html, */*;q=0.1",
        "application/json, text/csv",
    ):
        assert (
            call("POST", contract.path, body, JSON | {"Accept": accepts}).headers["Content-Type"]
            == JSON["Content-Type"]
        )


@every_contract
def test_another_method_is_405_and_says_which_are_allowed(call, contract):
    answer = call("PUT", contract.path)
    assert_refused(answer, contract, 405, f"PUT {contract.path}: Method Not Allowed")
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize("path", ["/v1/models/iris:predict", "/v2/models/iris/infer"])
def test_a_get_of_a_verb_is_405(call, path):
    answer = call("GET", path)
    assert (answer.status, sorted(answer.headers["Allow"].split(", "))) == (
        405,
        ["OPTIONS", "POST"],
    )


@pytest.mark.parametrize(
    "path",
    [
        "POST /v2/models/rose/infer",
        "POST /v2/models/iris/versions/2/infer",
        "GET /v2/models/rose",
        "GET /v2/models/iris/versions/2",
        "GET /v2/models/rose/ready",
        "POST /v1/models/rose:predict",
        "POST /v1/models/iris/versions/2:predict",
        "GET /v1/models/rose",
        "GET /v2/nothing",
    ],
)
def test_another_model_or_version_is_404(call, path):
    method, path = path.split()
    assert_refused(call(method, path, b"{}", JSON), V2, 404, f"{method} {path}: Not Found")


# Open Inference Protocol V2.


def infer(call, request, *blobs, path=V2.path, headers=JSON):
    body = msgspec.json.encode(request)
    if blobs:
        headers = {
            "Inference-Header-Content-Length": str(len(body))
        }  # and no Content-Type, as Triton's client
    return call("POST", path, body + b"".join(blobs), headers)


def an_input(**members):
    return {"name": "x", "shape": [2, 4], "datatype": "FP64", "data": ROWS} | members


def test_all_outputs_come_unless_some_are_named(call):
    answer = infer(call, {"id": "a/b", "inputs": [an_input()]})
    assert list(answer.json) == ["model_name", "model_version", "id", "outputs"]
    assert (answer.json["model_name"], answer.json["model_version"], answer.json["id"]) == (
        "iris",
        VERSION,
        "a/b",
    )
    predict, probabilities, label = answer.json["outputs"]
    assert predict == {"name": "predict", "datatype": "INT64", "shape": [2], "data": CLASSES}
    assert (probabilities["datatype"], probabilities["shape"]) == ("FP64", [2, 3])
    np.testing.assert_allclose(
        np.reshape(probabilities["data"], (2, 3)), ESTIMATOR.predict_proba(ROWS), rtol=1e-12
    )
    assert label == {
        "name": "label",
        "datatype": "BYTES",
        "shape": [2],
        "data": ["setosa", "virginica"],
    }
    answer = infer(
        call, {"inputs": [an_input()], "outputs": [{"name": "label"}, {"name": "predict"}]}
    )
    assert [output["name"] for output in answer.json["outputs"]] == ["label", "predict"]
    assert re.fullmatch("[0-9a-f-]{36}", answer.json["id"])


DTYPES = {"FP64": "<f8", "FP32": "<f4", "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1",
          "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8"}  # fmt: skip


@pytest.mark.parametrize("datatype", [*DTYPES, "FP16"])
def test_a_tensor_of_each_datatype_is_the_same_in_json_and_binary(call, datatype):
    rows = np.array(ROWS).round() if "INT" in datatype else np.array(ROWS)
    sent = rows.astype(DTYPES.get(datatype, "<f2"))
    expected = ESTIMATOR.predict_proba(sent.astype(float))
    binary = an_input(datatype=datatype, parameters={"binary_data_size": sent.nbytes})
    del binary["data"]
    answers = [infer(call, {"inputs": [binary]}, sent.tobytes())]
    if datatype != "FP16":
        answers.append(infer(call, {"inputs": [an_input(datatype=datatype, data=rows.tolist())]}))
        answers.append(
            infer(call, {"inputs": [an_input(datatype=datatype, data=rows.ravel().tolist())]})
        )
    for answer in answers:
        np.testing.assert_allclose(answer.json["outputs"][1]["data"], expected.ravel(), rtol=1e-12)


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_a_tensor_for_each_feature_may_come_in_any_order(call, shape):
    inputs = [
        an_input(name=NAMES[i], shape=shape, data=[row[i] for row in ROWS]) for i in (3, 1, 0, 2)
    ]
    assert output(infer(call, {"inputs": inputs}).json) == CLASSES
    inputs[1]["shape"] = [1]
    assert infer(call, {"inputs": inputs}).status == 400


def test_one_row_needs_no_second_dimension(call):
    assert output(infer(call, {"inputs": [an_input(shape=[4], data=VIRGINICA)]}).json) == [2]


def test_binary_outputs_follow_the_json(call):
    sent = np.array(ROWS, "<f4")
    binary = {
        "name": "x",
        "shape": [2, 4],
        "datatype": "FP32",
        "parameters": {"binary_data_size": 32},
    }
    answer = infer(
        call, {"inputs": [binary], "parameters": {"binary_data_output": True}}, sent.tobytes()
    )
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/octet-stream")
    length = int(answer.headers["Inference-Header-Content-Length"])
    outputs, rest = json.loads(answer.body[:length])["outputs"], answer.body[length:]
    blobs = []
    for described in outputs:
        assert "data" not in described
        size = described["parameters"]["binary_data_size"]
        blobs.append(rest[:size])
        rest = rest[size:]
    assert rest == b""
    assert np.frombuffer(blobs[0], "<i8").tolist() == CLASSES
    np.testing.assert_allclose(
        np.frombuffer(blobs[1], "<f8"), ESTIMATOR.predict_proba(sent.astype(float)).ravel()
    )
    assert blobs[2] == struct.pack("<I6sI9s", 6, b"setosa", 9, b"virginica")

    wanted = [{"name": "predict", "parameters": {"binary_data": False}}, {"name": "label"}]
    asked = {"inputs": [an_input()], "outputs": wanted, "parameters": {"binary_data_output": True}}
    answer = infer(call, asked)
    predict, label = json.loads(
        answer.body[: int(answer.headers["Inference-Header-Content-Length"])]
    )["outputs"]
    assert predict["data"] == CLASSES and "data" not in label


LIES = {  # an input's members, the bytes behind the JSON, and what is then told
    "size too small": ({"parameters": {"binary_data_size": 31}}, 31, "Expected 32 bytes for FP32"),
    "size too large": ({"parameters": {"binary_data_size": 33}}, 33, "Expected 32 bytes for FP32"),
    "size negative": ({"parameters": {"binary_data_size": -32}}, 32, "Expected 32 bytes for FP32"),
    "size a string": ({"parameters": {"binary_data_size": "32"}}, 32, "Expected `int`, got `str`"),
    "bytes missing": ({}, 31, "got 32 with 31 bytes left"),
    "bytes too many": ({}, 33, "Expected 32 bytes of binary data after the JSON, got 33"),
    "nothing behind": ({}, 0, "got 32 with 0 bytes left"),
    "data as well": ({"data": ROWS}, 32, "Expected either data or parameters.binary_data_size"),
    "negative shape": ({"shape": [-2, -4]}, 32, "Expected `int` >= 1"),
    "empty shape": ({"shape": []}, 32, "Expected `array` of length >= 1"),
    "no rows": ({"shape": [0, 4]}, 0, "Expected `int` >= 1"),
    "shape too deep": ({"shape": [1] * 300_000}, 32, "Expected `array` of length <= 2"),
    "product overflows": ({"shape": [2**62, 4]}, 32, "got 32"),
    "beyond 64 bits": (
        {"shape": [2**64, 4]},
        32,
        "Expected `int` <= 9223372036854775807|out of range",
    ),
    "wrong features": ({"shape": [4, 2]}, 32, r"Expected the shape \[N, 4\] or \[4\]"),
    "wrong datatype": ({"datatype": "BYTES"}, 32, "Invalid enum value 'BYTES'"),
    "BOOL": ({"datatype": "BOOL"}, 8, "Invalid enum value 'BOOL'"),
    "shared memory": ({"parameters": {"shared_memory_region": "x"}}, 0, "Expected either data or"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_binary_tensor_that_lies_is_400(call, lie):
    members, behind, text = LIES[lie]
    binary = {
        "name": "x",
        "shape": [2, 4],
        "datatype": "FP32",
        "parameters": {"binary_data_size": 32},
    } | members
    assert_refused(infer(call, {"inputs": [binary]}, b"\0" * behind, b""), V2, 400, text)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_a_binary_number_that_is_none_is_400(call, value):
    binary = {"name": "x", "shape": [4], "datatype": "FP64", "parameters": {"binary_data_size": 32}}
    answer = infer(call, {"inputs": [binary]}, np.array([1, 2, value, 4], "<f8").tobytes())
    assert_refused(
        answer, V2, 400, r"Expected finite numbers of at most 3.4\d*e\+38 - at `\$.inputs\[0\]`"
    )


@pytest.mark.parametrize("length", ["-1", "1e2", "", "9" * 5000, "x", "\u0663", "999999"])
def test_a_json_length_that_lies_is_400(call, length):
    headers = JSON | {"Inference-Header-Content-Length": length.encode().decode("latin-1")}
    answer = call("POST", V2.path, V2.body(json.dumps(ROWS), ROWS), headers)
    assert_refused(answer, V2, 400, "Expected a JSON length of at most the body's [0-9]+ bytes")


def test_a_json_length_that_cuts_the_json_is_400(call):
    body = V2.body(json.dumps(ROWS), ROWS)
    answer = call(
        "POST", V2.path, body, JSON | {"Inference-Header-Content-Length": str(len(body) - 1)}
    )
    assert_refused(answer, V2, 400, "Input data was truncated")


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"datatype": "FP16"}, "FP16 has no JSON form"),
        ({"datatype": "INT64"}, "Expected numbers of INT64"),
        ({"datatype": "INT8", "data": [[128, 0, 0, 0]] * 2}, "Expected numbers of INT8"),
        ({"datatype": "UINT8", "data": [[-1, 0, 0, 0]] * 2}, "Expected numbers of UINT8"),
        ({"datatype": "INT64", "data": [[1e30, 0, 0, 0]] * 2}, "Expected numbers of INT64"),
        ({"shape": [1, 4]}, r"Expected data of shape \[1, 4\]"),
        ({"data": [1, 2, 3]}, r"Expected data of shape \[2, 4\]"),
        ({"data": [[1, 2, 3], [4, 5, 6, 7, 8]]}, r"Expected data of shape \[2, 4\]"),
        ({"data": [[], []], "shape": [2]}, r"Expected data of shape \[2\]"),
        ({"data": [1, [2]], "shape": [2]}, r"Expected data of shape \[2\]"),
    ],
)
def test_data_that_is_not_as_its_shape_or_datatype_says_is_400(call, members, text):
    assert_refused(infer(call, {"inputs": [an_input(**members)]}), V2, 400, text)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"inputs": []}, "Expected one input, or 4 inputs named after the features, got 0"),
        (
            {"inputs": [an_input()] * 2},
            "Expected one input, or 4 inputs named after the features, got 2",
        ),
        (
            {"outputs": [{"name": "x"}]},
            r"Expected one of predict, predict_proba, label - at `\$.outputs\[0\].name`",
        ),
        (
            {"outputs": [{"name": "label"}] * 2},
            r"Expected one of predict, predict_proba - at `\$.outputs\[1\].name`",
        ),
        (
            {"outputs": [{"name": "predict", "parameters": {"classification": 2}}]},
            "unknown field `classification`",
        ),
        ({"id": 1}, "Expected `str`, got `int`"),
    ],
)
def test_an_inference_request_that_cannot_be_is_400(call, members, text):
    assert_refused(infer(call, {"inputs": [an_input()]} | members), V2, 400, text)


def test_the_server_and_the_model_describe_themselves(call):
    extensions = {
        "name": "flask-ml-model",
        "version": serving.__version__,
        "extensions": ["binary_tensor_data"],
    }
    assert call("GET", "/v2").json == call("GET", "/v2/").json == extensions
    for path in ("/v2/models/iris", f"/v2/models/iris/versions/{VERSION}"):
        assert call("GET", path).json == {
            "name": "iris",
            "versions": [VERSION],
            "platform": "sklearn_joblib",
            "inputs": [{"name": "features", "datatype": "FP64", "shape": [-1, 4]}],
            "outputs": [
                {"name": "predict", "datatype": "INT64", "shape": [-1]},
                {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 3]},
                {"name": "label", "datatype": "BYTES", "shape": [-1]},
            ],
        }
        assert call("GET", f"{path}/ready").json == {"name": "iris", "ready": True}


def test_health_is_told_as_each_platform_asks(call):
    assert call("GET", "/v2/health/live").json == {"live": True}
    assert call("GET", "/v2/health/ready").json == {"live": True, "ready": True}
    for path in ("/ping", "/health", "/v1/endpoints/1/deployedModels/2:predict"):
        answer = call("GET", path)
        assert (answer.status, answer.body) == (200, b"\n")
    assert call("GET", "/version").body == VERSION.encode()
    assert call("GET", "/v1/models").json == {"models": ["iris"]}
    state = {
        "version": VERSION,
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    assert call("GET", "/v1/models/iris").json == {
        "name": "iris",
        "ready": True,
        "model_version_status": [state],
    }
    assert call("GET", "/").json["status"] == "alive"  # KServe V1, Azure ML


# What the tabular contracts have beyond rows.


def ask(call, contract, members, headers=JSON):
    return call("POST", contract.path, msgspec.json.encode(members), headers)


NAMED = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
ORDER = [3, 1, 0, 2]
MIXED = {
    "columns": [NAMES[i] for i in ORDER],
    "index": [7, "x"],
    "data": [[row[i] for i in ORDER] for row in ROWS],
}
BY_COLUMN = {name: [row[i] for row in ROWS] for i, name in enumerate(NAMES)}


@pytest.mark.parametrize(
    ("contract", "members"),
    [
        (V1, {"instances": NAMED, "parameters": {"x": [[[]]]}, "signature_name": "x"}),
        (V1, {"inputs": BY_COLUMN}),
        (MLFLOW, {"dataframe_split": MIXED, "params": {"x": 1}}),
        (
            MLFLOW,
            {"dataframe_split": {"columns": [0, 1, 2, 3], "data": ROWS}},
        ),  # pandas counts those without names
        (MLFLOW, {"dataframe_records": NAMED}),
        (MLFLOW, {"instances": NAMED}),
        (MLFLOW, {"inputs": BY_COLUMN}),
        (SAGEMAKER, ROWS),
        (AZURE, {"input_data": MIXED}),
        (AZURE, {"data": NAMED}),
    ],
)
def test_rows_may_have_names(call, contract, members):
    assert contract.unwrap(ask(call, contract, members).json) == CLASSES


@pytest.mark.parametrize(
    ("contract", "members", "text"),
    [
        (
            V1,
            {"instances": ROWS, "inputs": ROWS},
            "Expected exactly one of instances, inputs, got instances and inputs",
        ),
        (MLFLOW, {"x": ROWS}, "Expected exactly one of dataframe_split, .*, got none"),
        (
            MLFLOW,
            {"dataframe_split": MIXED | {"columns": NAMES[:3]}},
            "Expected the columns sepal length .* - at `",
        ),
        (MLFLOW, {"dataframe_split": MIXED | {"columns": NAMES[:3] * 2}}, "Expected the columns"),
        (MLFLOW, {"dataframe_split": {"columns": NAMES}}, "missing required field `data`"),
        (
            MLFLOW,
            {"inputs": BY_COLUMN | {NAMES[2]: [1]}},
            "Expected 2 numbers, got 1 - at `.*petal length",
        ),
        (MLFLOW, {"inputs": {name: [] for name in NAMES}}, "Expected at least one row"),
        (MLFLOW, {"dataframe_records": [NAMED[0], {}]}, "missing required field"),
        (SAGEMAKER, [SETOSA, 1.0], r"Expected rows of one kind, or numbers alone - at `\$\[1\]`"),
        (V1, {"instances": [SETOSA, NAMED[0]]}, "Expected rows of one kind"),
    ],
)
def test_members_that_do_not_go_together_are_400(call, contract, members, text):
    assert_refused(ask(call, contract, members), contract, 400, text)


def test_one_bare_row_is_one_prediction(call):
    assert ask(call, SAGEMAKER, VIRGINICA).json == [2]


HEADED = (
    ",".join(MIXED["columns"])
    + "\r\n"
    + "\n".join(",".join(map(str, row)) for row in MIXED["data"])
)


@pytest.mark.parametrize(
    ("text", "accept", "mimetype", "told"),
    [
        ("5.1,3.5,1.4,0.2", None, "text/csv", "0\n"),
        ("5.1, 3.5, 1.4, 2e-1\n6.3,3.3,6,2.5\n", "*/*", "text/csv", "0\n2\n"),
        (
            "\ufeff5.1,3.5,1.4,0.2\r\n6.3,3.3,6,2.5\r\n",
            "text/csv, application/json",
            "text/csv",
            "0\n2\n",
        ),
        ("5.1,3.5,1.4,0.2\n6.3,3.3,6,2.5", "application/json", "application/json", "[0,2]\n"),
        (HEADED, None, "text/csv", "0\n2\n"),
        (HEADED, "application/json, text/csv", "application/json", '{"predictions":[0,2]}\n'),
        (HEADED, "text/csv;q=0.5, application/json", "application/json", '{"predictions":[0,2]}\n'),
    ],
)
def test_csv_is_answered_as_csv_unless_json_is_preferred(call, text, accept, mimetype, told):
    answer = call(
        "POST", "/invocations", text.encode(), CSV | ({"Accept": accept} if accept else {})
    )
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, mimetype)
    assert answer.body.decode() == told
    assert answer.headers["X-Model-Version"] == VERSION


def test_json_may_be_answered_as_csv(call):
    answer = ask(call, SAGEMAKER, ROWS, JSON | {"Accept": "text/csv, application/json"})
    assert (answer.headers["Content-Type"], answer.body) == ("text/csv; charset=utf-8", b"0\n2\n")
    assert (
        ask(call, SAGEMAKER, ROWS, JSON | {"Accept": "application/json, text/csv"}).json == CLASSES
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "Expected at least one row"),
        (b"\n\n", "Expected at least one row"),
        (HEADED.splitlines()[0].encode(), "Expected at least one row"),
        (b"1,2,3", r"Expected 4 numbers, got 3 - at `\$\[0\]`"),
        (b"1,2,3,4\n1,2,3", r"Expected 4 numbers, got 3 - at `\$\[1\]`"),
        (b"1,2,3,4\n\n1,2,3,4", r"Expected 4 numbers, got 0 - at `\$\[1\]`"),
        (b"1,2,3,4\n1,2,,4", r"Expected `float`, got `str` - at `\$\[1\]\[2\]`"),
        (b"1,2,3,4\n1,2,true,4", r"Expected `float`, got `str`"),
        (b"1,2,3,4\n1,2,nan,4", r"Expected `float` >= "),
        (b"1,2,3,4\n1,2,inf,4", r"Expected `float` <= "),
        (b"1,2,3,4\n1,2,1e999,4", r"Number out of range"),
        (b"1,2,3,4\n1,2,1_0,4", r"Expected `float`, got `str`"),
        (b"nan,2,3,4", r"Expected the columns .* - at `line 1`"),
        (b"a,b,c,d\n1,2,3,4", r"Expected the columns .* - at `line 1`"),
        (b'1,2,3,"4', "CSV is malformed"),
        (b"1,2,3,4\xff", "The body is not UTF-8"),
        (b"1," * 200_000, "Expected"),
        (b'"' + b"x" * 200_000 + b'"', "CSV is malformed|Expected the columns"),
    ],
)
def test_a_fault_in_csv_is_400(call, text, told):
    assert_refused(call("POST", "/invocations", text, CSV), MLFLOW, 400, told)


def test_too_many_lines_of_csv_are_413(call):
    assert_refused(
        call("POST", "/invocations", b"1,2,3,4\n" * 10_001, CSV),
        MLFLOW,
        413,
        "at most 10000 rows, got 10001",
    )


def test_a_long_request_id_is_431_where_azure_asks(call):
    headers = JSON | {"X-Request-ID": "x" * 101}
    assert_refused(ask(call, AZURE, {"data": ROWS}, headers), AZURE, 431, "at most 100 characters")
    assert (
        ask(call, AZURE, {"data": ROWS}, JSON | {"X-Request-ID": "x" * 100}).headers["X-Request-ID"]
        == "x" * 100
    )
    assert ask(call, V1, {"instances": ROWS}, headers).status == 200


def test_batch_transform_is_told_what_will_be_taken(call):
    # The shortest rows that fill a megabyte are more than MAX_ROWS, so that records come one by one.
    told = call("GET", "/execution-parameters").json
    assert told == {
        "MaxConcurrentTransforms": told["MaxConcurrentTransforms"],
        "BatchStrategy": "SINGLE_RECORD",
        "MaxPayloadInMB": 1,
    }
    assert told["MaxConcurrentTransforms"] >= 1


# From here on in this process: what is not the default, and what must never happen.


def test_with_more_rows_allowed_batch_transform_may_fill_its_payload():
    app = create_app(MAX_ROWS=1_000_000, MAX_BODY_BYTES=6 * 2**20)
    told = in_process(app, "GET", "/execution-parameters").json
    assert told == {
        "MaxConcurrentTransforms": 1,
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": 6,
    }
    answer = in_process(app, "POST", "/invocations", b"1,1,1,1\n" * (6 * 2**20 // 8), CSV)
    assert answer.status == 200


@every_contract
def test_each_prediction_is_counted_and_needs_a_key(contract):
    app = create_app(API_KEYS="one")
    body = contract.body(json.dumps(ROWS), ROWS)
    answer = in_process(app, "POST", contract.path, body, JSON)
    assert_refused(answer, contract, 401, "Expected Authorization: Bearer with a valid key")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert (
        in_process(app, "POST", contract.path, body, JSON | {"Authorization": "Bearer one"}).status
        == 200
    )
    metrics = in_process(
        app, "GET", "/metrics", None, {"Authorization": "Bearer one"}
    ).body.decode()
    assert f'rows_total{{model_version="{VERSION}"}} 2.0' in metrics
    assert f'predictions_total{{class="2",model_version="{VERSION}"}} 1.0' in metrics


@every_contract
def test_an_unforeseen_error_is_a_500_that_tells_nothing(contract, caplog):
    app = create_app()

    def fail(rows):
        raise RuntimeError("secret")

    app.extensions["model"].predict = fail
    answer = in_process(app, "POST", contract.path, contract.body(json.dumps(ROWS), ROWS), JSON)
    assert (answer.status, answer.json) == (500, contract.failure("Internal Server Error", 500))
    assert "secret" in caplog.text


PROBES = [
    "/ping",
    "/health",
    "/v2/health/live",
    "/v2/health/ready",
    "/v1/endpoints/1/deployedModels/2:predict",
]


def test_probes_need_no_key_and_are_logged_quietly(caplog):
    app = create_app(API_KEYS="one", AIP_HEALTH_ROUTE="/alive")
    caplog.set_level("INFO")
    assert [in_process(app, "GET", path).status for path in [*PROBES, "/alive"]] == [200] * 6
    assert "GET" not in caplog.text
    body = json.dumps({"instances": ROWS})
    assert in_process(app, "POST", PROBES[-1], body, JSON).status == 401
    caplog.clear()
    assert (
        in_process(app, "POST", PROBES[-1], body, JSON | {"Authorization": "Bearer one"}).status
        == 200
    )
    assert "POST" in caplog.text


def test_a_model_that_fails_its_self_test_is_not_ready_anywhere():
    app = create_app()
    app.extensions["model"].estimator.coef_[:] = 0
    ready = [
        "/ping",
        "/health",
        "/v2/health/ready",
        "/v2/models/iris/ready",
        "/v1/models/iris",
        PROBES[-1],
    ]
    assert [in_process(app, "GET", path).status for path in ready] == [503] * 6
    assert in_process(app, "GET", "/v2/health/live").status == 200


def test_vertex_ai_says_where_it_asks():
    app = create_app(AIP_HEALTH_ROUTE="/healthz", AIP_PREDICT_ROUTE="/predict")
    assert in_process(app, "GET", "/healthz").body == b"\n"
    assert in_process(app, "POST", "/predict", json.dumps({"instances": ROWS}), JSON).json == {
        "predictions": CLASSES
    }
    assert in_process(app, "POST", "/predict", ARTICLE, JSON).status == 400  # it is Vertex AI's now
    app = create_app(AIP_HEALTH_ROUTE="/a", AIP_PREDICT_ROUTE="/a")
    assert in_process(app, "GET", "/a").status == 200
    assert in_process(app, "POST", "/a", json.dumps({"instances": ROWS}), JSON).status == 200
    assert in_process(app, "POST", "/predict", ARTICLE, JSON).json == {"prediction": [0]}
    assert in_process(app, "GET", "/openapi.json").json["paths"]["/a"].keys() == {"get", "post"}
    for route in ("a", "/<a>", "/a b", "/a?b", "/a\n"):
        with pytest.raises(ConfigurationError, match="AIP_HEALTH_ROUTE: expected a path, got "):
            create_app(AIP_HEALTH_ROUTE=route)


def a_model(tmp_path, estimator, X, names=None, classes=()):  # noqa: N803
    names = names or [f"f{i}" for i in range(X.shape[1])]
    features = [FeatureInfo(name, None, 0.0, 1.0, [0.0, 1.0], [1.0]) for name in names]
    save_model(
        tmp_path / "model.pkl", estimator, name="m", features=features, rows=len(X), metrics={}, data={},
        reference=X[:3], classes=list(classes),
    )  # fmt: skip
    return create_app(MODEL_PATH=str(tmp_path / "model.pkl"))


def test_a_regressor_answers_each_contract(tmp_path):
    X, y = load_diabetes(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LinearRegression()).fit(X, y)
    app = a_model(tmp_path, pipeline, X)
    rows, expected = X[:2].tolist(), pipeline.predict(X[:2]).tolist()
    request = {"inputs": [{"name": "x", "shape": [2, 10], "datatype": "FP64", "data": rows}]}
    [told] = in_process(app, "POST", "/v2/models/m/infer", msgspec.json.encode(request), JSON).json[
        "outputs"
    ]
    assert (told["name"], told["datatype"], told["shape"]) == ("predict", "FP64", [2])
    np.testing.assert_allclose(told["data"], expected)
    assert in_process(app, "GET", "/v2/models/m").json["outputs"] == [
        {"name": "predict", "datatype": "FP64", "shape": [-1]}
    ]
    for path, body in {
        "/v1/models/m:predict": {"instances": rows},
        "/invocations": rows,
        "/score": {"data": rows},
    }.items():
        told = in_process(app, "POST", path, msgspec.json.encode(body), JSON).json
        np.testing.assert_allclose(
            told["predictions"] if isinstance(told, dict) else told, expected
        )


def test_a_regressor_of_several_outputs_answers_a_row_of_them(tmp_path):
    X, y = load_diabetes(return_X_y=True)
    estimator = LinearRegression().fit(X, np.column_stack([y, -y]))
    app = a_model(tmp_path, estimator, X)
    expected = estimator.predict(X[:2])
    assert in_process(app, "GET", "/v2/models/m").json["outputs"] == [
        {"name": "predict", "datatype": "FP64", "shape": [-1, 2]}
    ]
    request = {
        "inputs": [{"name": "x", "shape": [2, 10], "datatype": "FP64", "data": X[:2].tolist()}]
    }
    [told] = in_process(app, "POST", "/v2/models/m/infer", msgspec.json.encode(request), JSON).json[
        "outputs"
    ]
    assert told["shape"] == [2, 2]
    np.testing.assert_allclose(told["data"], expected.ravel())
    answer = in_process(
        app,
        "POST",
        "/invocations",
        msgspec.json.encode(X[:2].tolist()),
        JSON | {"Accept": "text/csv"},
    )
    np.testing.assert_allclose(
        [list(map(float, line)) for line in csv.reader(answer.body.decode().splitlines())], expected
    )


@pytest.mark.parametrize("values", [["no", "yes, it is"], [False, True]])
def test_classes_of_another_kind_are_told_as_they_are(tmp_path, values):
    X, y = load_iris(return_X_y=True)
    X, y = X[y < 2], np.array(values)[y[y < 2]]
    classes = [ClassInfo(value, f"label of {value}", 0.5) for value in values]
    app = a_model(tmp_path, LogisticRegression().fit(X, y), X, classes=classes)
    kind = "BOOL" if values[0] is False else "BYTES"
    assert in_process(app, "GET", "/v2/models/m").json["outputs"][0]["datatype"] == kind
    request = {
        "inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP64", "data": X[[0, -1]].tolist()}]
    }
    request["outputs"] = [{"name": "predict"}]
    answer = in_process(app, "POST", "/v2/models/m/infer", msgspec.json.encode(request), JSON)
    [told] = answer.json["outputs"]
    assert (told["datatype"], told["data"]) == (kind, values)
    request["parameters"] = {"binary_data_output": True}
    answer = in_process(app, "POST", "/v2/models/m/infer", msgspec.json.encode(request), JSON)
    blob = answer.body[int(answer.headers["Inference-Header-Content-Length"]) :]
    assert blob == (
        b"\0\1" if kind == "BOOL" else struct.pack("<I2sI10s", 2, b"no", 10, b"yes, it is")
    )
    answer = in_process(
        app, "POST", "/invocations", json.dumps(X[[0, -1]].tolist()), JSON | {"Accept": "text/csv"}
    )
    assert [line for [line] in csv.reader(answer.body.decode().splitlines())] == list(
        map(str, values)
    )


def test_without_a_card_there_is_a_name_and_rows_go_by_position(tmp_path):
    X, y = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=200).fit(X, y), tmp_path / "model.pkl")
    app = create_app(MODEL_PATH=str(tmp_path / "model.pkl"))
    described = in_process(app, "GET", "/v2/models/model").json
    assert [output["name"] for output in described["outputs"]] == ["predict", "predict_proba"]
    body = json.dumps({"dataframe_split": {"columns": [0, 1, 2, 3], "data": ROWS}})
    assert in_process(app, "POST", "/invocations", body, JSON).json == {"predictions": CLASSES}
    for body in (
        {"instances": [{}]},
        {"inputs": {}},
        {"instances": NAMED},
        {"dataframe_split": MIXED},
    ):
        assert in_process(app, "POST", "/invocations", json.dumps(body), JSON).status == 400
    assert in_process(app, "POST", "/invocations", HEADED, CSV).status == 400


def test_a_feature_may_be_alone(tmp_path):
    X, y = load_iris(return_X_y=True)
    app = a_model(tmp_path, LinearRegression().fit(X[:, :1], y), X[:, :1], names=["a"])
    for name, shape in [("a", [2]), ("a", [2, 1]), ("x", [2, 1]), ("x", [1])]:
        request = {
            "inputs": [
                {"name": name, "shape": shape, "datatype": "FP64", "data": [1.0, 2.0][: shape[0]]}
            ]
        }
        answer = in_process(app, "POST", "/v2/models/m/infer", msgspec.json.encode(request), JSON)
        assert answer.json["outputs"][0]["shape"] == shape[:1]


# Whatever comes.

APP = create_app()
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3)
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
)
sizes = st.integers(-5, 9) | st.sampled_from([2**31, 2**32, 2**62, 2**63, 2**64, 10**30])
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", *NAMES]) | anything,
        "shape": st.lists(sizes, max_size=3) | anything,
        "datatype": st.sampled_from([*DTYPES, "FP16", "BYTES", "BOOL", "BF16"]) | anything,
    },
    optional={
        "data": st.lists(
            st.floats(width=32, allow_nan=False, allow_infinity=False) | anything, max_size=9
        )
        | anything,
        "parameters": st.fixed_dictionaries({"binary_data_size": sizes | anything}) | anything,
    },
)
asked = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=4) | anything},
    optional={
        "outputs": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["predict", "label", "x"])})
        )
        | anything,
        "parameters": st.fixed_dictionaries({"binary_data_output": st.booleans() | anything})
        | anything,
    },
)


@given(asked, st.binary(max_size=80), st.integers(-3, 3) | st.none())
@example({"inputs": [{"name": "x", "shape": [4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}]},
         struct.pack("<f", float("nan")) * 4, 0)  # fmt: skip
@example({"inputs": [{"name": "x", "shape": [4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}]},
         b"\x01\x00\xa0\x7f" * 4, 0)  # a NaN that signals  # fmt: skip
def test_no_inference_request_at_all_makes_a_500(request, behind, off):
    body = json.dumps(request).encode()
    headers = {} if off is None else {"Inference-Header-Content-Length": str(len(body) + off)}
    answer = in_process(APP, "POST", V2.path, body + behind, headers)
    assert answer.status in (200, 400)
    assert answer.status == 200 or list(answer.json) == ["error"]


@given(st.integers(1, 40), st.data())
def test_a_binary_tensor_is_read_back_as_it_was_sent(n, data):
    values = data.draw(
        st.lists(
            st.floats(width=32, allow_nan=False, allow_infinity=False),
            min_size=4 * n,
            max_size=4 * n,
        )
    )
    rows = np.array(values, "<f4").reshape(n, 4)
    request = {
        "inputs": [
            {
                "name": "x",
                "shape": [n, 4],
                "datatype": "FP32",
                "parameters": {"binary_data_size": rows.nbytes},
            }
        ]
    }
    body = msgspec.json.encode(request)
    decoded, _ = APP.extensions["contracts"].infer.decode(body + rows.tobytes(), str(len(body)))
    np.testing.assert_array_equal(decoded, rows)


members = st.sampled_from(
    ["instances", "inputs", "dataframe_split", "dataframe_records", "data", "input_data", "columns"]
)
frames = st.dictionaries(
    members | st.sampled_from(NAMES), anything | st.lists(st.lists(st.integers(0, 9), max_size=5))
)
tabular = st.dictionaries(members, frames | anything) | st.lists(anything) | anything


@given(st.sampled_from([V1.path, "/invocations", "/score"]), tabular)
def test_no_rows_at_all_make_a_500(path, request):
    assert in_process(APP, "POST", path, json.dumps(request), JSON).status in (200, 400)


@given(st.text() | st.lists(st.lists(st.floats() | st.text(max_size=3))).map(str) | st.binary())
def test_no_csv_at_all_makes_a_500(text):
    body = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    assert in_process(APP, "POST", "/invocations", body, CSV).status in (200, 400)


def test_memory_is_bounded_by_the_body():
    # Each asks for far more than it brings; what a refusal costs is small against a body of this size.
    limit = DEFAULTS["MAX_BODY_BYTES"]
    tensor = {
        "name": "x",
        "shape": [2**31, 4],
        "datatype": "FP64",
        "parameters": {"binary_data_size": 2**36},
    }
    zeros = {
        "name": "x",
        "shape": [limit // 8 // 4, 4],
        "datatype": "UINT8",
        "parameters": {"binary_data_size": limit // 8},
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for one in (tensor, tensor | {"shape": [2**62, 2**62]}, tensor | {"data": [0.0]}, zeros):
        body = msgspec.json.encode({"inputs": [one]})
        headers = {"Inference-Header-Content-Length": str(len(body))}
        behind = one["parameters"]["binary_data_size"] if one is zeros else limit // 2
        assert in_process(APP, "POST", V2.path, body + b"\0" * behind, headers).status in (400, 413)
    empty = b"[],[]," * (limit // 6 - 9)
    for body in (
        b'{"x":' + b"[" * (limit - 5),
        b'{"x":[' + empty + b'0],"instances":[[1,1,1,1]],"y":0}',
    ):
        assert in_process(APP, "POST", V1.path, body, JSON).status in (200, 400)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # kB

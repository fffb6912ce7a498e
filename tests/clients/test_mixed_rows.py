"""Each platform's client sends a DataFrame of numbers, strings and missing values.

The predictions are those of the estimator itself for the DataFrame that pandas read.
"""

import asyncio
import json
import subprocess

import numpy as np
import pandas as pd
import pytest
import tritonclient.http
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceRESTClient, RESTConfig
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from clients.examples import ROOT

PENGUINS = ROOT / "examples/penguins/penguins.csv"
FEATURES = [
    "bill_length_mm",
    "bill_depth_mm",
    "flipper_length_mm",
    "body_mass_g",
    "island",
    "sex",
]
FRAME = pd.read_csv(PENGUINS)[FEATURES]

PREDICT = f"""
import json, sys, joblib, pandas
frame = pandas.read_csv({str(PENGUINS)!r})[{FEATURES!r}]
print(json.dumps(joblib.load(sys.argv[1]).predict(frame).tolist()))
"""


@pytest.fixture(scope="module")
def expected(penguins_model):
    """Return the predictions of the estimator in the service's environment."""
    command = [ROOT / ".venv/bin/python", "-c", PREDICT, penguins_model]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


@pytest.mark.claim("MLflow", "mlflow-skinny", "invoke with strings and missing values")
def test_mlflow(penguins_address, expected):
    client = ScoringServerClient(*penguins_address.split(":"))
    assert client.invoke(FRAME)["predictions"] == expected
    assert client.invoke(FRAME[FEATURES[::-1]])["predictions"] == expected


def infer_with_kserve(address, inputs):
    request = InferRequest("penguins", inputs, parameters={"content_type": "pd"})

    async def run():
        async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
            return await client.infer(f"http://{address}", request, "penguins")

    return asyncio.run(run()).outputs[0].as_numpy().tolist()


@pytest.mark.claim("Open Inference V2", "kserve", "infer with one input per feature, strings too")
@pytest.mark.parametrize("binary", [False, True])
def test_kserve_v2(penguins_address, expected, binary):
    inputs = []
    for name in FEATURES:
        column = FRAME[name]
        if column.dtype == float:
            tensor = InferInput(name, [len(column)], "FP64")
            values = column.to_numpy()
        else:
            tensor = InferInput(name, [len(column)], "BYTES")
            values = column.fillna("").to_numpy(dtype=object)
        if binary or column.dtype != float:
            tensor.set_data_from_numpy(values, binary_data=binary)
        else:
            # In JSON this client writes null for NaN, and has no method that takes an array.
            tensor.data = values.tolist()
        inputs.append(tensor)
    assert infer_with_kserve(penguins_address, inputs) == expected


@pytest.mark.claim("KServe V1", "kserve", "predict, rows with strings and null")
def test_kserve_v1(penguins_address, expected):
    instances = json.loads(FRAME.to_json(orient="records"))

    async def run():
        async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
            request = {"instances": instances}
            return await client.infer(f"http://{penguins_address}", request, "penguins")

    assert asyncio.run(run()) == {"predictions": expected}


@pytest.mark.claim("Open Inference V2", "tritonclient", "infer with BYTES and NaN")
def test_triton(penguins_address, expected):
    inputs = []
    for name in FEATURES:
        column = FRAME[name]
        values = column.to_numpy()
        datatype = "FP64"
        if column.dtype != float:
            values = np.array([text.encode() for text in column.fillna("")], dtype=object)
            datatype = "BYTES"
        tensor = tritonclient.http.InferInput(name, [len(values)], datatype)
        inputs.append(tensor.set_data_from_numpy(values))

    with tritonclient.http.InferenceServerClient(penguins_address) as client:
        result = client.infer("penguins", inputs)
    assert [label.decode() for label in result.as_numpy("predict")] == expected

"""MLflow's scoring client, and its encoders."""

import json
import urllib.request

import numpy as np
import pandas as pd
import pytest
from mlflow.deployments import PredictionsResponse
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from mlflow.utils.proto_json_utils import dump_input_data

from clients.examples import CLASSES, ROWS

PROTOCOL = "MLflow"
CLIENT = "mlflow-skinny"


@pytest.fixture
def client(address):
    return ScoringServerClient(*address.split(":"))


def post_invocations(address, body, **headers):
    request = urllib.request.Request(f"http://{address}/invocations", body.encode(), headers)
    with urllib.request.urlopen(request) as response:
        return PredictionsResponse.from_json(response.read().decode())


@pytest.mark.claim(PROTOCOL, CLIENT, "ping, version")
def test_ping_and_version(client, model):
    client.wait_server_ready(timeout=5)
    assert client.get_version() == model["version"]


@pytest.mark.claim(PROTOCOL, CLIENT, "invoke with a frame, an array, a list and params")
def test_invoke(client, model):
    frame = pd.DataFrame(ROWS, columns=model["features"])
    reversed_frame = frame[frame.columns[::-1]]
    for data in (frame, reversed_frame, pd.DataFrame(ROWS), np.array(ROWS), ROWS):
        response = client.invoke(data, params={"temperature": 1})
        assert response["predictions"] == CLASSES
    assert client.invoke(frame).get_predictions()[0].tolist() == CLASSES


@pytest.mark.claim(PROTOCOL, CLIENT, "invoke with a frame that has further columns")
def test_invoke_with_further_columns(client, model):
    frame = pd.DataFrame(ROWS, columns=model["features"])
    frame.insert(0, "id", ["a", "b", "c"])
    frame["when"] = pd.Timestamp("2026-01-01")
    assert client.invoke(frame)["predictions"] == CLASSES


@pytest.mark.claim(PROTOCOL, CLIENT, "its encoders, and pandas' records, columns and CSV")
def test_encoders(address, model):
    frame = pd.DataFrame(ROWS, columns=model["features"])
    bodies = [
        dump_input_data(frame),
        json.dumps({"dataframe_records": frame.to_dict(orient="records")}),
        dump_input_data(np.array(ROWS), inputs_key="instances"),
        json.dumps({"inputs": frame.to_dict(orient="list")}),
    ]
    for body in bodies:
        response = post_invocations(address, body, **{"Content-Type": "application/json"})
        assert response == {"predictions": CLASSES}

    headers = {"Content-Type": "text/csv", "Accept": "application/json"}
    response = post_invocations(address, frame.to_csv(index=False), **headers)
    assert response == {"predictions": CLASSES}


@pytest.mark.claim(PROTOCOL, CLIENT, "an error raises its own exception, with our message")
def test_error_raises_client_exception(client):
    with pytest.raises(Exception, match=r"error code 400.*Expected 4 numbers, got 1"):
        client.invoke([[1.0]])

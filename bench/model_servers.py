"""The servers that bench/models.py compares: this service, FastAPI, MLflow, MLServer and KServe.

Each serves the same model file in the quickest way that its documentation has, on one core. The
backend of Triton for forests (FIL) is not among them, because it is a part of Triton's image only.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
from load import ROOT
from variants import OURS, PORT

FASTAPI = """
import joblib
import pandas
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load("model.pkl")
app = FastAPI()


class Body(BaseModel):
    features: list[ROW_TYPE]


@app.post("/predict")
async def predict(body: Body):
    return {"prediction": model.predict(TO_INPUT(body.features)).tolist()}
"""
UVICORN = ["python", "-m", "uvicorn", "peer:app", "--host", "127.0.0.1", "--port", str(PORT)]
SILENT = ["--no-access-log", "--log-level", "warning"]


@dataclass(frozen=True)
class TrainedModel:
    """A model file, its card, and a directory for the files of its servers."""

    path: Path
    card: dict[str, Any]
    directory: Path

    @classmethod
    def read(cls, path, directory):
        """Return the model in `path`."""
        return cls(path, json.loads(path.with_suffix(".json").read_text()), directory)

    @property
    def takes_frame(self):
        """Return whether its columns have names, and types of their own."""
        return self.card["input"] == "pandas"

    @property
    def row(self):
        """Return the values of the first reference row."""
        return self.card["reference"][0]["features"]

    @property
    def named_row(self):
        """Return the same values by the names of the features."""
        names = [feature["name"] for feature in self.card["features"]]
        return dict(zip(names, self.row, strict=True))


@dataclass(frozen=True)
class Server:
    """A command that serves a model, and the body of a request with a number of rows."""

    command: list[str]
    env: dict[str, str]
    directory: Path
    body: Callable[[TrainedModel, int], str]
    path: str = "/predict"


def list_servers(model, version):
    """Return the servers of a model by name, in environments with this version of scikit-learn."""
    servers = own_servers(model) | fastapi_servers(model, version)
    if model.path.parent == ROOT or model.takes_frame:
        servers |= mlflow_servers(model, version)
        servers |= mlserver_servers(model, version)
        servers |= kserve_servers(model, version)
    return servers


def own_servers(model):
    """Return this service, without and with its line of log, and without a prediction plan."""
    command, env = OURS
    env = env | {"MODEL_PATH": str(model.path)}
    silent = env | {"LOG_LEVEL": "warning"}
    return {
        "this service": Server(command, silent, ROOT, features_body),
        "this service, log": Server(command, env | {"LOG_LEVEL": "info"}, ROOT, features_body),
        "this service, no plan": Server(
            command, silent | {"PREDICTION_PLAN": "off"}, ROOT, features_body
        ),
    }


def features_body(model, n_rows):
    """Return the body for this service, and for the program with FastAPI."""
    row = model.row
    if model.takes_frame:
        row = model.named_row
    return json.dumps({"features": [row] * n_rows})


def fastapi_servers(model, version):
    """Return a short program, as people write it, under uvicorn with uvloop and httptools."""
    _, env, directory, _, _ = prepare("FastAPI async def, uvicorn", model, version)
    (directory / "peer.py").write_text(fastapi_program(takes_frame=model.takes_frame))
    return {
        "FastAPI": Server([*UVICORN, *SILENT], env, directory, features_body),
        "FastAPI, log": Server(UVICORN, env, directory, features_body),
    }


def fastapi_program(*, takes_frame):
    """Return the program, for a model of arrays or of DataFrames."""
    if takes_frame:
        return FASTAPI.replace("ROW_TYPE", "dict").replace("TO_INPUT", "pandas.DataFrame")
    of_lists = FASTAPI.replace("ROW_TYPE", "list[float]").replace("TO_INPUT", "")
    return of_lists.replace("import pandas\n", "")


def mlflow_servers(model, version):
    """Return `mlflow models serve` with one worker; it replaces itself with uvicorn."""
    command, env, directory, path, _ = prepare("MLflow", model, version)
    logging_command = [word.replace("LOG=false", "LOG=true") for word in command]
    return {
        "MLflow": Server(command, env, directory, mlflow_body, path),
        "MLflow, log": Server(logging_command, env, directory, mlflow_body, path),
    }


def mlflow_body(model, n_rows):
    """Return the body for MLflow."""
    rows = [model.row] * n_rows
    if not model.takes_frame:
        return json.dumps({"inputs": rows})
    return json.dumps({"dataframe_split": {"columns": list(model.named_row), "data": rows}})


def mlserver_servers(model, version):
    """Return MLServer without parallel workers, and with one, which is its default."""
    servers = {}
    for n_workers in (0, 1):
        for debug in (False, True):  # debug writes a line for each request
            command, env, directory, path, _ = prepare("MLServer", model, version)
            settings_file = directory / "settings.json"
            settings = json.loads(settings_file.read_text())
            settings |= {"parallel_workers": n_workers, "debug": debug}
            settings_file.write_text(json.dumps(settings))

            name = f"MLServer, parallel_workers {n_workers}"
            if debug:
                name += ", log"
            servers[name] = Server(command, env, directory, open_inference_body, path)
    return servers


def open_inference_body(model, n_rows):
    """Return a body of Open Inference V2: one tensor, or for a DataFrame one for each column."""
    outputs = [{"name": "predict"}]
    if not model.takes_frame:
        shape = [n_rows, len(model.row)]
        tensor = {"name": "x", "shape": shape, "datatype": "FP64", "data": model.row * n_rows}
        return json.dumps({"inputs": [tensor], "outputs": outputs})

    tensors = []
    for name, value in model.named_row.items():
        tensor = {"name": name, "shape": [n_rows], "datatype": "FP64", "data": [value] * n_rows}
        if isinstance(value, str):
            tensor |= {"datatype": "BYTES", "parameters": {"content_type": "str"}}
        tensors.append(tensor)
    parameters = {"content_type": "pd"}
    return json.dumps({"parameters": parameters, "inputs": tensors, "outputs": outputs})


def kserve_servers(model, version):
    """Return KServe's SDK, which predicts as its sklearnserver does."""
    command, env, directory, path, _ = prepare("KServe", model, version)
    logging_command = [word for word in command if word != "silent"]
    return {
        "KServe": Server(command, env, directory, kserve_body, path),
        "KServe, log": Server(logging_command, env, directory, kserve_body, path),
    }


def kserve_body(model, n_rows):
    """Return a body of KServe V1: rows, or for a DataFrame its columns."""
    instances = [model.row] * n_rows
    if model.takes_frame:
        instances = [{name: [value] * n_rows for name, value in model.named_row.items()}]
    return json.dumps({"instances": instances})


def prepare(name, model, version):
    """Return what `peers.prepare` does, for this model in a new directory."""
    directory = Path(tempfile.mkdtemp(dir=model.directory)) / "peer"
    return peers.prepare(name, directory, version, model.path)

"""Other servers of the same model, each in its own environment, with one process on one core."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from variants import PORT

ROOT = Path(__file__).parent.parent
VENVS = ROOT / ".venv-peers"
CARD = json.loads((ROOT / "model.json").read_text())
NAME = CARD["name"]
ROW = json.dumps(CARD["reference"][0]["features"])
N_FEATURES = len(CARD["features"])
OURS = f'{{"features":{ROW}}}'

ARTICLE = """
import joblib
from flask import Flask, jsonify, request

app = Flask(__name__)
model = joblib.load("model.pkl")


@app.route("/predict", methods=["POST"])
def predict():
    return jsonify({"prediction": model.predict([request.get_json()["features"]]).tolist()})


app.run(host="127.0.0.1", port=PORT)
"""
FASTAPI = """
import joblib
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load("model.pkl")
app = FastAPI()


class Features(BaseModel):
    features: list[float]


@app.post("/predict")
async def predict(body: Features):
    return {"prediction": model.predict([body.features]).tolist()}
"""
LITSERVE = """
import joblib
import litserve


class Iris(litserve.LitAPI):
    def setup(self, device):
        self.model = joblib.load("model.pkl")

    def decode_request(self, request):
        return request["features"]

    def predict(self, row):
        return self.model.predict([row])

    def encode_response(self, output):
        return {"prediction": output.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Iris(), accelerator="cpu").run(
        host="127.0.0.1",
        port=PORT,
        num_api_servers=1,
        log_level="error",
        access_log=False,
        generate_client_file=False,
    )
"""
BENTOML = """
import bentoml
import joblib


@bentoml.service(workers=1)
class Iris:
    def __init__(self):
        self.model = joblib.load("model.pkl")

    @bentoml.api
    def predict(self, features: list[float]) -> dict:
        return {"prediction": self.model.predict([features]).tolist()}
"""
MLFLOW = """
import joblib
import mlflow

mlflow.sklearn.save_model(joblib.load("model.pkl"), "saved", serialization_format="cloudpickle")
"""
MLSERVER = {
    "settings.json": '{"http_port": PORT, "grpc_port": 5811, "metrics_port": 5812,'
    ' "parallel_workers": 0, "debug": false}',  # debug writes a line for each request
    "model-settings.json": json.dumps(
        {
            "name": NAME,
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": "./model.pkl"},
        }
    ),
}
V2 = (
    f'{{"inputs":[{{"name":"x","shape":[1,{N_FEATURES}],"datatype":"FP64","data":{ROW}}}],'
    '"outputs":[{"name":"predict"}]}'
)

# What KServe's sklearnserver does, which is no package of its own.
KSERVE = f"""
import logging
import sys

import joblib
import kserve
from kserve.utils.utils import get_predict_input, get_predict_response


class SKLearnModel(kserve.Model):
    def load(self):
        self.model = joblib.load("model.pkl")
        self.ready = True

    def predict(self, payload, headers=None):
        result = self.model.predict(get_predict_input(payload))
        return get_predict_response(payload, result, self.name)


if __name__ == "__main__":
    if "silent" in sys.argv:
        logging.disable(logging.INFO)
    model = SKLearnModel("{NAME}")
    model.load()
    kserve.ModelServer(http_port=PORT, enable_grpc=False).start([model])
"""

# Packages, files, commands (the last one serves), path, body.
PEERS = {
    "the article's app.py": (
        ["flask", "joblib"],
        {"app.py": ARTICLE},
        ["python app.py"],
        "/predict",
        OURS,
    ),
    "FastAPI async def, uvicorn": (
        ["fastapi", "uvicorn[standard]", "joblib", "pandas"],
        {"peer.py": FASTAPI},
        [
            "python -m uvicorn peer:app --host 127.0.0.1 --port PORT"
            " --no-access-log --log-level warning"
        ],
        "/predict",
        OURS,
    ),
    "MLServer": (
        ["mlserver", "mlserver-sklearn", "uvloop<0.22"],  # with which its workers start
        MLSERVER,
        ["mlserver start ."],
        f"/v2/models/{NAME}/infer",
        V2,
    ),
    "MLflow": (
        ["mlflow", "setuptools<81"],
        {"save.py": MLFLOW},
        [
            "python save.py",
            "env UVICORN_ACCESS_LOG=false python -m mlflow models serve -m saved"
            " --env-manager local --host 127.0.0.1 --port PORT --workers 1",
        ],
        "/invocations",
        f'{{"inputs":[{ROW}]}}',
    ),
    "LitServe": (
        ["litserve", "joblib"],
        {"peer.py": LITSERVE},
        ["python peer.py"],
        "/predict",
        OURS,
    ),
    "BentoML": (
        ["bentoml", "joblib"],
        {"peer.py": BENTOML},
        ["bentoml serve peer:Iris --host 127.0.0.1 --port PORT"],
        "/predict",
        OURS,
    ),
}


# Measured by bench/models.py alone.
MODEL_PEERS = {
    "KServe": (
        ["kserve"],
        {"peer.py": KSERVE},
        ["python peer.py silent"],
        f"/v1/models/{NAME}:predict",
        f'{{"instances":[{ROW}]}}',
    ),
}


def install(name, scikit_learn):
    """Return the environment of a peer, and create it if it does not exist."""
    venv = VENVS / "".join(filter(str.isalnum, name))
    if not (venv / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        # The version of scikit-learn that trained the model, whatever the peer would choose.
        packages = [*(PEERS | MODEL_PEERS)[name][0], f"scikit-learn=={scikit_learn}"]
        subprocess.run(
            [venv / "bin/python", "-m", "pip", "install", "--quiet", *packages], check=True
        )
        (venv / "done").touch()
    return venv


def prepare(name, directory, scikit_learn, model_path=ROOT / "model.pkl"):
    """Install a peer and return its command, environment, directory, path and body.

    Its files, and the model, are written to `directory`, which is created.
    """
    _, files, commands, path, body = (PEERS | MODEL_PEERS)[name]
    venv = install(name, scikit_learn)
    directory.mkdir()
    shutil.copy(model_path, directory / "model.pkl")
    for file, text in files.items():
        (directory / file).write_text(text.replace("PORT", str(PORT)))

    env = os.environ | {
        "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
        "HOME": str(directory),
        "OMP_NUM_THREADS": "1",  # every peer has one core
    }
    *preparations, command = [text.replace("PORT", str(PORT)).split() for text in commands]
    for preparation in preparations:
        subprocess.run(preparation, cwd=directory, env=env, check=True, capture_output=True)
    return command, env, directory, path, body

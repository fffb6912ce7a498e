"""Four models under this service and under FastAPI: one row and 100 rows, without and with a log.

Prints a table of requests per second of the server's processor time, relative to the shipped model
with one row and a line of log. It needs wrk and two cores: .venv/bin/python bench/models.py
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier

import peers
from examples import train
from load import ROOT, cpu_seconds, post_script, run_wrk, serve
from serving.training.dataset import Dataset
from serving.training.training import train_model, write_model
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
ROW_COUNTS = (1, 100)
UVICORN = ["python", "-m", "uvicorn", "peer:app", "--host", "127.0.0.1", "--port", str(PORT)]
SILENT = ["--no-access-log", "--log-level", "warning"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    version = json.loads((ROOT / "model.json").read_text())["libraries"]["scikit-learn"]
    venv = peers.install("FastAPI async def, uvicorn", version)
    with tempfile.TemporaryDirectory() as folder:
        models = train_models(Path(folder))
        runs = {}
        for _ in range(options.rounds):
            for model_name, path in models.items():
                for server_name, (command, env, cwd) in servers(path, venv).items():
                    rates = measure(command, env, cwd, path, options.seconds)
                    runs.setdefault((model_name, server_name), []).append(rates)
    print_table(runs)


def train_models(folder):
    """Return the paths of the models by name."""
    models = {"the shipped model": ROOT / "model.pkl"}
    trained = {
        "forest of 100": (load_breast_cancer(), lambda: RandomForestClassifier(random_state=0)),
        "HistGradientBoosting": (load_diabetes(), HistGradientBoostingRegressor),
    }
    for name, (data, build) in trained.items():
        path = folder / name / "model.pkl"
        path.parent.mkdir()
        write_model(path, train_model("model", Dataset.from_sklearn(data), build))
        models[name] = path
    models["penguins' pipeline"], _ = train("penguins", folder)
    return models


def servers(path, venv):
    """Return command, environment and directory of each server of the model in `path`."""
    command, env = OURS
    card = json.loads(path.with_suffix(".json").read_text())
    directory = Path(tempfile.mkdtemp(dir=path.parent if path.parent != ROOT else None))
    (directory / "model.pkl").write_bytes(path.read_bytes())
    takes_frame = card["input"] == "pandas"
    program = FASTAPI.replace("ROW_TYPE", "dict" if takes_frame else "list[float]")
    program = program.replace("TO_INPUT", "pandas.DataFrame" if takes_frame else "")
    (directory / "peer.py").write_text(program)

    ours = env | {"MODEL_PATH": str(path)}
    theirs = os.environ | {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    return {
        "this service": (command, ours | {"LOG_LEVEL": "warning"}, ROOT),
        "this service, log": (command, ours | {"LOG_LEVEL": "info"}, ROOT),
        "this service, no plan": (
            command,
            ours | {"LOG_LEVEL": "warning", "PREDICTION_PLAN": "off"},
            ROOT,
        ),
        "FastAPI": ([*UVICORN, *SILENT], theirs, directory),
        "FastAPI, log": (UVICORN, theirs, directory),
    }


def measure(command, env, cwd, path, seconds):
    """Return the requests for a second of processor time, for each number of rows."""
    card = json.loads(path.with_suffix(".json").read_text())
    row = card["reference"][0]["features"]
    if card["input"] == "pandas":
        names = [feature["name"] for feature in card["features"]]
        row = dict(zip(names, row, strict=True))

    rates = []
    example = json.dumps({"features": [row]})
    with serve(command, env, cwd, body=example) as (process, _):
        for n_rows in ROW_COUNTS:
            script = post_script(json.dumps({"features": [row] * n_rows}))
            run_wrk(1, script=script)
            before = cpu_seconds(process)
            load = run_wrk(seconds, script=script)
            rates.append(load.n_requests / (cpu_seconds(process) - before))
    return rates


def print_table(runs):
    """Print the medians of the runs, relative to the shipped model with a log."""
    medians = {}
    for names, rates in runs.items():
        medians[names] = [statistics.median(column) for column in zip(*rates, strict=True)]
    unit = medians["the shipped model", "this service, log"][0]

    print(f"| Model | Server | {' | '.join(f'rows: {n_rows}' for n_rows in ROW_COUNTS)} |")
    print(f"| --- | --- |{' --- |' * len(ROW_COUNTS)}")
    for (model_name, server_name), rates in medians.items():
        cells = " | ".join(f"{rate / unit:.3f}" for rate in rates)
        print(f"| {model_name} | {server_name} | {cells} |")
    print(f"1 is {unit:.0f} requests for a second of processor time")


if __name__ == "__main__":
    main()

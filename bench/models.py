"""Four models under this service and others: one row and 100 rows, without and with a log.

Prints a table of requests per second of the server's processor time, relative to the shipped model
with one row and a line of log. It needs wrk and two cores: .venv/bin/python bench/models.py
"""

import argparse
import contextlib
import json
import statistics
import tempfile
from pathlib import Path

from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier

from examples import train
from load import ROOT, cpu_seconds, post_script, run_wrk, serve
from model_servers import TrainedModel, list_servers
from serving.training.dataset import Dataset
from serving.training.training import train_model, write_model
from variants import OURS

ROW_COUNTS = (1, 100)
REFERENCE_PORT = 5803


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    version = json.loads((ROOT / "model.json").read_text())["libraries"]["scikit-learn"]
    print(f"| Model | Server | {' | '.join(f'rows: {n_rows}' for n_rows in ROW_COUNTS)} |")
    print(f"| --- | --- |{' --- |' * len(ROW_COUNTS)}")
    with tempfile.TemporaryDirectory() as folder, serve_reference() as reference:
        for model_name, path in train_models(Path(folder)).items():
            model = TrainedModel.read(path, Path(folder))
            for server_name, server in list_servers(model, version).items():
                ratios = compare(reference, server, model, options.rounds)
                cells = " | ".join(f"{ratio:.3f}" for ratio in ratios)
                print(f"| {model_name} | {server_name} | {cells} |", flush=True)


@contextlib.contextmanager
def serve_reference():
    """Serve the shipped model with its line of log, and yield the process."""
    command, env = OURS
    env = env | {"LOG_LEVEL": "info", "PORT": str(REFERENCE_PORT)}
    with serve(command, env, port=REFERENCE_PORT) as (process, _):
        yield process


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


def compare(reference, server, model, rounds):
    """Return the requests for a second of processor time relative to the reference's.

    There is one ratio for each number of rows; the reference answers one row. Both have a second of
    load each in turns, so that both see the same machine.
    """
    medians = []
    example = server.body(model, 1)
    with serve(server.command, server.env, server.directory, server.path, example) as (process, _):
        for n_rows in ROW_COUNTS:
            ratios = []
            for round_number in range(rounds + 1):
                reference_rate = measure(reference, port=REFERENCE_PORT)
                script = post_script(server.body(model, n_rows))
                rate = measure(process, path=server.path, script=script)
                if round_number:  # the first one is to warm up
                    ratios.append(rate / reference_rate)
            medians.append(statistics.median(ratios))
    return medians


def measure(process, **options):
    """Return the requests for a second of processor time."""
    before = cpu_seconds(process)
    load = run_wrk(1, **options)
    return load.n_requests / (cpu_seconds(process) - before)


if __name__ == "__main__":
    main()

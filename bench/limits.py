"""The image under the limits of a small pod, beside FastAPI in an image on the same base.

Prints requests/s and the 99th percentile of the latency relative to FastAPI with one processor, for
the shipped model and a forest of 100, with half a processor and one, and 256 MB. It needs docker or
podman, wrk and two cores: .venv/bin/python bench/limits.py
"""

import argparse
import os
import re
import shlex
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from load import ROOT, is_serving, post_script, run_wrk
from model_servers import fastapi_program
from models import train_models
from serving.model.loading import load_model
from variants import PORT

CONTAINER = os.environ.get("CONTAINER", "docker")
BUILD_ARGS = shlex.split(os.environ.get("BUILD_ARGS", ""))
RUN_ARGS = shlex.split(os.environ.get("RUN_ARGS", f"--publish 127.0.0.1:{PORT}:{PORT}"))
LIMITS = ("0.5", "1")
START_SECONDS = 60

DOCKERFILE = f"""FROM {{base}}
RUN pip install fastapi uvicorn[standard] joblib scikit-learn=={{scikit_learn}}
COPY peer.py /app/
# Where the model is mounted.
WORKDIR /model
ENV OMP_NUM_THREADS=1 PYTHONPATH=/app
CMD ["uvicorn", "peer:app", "--host", "0.0.0.0", "--port", "{PORT}", "--no-access-log"]
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        models = train_models(Path(folder))
        images = build_images(Path(folder))
        runs = {}
        for _ in range(options.rounds):
            for model_name in ("the shipped model", "forest of 100"):
                for limit in LIMITS:
                    for image_name, image in images.items():
                        load = measure(image, models[model_name], limit, options.seconds)
                        runs.setdefault((model_name, limit, image_name), []).append(load)
    print_table(runs)


def build_images(folder):
    """Build the images, and return the last arguments of `run` for each server by name."""
    [base] = re.findall("^FROM (.*) AS python$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    base = os.environ.get("BASE", base)
    card = load_model(ROOT / "model.pkl").card
    dockerfile = DOCKERFILE.format(base=base, scikit_learn=card.libraries["scikit-learn"])
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "peer.py").write_text(fastapi_program(takes_frame=False))

    for name, directory in {"limits-ours": ROOT, "limits-fastapi": folder}.items():
        command = [CONTAINER, "build", "--quiet", *BUILD_ARGS, "--tag", name, str(directory)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {
        "FastAPI, no log": ["limits-fastapi"],
        "this service, no log": ["--env", "LOG_LEVEL=warning", "limits-ours"],
        "this service, log": ["limits-ours"],
        "this service, two workers, log": ["--env", "WEB_CONCURRENCY=2", "limits-ours"],
    }


def measure(image, model_path, limit, seconds):
    """Return the load of a container with a part of a processor."""
    row = load_model(model_path).card.reference[0].features
    body = f'{{"features":[{row}]}}'
    command = [CONTAINER, "run", "--detach", "--name", "bench-limits", *RUN_ARGS]
    command += ["--cpus", limit, "--memory", "256m", "--env", f"PORT={PORT}"]
    with tempfile.TemporaryDirectory() as folder:
        for path in (model_path, model_path.with_suffix(".json")):
            (Path(folder) / path.name).write_bytes(path.read_bytes())
        Path(folder).chmod(0o755)  # the container has a user of its own
        command += ["--volume", f"{folder}:/model:ro", "--env", "MODEL_PATH=/model/model.pkl"]
        try:
            subprocess.run([*command, *image], check=True, stdout=subprocess.DEVNULL)
            wait_until_serving(body)
            script = post_script(body)
            run_wrk(2, script=script)
            return run_wrk(seconds, script=script)
        finally:
            remove = [CONTAINER, "rm", "--force", "bench-limits"]
            subprocess.run(remove, check=True, stdout=subprocess.DEVNULL)


def wait_until_serving(body):
    deadline = time.monotonic() + START_SECONDS
    while not is_serving("/predict", body, PORT):
        if time.monotonic() > deadline:
            raise SystemExit(f"no answer within {START_SECONDS} s")
        time.sleep(0.1)


def print_table(runs):
    """Print the medians of the runs, relative to FastAPI with one processor."""
    print("| Model | Processors | Server | requests/s | p99 |")
    print("| --- | --- | --- | --- | --- |")
    for (model_name, limit, image_name), loads in runs.items():
        unit = runs[model_name, "1", "FastAPI, no log"]
        rate = median(loads, "rate") / median(unit, "rate")
        p99 = median(loads, "p99") / median(unit, "p99")
        print(f"| {model_name} | {limit} | {image_name} | {rate:.2f} | {p99:.2f} |")


def median(loads, name):
    return statistics.median(getattr(load, name) for load in loads)


if __name__ == "__main__":
    main()

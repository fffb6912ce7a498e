"""Measure what a line of log for each request costs, here and in other servers.

Prints requests/s and processor time of a request with the line, relative to the same server without
it. Needs wrk, two cores, and `.venv/bin/python -m pip install granian`.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import peers
from load import ROOT, cpu_seconds, run_wrk, serve
from variants import PORT, granian, gunicorn

LOGGING_PORT = 5803
UVICORN = "FastAPI async def, uvicorn"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()

    print("| Server | requests/s | processor time of a request |")
    print("| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, (silent, logging) in list_servers(Path(folder)).items():
            ratios = compare(silent, on_other_port(logging), options.rounds)
            rate, cost = [statistics.median(column) for column in zip(*ratios, strict=True)]
            print(f"| {name} | {rate:.2f} | {cost:.2f} |", flush=True)


def compare(silent, logging, rounds):
    """Return requests/s and processor time with the line relative to without, for each round.

    Both servers run, and have a second of load each in turns, so that both see the same machine.
    """
    ratios = []
    with (
        serve(*silent) as (silent_process, _),
        serve(*logging, port=LOGGING_PORT) as (logging_process, _),
    ):
        for round_number in range(rounds + 1):
            rate, cost = measure(silent_process, PORT)
            logging_rate, logging_cost = measure(logging_process, LOGGING_PORT)
            if round_number:  # the first one is to warm up
                ratios.append((logging_rate / rate, logging_cost / cost))
    return ratios


def measure(process, port):
    """Return requests per second, and the processor time of a request in seconds."""
    before = cpu_seconds(process)
    load = run_wrk(1, port=port)
    return load.rate, (cpu_seconds(process) - before) / load.n_requests


def on_other_port(server):
    """Return a server with the other port in its command and environment."""
    command, env, directory = server
    words = [word.replace(str(PORT), str(LOGGING_PORT)) for word in command]
    return words, env | {"PORT": str(LOGGING_PORT)}, directory


def list_servers(folder):
    """Return for each server its command, environment and directory, without and with the line."""
    version = json.loads((ROOT / "model.json").read_text())["libraries"]["scikit-learn"]
    command, env, directory, *_ = peers.prepare(UVICORN, folder / "uvicorn", version)
    logging_command = command[: command.index("--no-access-log")]
    return {
        "this service": [
            (*gunicorn("app:app", level=level), ROOT) for level in ("warning", "info")
        ],
        "FastAPI, uvicorn": [(command, env, directory), (logging_command, env, directory)],
        "gunicorn, gthread": [stock_gunicorn(), stock_gunicorn("--access-logfile", "-")],
        "Granian": [(*granian(), ROOT), (*granian("--access-log"), ROOT)],
    }


def stock_gunicorn(*options):
    """Return gunicorn without our settings, with the application but not its line of log."""
    bind = f"127.0.0.1:{PORT}"
    command = [sys.executable, "-m", "gunicorn", "--config", "/dev/null", "--bind", bind]
    command += ["--worker-class", "gthread", "--threads", "4", *options, "app:app"]
    return command, os.environ | {"LOG_LEVEL": "warning"}, ROOT


if __name__ == "__main__":
    main()

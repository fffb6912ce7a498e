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

UVICORN = "FastAPI async def, uvicorn"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        servers = list_servers(Path(folder))
        for _ in range(options.rounds):
            for name, pair in servers.items():
                for has_log, (command, env, directory) in zip((False, True), pair, strict=True):
                    measured = measure(command, env, directory, options.seconds)
                    runs.setdefault((name, has_log), []).append(measured)

    print("| Server | requests/s | processor time of a request |")
    print("| --- | --- | --- |")
    for name in servers:
        rate, cost = medians(runs[name, False])
        rate_with_log, cost_with_log = medians(runs[name, True])
        print(f"| {name} | {rate_with_log / rate:.2f} | {cost_with_log / cost:.2f} |")


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


def measure(command, env, directory, seconds):
    """Return requests per second, and the processor time of a request in seconds."""
    with serve(command, env, directory) as (process, _):
        run_wrk(1)
        before = cpu_seconds(process)
        load = run_wrk(seconds)
        return load.rate, (cpu_seconds(process) - before) / load.n_requests


def medians(runs):
    """Return the median of each measured value."""
    return [statistics.median(column) for column in zip(*runs, strict=True)]


if __name__ == "__main__":
    main()

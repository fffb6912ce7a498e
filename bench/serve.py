"""What this service does a second, and beside what: `--self` its parts against each other, `--soak` a million requests.

Needs wrk (Debian's package), and two cores: the server has one to itself, wrk the other.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
PORT, METRICS = 5801, 5802
CONNECTIONS = 16
ARTICLE = '{"features":[5.1, 3.5, 1.4, 0.2]}'
ONE = f"""wrk.method = "POST"
wrk.body = '{ARTICLE}'
wrk.headers["Content-Type"] = "application/json"
"""
# Of each ten requests: six predictions of one row, one of many, one refused, one of an unknown path and method, one
# of feedback.
MIXED = """local n = math.random(1, 1000000000)
local json = {["Content-Type"] = "application/json"}
local function row() return string.format("[%.2f,%.2f,%.2f,%.2f]",
  math.random() * 9, math.random() * 9, math.random() * 9, math.random() * 9) end
function request()
  n = n + 1
  local kind = n % 10
  if kind == 0 then return wrk.format("POST", "/predict", json, '{"features":[' .. row() .. ',' .. row() .. ']}') end
  if kind == 1 then return wrk.format("POST", "/predict", json, '{"features":[1,2,"' .. n .. '"]}') end
  if kind == 2 then return wrk.format("M" .. n % 1000, "/x" .. n, {["X-Request-ID"] = "x" .. n}) end
  if kind == 3 then return wrk.format("POST", "/feedback", json, '{"prediction":[0,1],"actual":[1,1]}') end
  return wrk.format("POST", "/predict", json, '{"features":' .. row() .. '}')
end
"""


class Nothing:
    """Stands where the telemetry was."""

    def __getattr__(self, _):
        return lambda *_: None


def without_telemetry():
    """Return the service, but nothing is counted, timed, named or logged."""
    from app import create_app

    app = create_app()
    hooks = (app.before_request_funcs[None], app.after_request_funcs[None])
    for functions in hooks:
        functions[:] = [f for f in functions if getattr(f, "__self__", None) is not app.extensions["telemetry"]]
    app.extensions["telemetry"] = Nothing()
    return app


def constant():
    """Return the least that Flask can do: a view that reads the body and returns the same bytes."""
    from flask import Flask, Response, request

    app = Flask(__name__)
    app.extensions["telemetry"] = Nothing()

    @app.post("/predict")
    def predict():
        request.get_data()
        return Response(b'{"prediction":[0]}\n', mimetype="application/json")

    return app


# What is told to gunicorn, and to its environment.
VARIANTS = {
    "everything": ("app:app", {"LOG_LEVEL": "warning"}),
    "without telemetry": ("serve:without_telemetry()", {"LOG_LEVEL": "warning"}),
    "with a line of log a request": ("app:app", {"LOG_LEVEL": "info"}),
    "a constant": ("serve:constant()", {"LOG_LEVEL": "warning"}),
}


@contextmanager
def served(app, settings, workers=1):
    """Serve on one core, until the block ends."""
    command = ["taskset", "-c", "0", sys.executable, "-m", "gunicorn", "--pythonpath", "bench", app]
    env = os.environ | {"PORT": str(PORT), "WEB_CONCURRENCY": str(workers)} | settings
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=log)
        try:
            for _ in range(600):
                try:
                    assert ask() == b'{"prediction":[0]}\n'
                    break
                except OSError:
                    time.sleep(0.05)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def ask(path="/predict", port=PORT):
    data = ARTICLE.encode() if path == "/predict" else None
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()


def load(script, seconds, connections=CONNECTIONS):
    """Return requests a second and the 99th percentile of what they took, in seconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", file.name]
        command = ["taskset", "-c", "1", "wrk", *options, f"http://127.0.0.1:{PORT}/predict"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    number, unit = re.search(r"99%\s+([0-9.]+)(us|ms|s)", said).groups()
    rate = float(re.search(r"Requests/sec:\s+([0-9.]+)", said)[1])
    if script is ONE:
        assert "Non-2xx" not in said and "Socket errors" not in said, said
    return rate, float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1}[unit]


def compare(seconds, rounds):
    found = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name, (app, settings) in VARIANTS.items():
            with served(app, settings):
                load(ONE, 1)
                found[name].append(load(ONE, seconds))
    first = statistics.median(rate for rate, _ in found["everything"])
    for name, pairs in found.items():
        rate, p99 = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(f"{name}: {rate / first:.2f} of the requests/s ({rate:.0f}), p99 {p99 * 1000:.1f} ms")


def soak(requests):
    """Print memory and series as the requests go by."""
    with served("app:app", {"LOG_LEVEL": "warning", "METRICS_PORT": str(METRICS)}):
        load(MIXED, 10)  # what is there from the start
        while True:
            text = ask("/metrics", METRICS).decode()
            samples = [line for line in text.splitlines() if not line.startswith("#")]
            total = sum(float(line.split()[-1]) for line in samples if line.startswith("http_requests_total"))
            # Of the pages, for those shared with the parent count in a worker once it has touched them.
            workers = [line for line in samples if line.startswith('process_resident_memory_bytes{worker="1"')]
            memory = float(workers[0].split()[-1]) / 2**20
            print(json.dumps({"requests": int(total), "series": len(samples), "worker MiB": round(memory, 1)}))
            if total > requests:
                return
            load(MIXED, 30)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--self", action="store_true", dest="own")
    mode.add_argument("--soak", type=int, metavar="REQUESTS", nargs="?", const=1_000_000)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    said = parser.parse_args()
    if said.own:
        compare(said.seconds, said.rounds)
    else:
        soak(said.soak)

"""What this service does a second, beside what else one might pick; `--self`: beside its own parts and other workers.

`--soak`: a million requests. Needs wrk (Debian's package), and two cores: the server has one to itself, wrk the other.
"""

import argparse
import dataclasses
import io
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import peers

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
PORT, METRICS = 5801, 5802
CONNECTIONS = 16
ARTICLE = peers.OURS
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
  if kind == 2 then return wrk.format("PATCH", "/x" .. n, {["X-Request-ID"] = "x" .. n}) end
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
    from serving.api.service import service_of

    app = create_app()
    service = service_of(app)
    hooks = (app.before_request_funcs[None], app.after_request_funcs[None])
    for functions in hooks:
        functions[:] = [
            f for f in functions if getattr(f, "__self__", None) is not service.telemetry
        ]
    app.extensions["service"] = dataclasses.replace(service, telemetry=Nothing())
    return app


def constant():
    """Return the least that Flask can do: a view that reads the body and returns the same bytes."""
    from flask import Flask, Response, request

    app = Flask(__name__)
    app.extensions["service"] = SimpleNamespace(telemetry=Nothing())

    @app.post("/predict")
    def predict():
        request.get_data()
        return Response(b'{"prediction":[0]}\n', mimetype="application/json")

    return app


def asgi():
    """Return the service as an ASGI application, called in the loop of whoever serves it."""
    from app import app

    class Adapter:
        extensions = app.extensions

        async def __call__(self, scope, receive, send):
            if scope["type"] != "http":
                raise NotImplementedError
            message = await receive()
            body = message["body"]
            while message["more_body"]:
                message = await receive()
                body += message["body"]
            environ = {
                "REQUEST_METHOD": scope["method"],
                "SCRIPT_NAME": "",
                "PATH_INFO": scope["path"],
                "QUERY_STRING": scope["query_string"].decode("latin-1"),
                "SERVER_NAME": scope["server"][0],
                "SERVER_PORT": str(scope["server"][1]),
                "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
                "wsgi.url_scheme": "http",
                "wsgi.input": io.BytesIO(body),
                "wsgi.input_terminated": True,
                "wsgi.errors": sys.stderr,
            }
            for name, value in scope["headers"]:
                key = name.decode("latin-1").upper().replace("-", "_")
                environ[key if key.startswith("CONTENT_") else f"HTTP_{key}"] = value.decode(
                    "latin-1"
                )
            started = []
            pieces = app(environ, lambda *words: started.extend(words))
            headers = [(name.lower().encode(), value.encode()) for name, value in started[1]]
            await send(
                {"type": "http.response.start", "status": int(started[0][:3]), "headers": headers}
            )
            await send({"type": "http.response.body", "body": b"".join(pieces)})
            pieces.close()

    return Adapter()


def gunicorn(app, *options, level="warning", workers=1):
    """Return a command, and its environment."""
    command = [sys.executable, "-m", "gunicorn", "--pythonpath", "bench", *options, app]
    return command, os.environ | {
        "PORT": str(PORT),
        "WEB_CONCURRENCY": str(workers),
        "LOG_LEVEL": level,
    }


OURS = gunicorn("app:app")
VARIANTS = {
    "everything": OURS,
    "without telemetry": gunicorn("serve:without_telemetry()"),
    "with a line of log a request": gunicorn("app:app", level="info"),
    "a view that returns a constant": gunicorn("serve:constant()"),
}
# Where the packages are there: `.venv/bin/python -m pip install gevent uvicorn-worker httptools uvloop granian`.
SERVERS = {
    "gunicorn, sync": gunicorn("app:app", "--worker-class", "sync"),
    "gunicorn, gthread": gunicorn("app:app", "--worker-class", "gthread"),
    "gunicorn, gevent": gunicorn("app:app", "--worker-class", "gevent"),
    "gunicorn, asgi, the application in the loop": gunicorn(
        "serve:asgi()", "--worker-class", "asgi"
    ),
    "uvicorn's worker, the application in the loop": gunicorn(
        "serve:asgi()", "--worker-class", "uvicorn_worker.UvicornWorker"
    ),
    "Granian": (
        [
            sys.executable,
            "-m",
            "granian",
            "--interface",
            "wsgi",
            "--port",
            str(PORT),
            "--no-access-log",
            "app:app",
        ],
        os.environ | {"PORT": str(PORT)},
    ),
}


@contextmanager
def served(command, env, cwd=ROOT, path="/predict", body=ARTICLE):
    """Serve on one core until the block ends; yield the process, and the seconds until the first answer."""
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            ["taskset", "-c", "0", *command],
            cwd=cwd,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            while True:
                try:
                    assert b"[0]" in ask(path, body=body).replace(b" ", b"")
                    break
                except OSError as error:
                    if process.poll() is not None or time.perf_counter() - began > 90:
                        log.seek(0)
                        raise SystemExit(
                            f"{command}: {error}\n{log.read()[-2000:].decode()}"
                        ) from error
                    time.sleep(0.02)
            yield process, time.perf_counter() - began
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def memory(process):
    """Return the bytes of a process and those it started, where shared pages are shared out."""
    total, left = 0, [process.pid]
    while left:
        pid = left.pop()
        left += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"Pss:\s+(\d+)", rollup)[1]) * 1024
    return total


def ask(path="/predict", port=PORT, body=ARTICLE):
    data = body.encode() if body else None
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()


def load(seconds, connections=CONNECTIONS, path="/predict", body=ARTICLE, script=None):
    """Return requests a second, the median and the 99th percentile of what they took, in seconds."""
    script = (
        script
        or f"""wrk.method = "POST"
wrk.body = [==[{body}]==]
wrk.headers["Content-Type"] = "application/json"
"""
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", file.name]
        command = ["taskset", "-c", "1", "wrk", *options, f"http://127.0.0.1:{PORT}{path}"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    shares = []
    for share in (50, 99):
        number, unit = re.search(rf"{share}%\s+([0-9.]+)(us|ms|s)", said).groups()
        shares.append(float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1}[unit])
    if script is not MIXED:
        assert "Non-2xx" not in said and "Socket errors" not in said, said
    return float(re.search(r"Requests/sec:\s+([0-9.]+)", said)[1]), *shares


def compare(variants, seconds, rounds):
    """Print what each serves, in turns, beside the first."""
    found = {name: [] for name in variants}
    for _ in range(rounds):
        for name, (command, env) in variants.items():
            with served(command, env):
                load(1)
                found[name].append(load(seconds))
    medians = {
        name: [statistics.median(values) for values in zip(*runs, strict=True)]
        for name, runs in found.items()
    }
    first = medians[next(iter(medians))]
    for name, (rate, median, p99) in medians.items():
        times = f"p50 {median * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"
        print(f"{name}: {rate / first[0]:.2f} of the requests/s ({rate:.0f}), {times}")


def beside_peers(seconds, rounds):
    """Print the table of docs/benchmarks.md: ours and each peer, in turns, each alone on its core."""
    version = json.loads((ROOT / "model.json").read_text())["libraries"]["scikit-learn"]
    runs = {
        "this service": (*OURS, ROOT, "/predict", ARTICLE),
        "this service, Open Inference V2": (*OURS, ROOT, "/v2/models/iris/infer", peers.V2),
    }
    work = Path(tempfile.mkdtemp())
    for name, (_, files, commands, path, body) in peers.PEERS.items():
        venv, directory = peers.install(name, version), work / "".join(filter(str.isalnum, name))
        directory.mkdir()
        shutil.copy(ROOT / "model.pkl", directory)
        for file, text in files.items():
            (directory / file).write_text(text.replace("PORT", str(PORT)))
        # Every library its core, as everyone here has one.
        env = os.environ | {
            "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
            "HOME": str(directory),
            "OMP_NUM_THREADS": "1",
        }
        *before, command = [text.replace("PORT", str(PORT)).split() for text in commands]
        for words in before:
            subprocess.run(words, cwd=directory, env=env, check=True, capture_output=True)
        runs[name] = (command, env, directory, path, body)
    found = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (command, env, directory, path, body) in runs.items():
            with served(command, env, directory, path, body) as (process, start):
                load(1, path=path, body=body)
                many, one = load(seconds, path=path, body=body), load(1, 1, path, body)
                found[name].append((*many, *one[1:], memory(process), start))
    medians = {
        name: [statistics.median(values) for values in zip(*runs, strict=True)]
        for name, runs in found.items()
    }
    ours = medians["this service"]
    print("| | requests/s | p50, p99 at 16 | p50, p99 at 1 | memory | first answer |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, cells in medians.items():
        rate, p50, p99, one50, one99, size, start = (
            cell / mine for cell, mine in zip(cells, ours, strict=True)
        )
        row = f"{rate:.2f} | {p50:.1f}, {p99:.1f} | {one50:.1f}, {one99:.1f} | {size:.1f} | {start:.1f}"
        print(f"| {name} | {row} |")
    times = ", ".join(f"{seconds * 1e3:.2f} ms" for seconds in ours[1:5])
    print(f"1 is {ours[0]:.0f} requests/s; {times}; {ours[5] / 1e6:.0f} MB; {ours[6]:.1f} s")
    print(
        f"this service serves {', '.join(f'{ours[0] / c[0]:.1f} x {n}' for n, c in medians.items() if c is not ours)}"
    )


def own_costs(rounds):
    """Print what a second worker adds, what the start adds to an import, and what many rows at once cost."""
    sizes, starts, imports = [], [], []
    for _ in range(rounds):
        for workers in (1, 2):
            with served(*gunicorn("app:app", workers=workers)) as (process, start):
                load(1)
                sizes.append(memory(process))
                starts.append(start)
        began = time.perf_counter()
        subprocess.run(
            ["taskset", "-c", "0", sys.executable, "-c", "import sklearn.linear_model"], check=True
        )
        imports.append(time.perf_counter() - began)
    one, two = statistics.median(sizes[::2]), statistics.median(sizes[1::2])
    print(
        f"a second worker adds {(two - one) / one:.2f} of what the master and the first have ({one / 1e6:.0f} MB)"
    )
    added = statistics.median(starts) - statistics.median(imports)
    print(f"start to first answer, less importing sklearn.linear_model: {added:+.2f} s")
    with served(*OURS):
        rates = {}
        for rows in (1, 100, 10_000):
            body = json.dumps({"features": [json.loads(peers.ROW)] * rows})
            rates[rows] = load(3, body=body)[0] * rows
        print(
            "rows/s, of one core:",
            ", ".join(f"{rate:.0f} with {rows} a request" for rows, rate in rates.items()),
        )


def soak(requests):
    """Print memory and series as the requests go by."""
    command, env = OURS
    with served(command, env | {"METRICS_PORT": str(METRICS)}):
        load(10, script=MIXED)  # what is there from the start
        ask("/metrics", METRICS, None)  # a scrape has series of its own, from the first one on
        while True:
            text = ask("/metrics", METRICS, None).decode()
            samples = [line for line in text.splitlines() if not line.startswith("#")]
            total = sum(
                float(line.split()[-1])
                for line in samples
                if line.startswith("http_requests_total")
            )
            # Of the pages, for those shared with the parent count in a worker once it has touched them.
            workers = [
                line
                for line in samples
                if line.startswith('process_resident_memory_bytes{worker="1"')
            ]
            memory = float(workers[0].split()[-1]) / 2**20
            print(
                json.dumps(
                    {"requests": int(total), "series": len(samples), "worker MiB": round(memory, 1)}
                )
            )
            if total > requests:
                return
            load(30, script=MIXED)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--self", action="store_true", dest="own", help="our own parts")
    mode.add_argument(
        "--servers",
        action="store_true",
        help="other workers and servers around the same application",
    )
    mode.add_argument("--soak", type=int, metavar="REQUESTS", nargs="?", const=1_000_000)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    said = parser.parse_args()
    if said.own:
        compare(VARIANTS, said.seconds, said.rounds)
        own_costs(said.rounds)
    elif said.servers:
        compare({"this worker": OURS} | SERVERS, said.seconds, said.rounds)
    elif said.soak:
        soak(said.soak)
    else:
        beside_peers(said.seconds, said.rounds)

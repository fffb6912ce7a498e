"""A server on one core, and wrk on another: requests per second, latencies, memory."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import peers
from variants import PORT

ROOT = Path(__file__).parent.parent
CONNECTIONS = 16
SERVER_CORE = "0"
CLIENT_CORE = "1"
START_SECONDS = 90
STOP_SECONDS = 30
SECONDS_BY_UNIT = {"us": 1e-6, "ms": 1e-3, "s": 1}


@dataclass
class Load:
    """What wrk measures: requests per second, two quantiles of the latency in seconds, requests."""

    rate: float
    p50: float
    p99: float
    n_requests: int


@contextlib.contextmanager
def serve(command, env, cwd=ROOT, path="/predict", body=peers.OURS, port=PORT):
    """Serve on one core; yield the process, and the seconds until the first response."""
    with tempfile.TemporaryFile() as log:
        started_at = time.perf_counter()
        process = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, *command],
            cwd=cwd,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            while not is_serving(path, body, port):
                if process.poll() is not None or time.perf_counter() - started_at > START_SECONDS:
                    log.seek(0)
                    raise SystemExit(f"{command}: not ready\n{log.read()[-2000:].decode()}")
                time.sleep(0.02)
            yield process, time.perf_counter() - started_at
        finally:
            stop(process)


def stop(process):
    """End a process and all its children, so that the next server finds the port free."""
    with contextlib.suppress(ProcessLookupError):  # none of them is left
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def is_serving(path, body, port):
    """Return whether the server answers `body` with a prediction."""
    try:
        return b"predict" in send(path, port, body)
    except OSError:
        return False


def send(path="/predict", port=PORT, body=peers.OURS):
    """Return the body of the response to one request."""
    data = body.encode() if body else None
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read()


def memory_bytes(process):
    """Return the memory of a process and its children; shared pages are divided among them."""
    total = 0
    for pid in process_tree(process):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"Pss:\s+(\d+)", rollup)[1]) * 1024
    return total


def cpu_seconds(process):
    """Return the processor time of a process and its children, which are still running."""
    ticks = 0
    for pid in process_tree(process):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime
    return ticks / os.sysconf("SC_CLK_TCK")


def process_tree(process):
    """Return the ids of a process and of all its children."""
    found = []
    pids = [process.pid]
    while pids:
        pid = pids.pop()
        found.append(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):  # of each of its threads
            pids += map(int, children.read_text().split())
    return found


def post_script(body):
    """Return a script for wrk that posts one body."""
    return f"""wrk.method = "POST"
wrk.body = [==[{body}]==]
wrk.headers["Content-Type"] = "application/json"
"""


def run_wrk(
    seconds,
    connections=CONNECTIONS,
    path="/predict",
    script=None,
    allow_errors=False,
    port=PORT,
):
    """Return the load of wrk with a script, by default one that posts the example request."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script or post_script(peers.OURS))
        file.flush()
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
        url = f"http://127.0.0.1:{port}{path}"
        command = ["taskset", "-c", CLIENT_CORE, "wrk", *options, "--latency", "-s", file.name, url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if not allow_errors:
        assert "Non-2xx" not in output and "Socket errors" not in output, output

    rate = float(re.search(r"Requests/sec:\s+([0-9.]+)", output)[1])
    n_requests = int(re.search(r"([0-9]+) requests in", output)[1])
    return Load(rate, latency(output, 50), latency(output, 99), n_requests)


def latency(output, percent):
    """Return a percentile of the latency in seconds."""
    number, unit = re.search(rf"{percent}%\s+([0-9.]+)(us|ms|s)", output).groups()
    return float(number) * SECONDS_BY_UNIT[unit]

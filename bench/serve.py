"""Measure requests per second, beside other servers of the same model.

`--self` measures the parts of this service, `--servers` the same application under other servers,
`--soak` memory and metric series over many requests, `--stopping` memory at rest and while all
workers end. Needs wrk (Debian's package) and two cores:
the server has one to itself, wrk the other.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peers
from load import ROOT, SERVER_CORE, memory_bytes, post_script, run_wrk, send, serve
from variants import OURS, SERVERS, VARIANTS, gunicorn

METRICS_PORT = 5802
# Of ten requests six predict one row, one predicts two rows, one is invalid, one has an unknown
# path and method, and one is feedback.
MIXED_TEMPLATE = """local n = math.random(1, 1000000000)
local json = {["Content-Type"] = "application/json"}
local row = 'ROW'
local function post(path, body) return wrk.format("POST", path, json, body) end
function request()
  n = n + 1
  local kind = n % 10
  if kind == 0 then return post("/predict", '{"features":[' .. row .. ',' .. row .. ']}') end
  if kind == 1 then return post("/predict", '{"features":[1,2,"' .. n .. '"]}') end
  if kind == 2 then return wrk.format("PATCH", "/x" .. n, {["X-Request-ID"] = "x" .. n}) end
  if kind == 3 then return post("/feedback", 'FEEDBACK') end
  return post("/predict", '{"features":' .. row .. '}')
end
"""


def mixed_requests():
    """Return a script for wrk with rows and classes of the shipped model."""
    classes = [found["value"] for found in peers.CARD["classes"][:1]]
    feedback = json.dumps({"prediction": classes, "actual": classes})
    return MIXED_TEMPLATE.replace("ROW", peers.ROW).replace("FEEDBACK", feedback)


def medians_by_name(runs):
    """Return the median of each measured value, for each name."""
    medians = {}
    for name, values in runs.items():
        medians[name] = [statistics.median(column) for column in zip(*values, strict=True)]
    return medians


def compare_variants(variants, seconds, rounds):
    """Print the load of each variant relative to the first, measured in turns."""
    runs = {name: [] for name in variants}
    for _ in range(rounds):
        for name, (command, env) in variants.items():
            with serve(command, env):
                run_wrk(1)
                load = run_wrk(seconds)
                runs[name].append((load.rate, load.p50, load.p99))

    medians = medians_by_name(runs)
    first_rate = next(iter(medians.values()))[0]
    for name, (rate, p50, p99) in medians.items():
        latencies = f"p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"
        print(f"{name}: {rate / first_rate:.2f} of the requests/s ({rate:.0f}), {latencies}")


def compare_peers(seconds, rounds):
    """Print the table of docs/benchmarks.md: this service and its peers, measured in turns."""
    version = json.loads((ROOT / "model.json").read_text())["libraries"]["scikit-learn"]
    servers = {
        "this service": (*OURS, ROOT, "/predict", peers.OURS),
        "this service, Open Inference V2": (
            *OURS,
            ROOT,
            f"/v2/models/{peers.NAME}/infer",
            peers.V2,
        ),
    }
    work = Path(tempfile.mkdtemp())
    for name in peers.PEERS:
        directory = work / "".join(filter(str.isalnum, name))
        servers[name] = peers.prepare(name, directory, version)

    runs = {name: [] for name in servers}
    for _ in range(rounds):
        for name, (command, env, directory, path, body) in servers.items():
            script = post_script(body)
            with serve(command, env, directory, path, body) as (process, start_seconds):
                run_wrk(1, path=path, script=script)
                many = run_wrk(seconds, path=path, script=script)
                one = run_wrk(1, connections=1, path=path, script=script)
                measured = [many.rate, many.p50, many.p99, one.p50, one.p99]
                runs[name].append([*measured, memory_bytes(process), start_seconds])
    print_peers(medians_by_name(runs))


def print_peers(medians):
    """Print each peer relative to this service, and the values of this service."""
    ours = medians["this service"]
    print("| | requests/s | p50, p99 at 16 | p50, p99 at 1 | memory | first answer |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, values in medians.items():
        ratios = [value / own for value, own in zip(values, ours, strict=True)]
        rate, p50, p99, one_p50, one_p99, memory, start = ratios
        cells = [
            f"{rate:.2f}",
            f"{p50:.1f}, {p99:.1f}",
            f"{one_p50:.1f}, {one_p99:.1f}",
            f"{memory:.1f}",
            f"{start:.1f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")

    latencies = ", ".join(f"{seconds * 1e3:.2f} ms" for seconds in ours[1:5])
    print(f"1 is {ours[0]:.0f} requests/s; {latencies}; {ours[5] / 1e6:.0f} MB; {ours[6]:.1f} s")
    for name, values in medians.items():
        if values is not ours:
            print(f"this service has {ours[0] / values[0]:.1f} times the requests/s of {name}")


def measure_own_costs(rounds):
    """Print what a second worker, the start, and many rows in one request cost."""
    memory_by_workers = {1: [], 2: []}
    start_seconds = []
    import_seconds = []
    for _ in range(rounds):
        for workers, sizes in memory_by_workers.items():
            with serve(*gunicorn("app:app", workers=workers)) as (process, seconds):
                run_wrk(1)
                sizes.append(memory_bytes(process))
                start_seconds.append(seconds)
        started_at = time.perf_counter()
        program = [sys.executable, "-c", "import sklearn.linear_model"]
        subprocess.run(["taskset", "-c", SERVER_CORE, *program], check=True)
        import_seconds.append(time.perf_counter() - started_at)

    one = statistics.median(memory_by_workers[1])
    two = statistics.median(memory_by_workers[2])
    added_share = (two - one) / one
    print(f"a second worker adds {added_share:.2f} to the memory of the first ({one / 1e6:.0f} MB)")
    added_seconds = statistics.median(start_seconds) - statistics.median(import_seconds)
    print(f"start to first answer, less importing sklearn.linear_model: {added_seconds:+.2f} s")

    with serve(*OURS):
        for n_rows in (1, 100, 10_000):
            body = json.dumps({"features": [json.loads(peers.ROW)] * n_rows})
            rate = run_wrk(3, script=post_script(body)).rate * n_rows
            print(f"rows/s of one core with {n_rows} rows in a request: {rate:.0f}")


def soak(n_requests):
    """Print memory and metric series until the service has answered `n_requests`."""
    command, env = OURS
    with serve(command, env | {"METRICS_PORT": str(METRICS_PORT)}):
        run_wrk(10, script=mixed_requests(), allow_errors=True)
        send("/metrics", METRICS_PORT, None)  # its own series exist from the first scrape on
        n_answered = 0
        while n_answered <= n_requests:
            text = send("/metrics", METRICS_PORT, None).decode()
            samples = [line for line in text.splitlines() if not line.startswith("#")]
            n_answered = int(sum_samples(samples, "http_requests_total"))
            # Shared pages count once the worker has touched them.
            memory = sum_samples(samples, 'process_resident_memory_bytes{worker="1"')
            record = {
                "requests": n_answered,
                "series": len(samples),
                "worker MiB": round(memory / 2**20, 1),
            }
            print(json.dumps(record))
            run_wrk(30, script=mixed_requests(), allow_errors=True)


def measure_stopping(rounds):
    """Print the memory of the service at rest, and the most that it has while its workers end."""
    for workers in (2, 4, 8):
        resting = []
        ending = []
        for _ in range(rounds):
            with serve(*gunicorn("app:app", workers=workers)) as (process, _):
                run_wrk(1)
                resting.append(memory_bytes(process))
                process.terminate()
                ending.append(most_memory_until_end(process))
        rest = statistics.median(resting) / 1e6
        most = statistics.median(ending) / 1e6
        print(f"{workers} workers: {rest:.0f} MB at rest, at most {most:.0f} MB while they end")


def most_memory_until_end(process):
    """Return the largest memory of a process and its children until it ends."""
    most = 0
    while process.poll() is None:
        with contextlib.suppress(OSError, TypeError):  # one of them has ended
            most = max(most, memory_bytes(process))
    return most


def sum_samples(samples, prefix):
    """Return the sum of the samples whose line starts with `prefix`."""
    return sum(float(line.split()[-1]) for line in samples if line.startswith(prefix))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--self", action="store_true", dest="own", help="measure the parts of this service"
    )
    mode.add_argument(
        "--servers", action="store_true", help="measure other servers of the same application"
    )
    mode.add_argument("--soak", type=int, metavar="REQUESTS", nargs="?", const=1_000_000)
    mode.add_argument(
        "--stopping", action="store_true", help="measure the memory while the workers end"
    )
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    if options.own:
        compare_variants(VARIANTS, options.seconds, options.rounds)
        measure_own_costs(options.rounds)
    elif options.servers:
        compare_variants({"this worker": OURS} | SERVERS, options.seconds, options.rounds)
    elif options.soak:
        soak(options.soak)
    elif options.stopping:
        measure_stopping(options.rounds)
    else:
        compare_peers(options.seconds, options.rounds)


if __name__ == "__main__":
    main()

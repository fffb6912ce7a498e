"""Time and memory of batch.py, of pandas, and of pyarrow with one matrix product.

Each runs as a process of its own. `make bench-batch` runs all comparisons and needs 20 GB of disk.
The data are rows drawn from Iris with a little noise. Files are narrow (the features and an id),
wide (200 columns) or full of strings (ten columns of texts, of which some repeat).
"""

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from sklearn.datasets import load_iris

ROOT = Path(__file__).parent.parent
NAMES = load_iris().feature_names
PANDAS = f"""
import sys, time, joblib, numpy as np, pandas as pd
csv = sys.argv[1].endswith(".csv")
model = joblib.load("{ROOT}/model.pkl")
started_at = time.perf_counter()
data = (pd.read_csv if csv else pd.read_parquet)(sys.argv[1])
data["prediction"] = model.predict(data[{NAMES}].to_numpy())
data["label"] = np.array(["setosa", "versicolor", "virginica"])[data["prediction"]]
data.to_csv(sys.argv[2], index=False) if csv else data.to_parquet(sys.argv[2], index=False)
print(len(data) / (time.perf_counter() - started_at), "a second")
"""
LIMIT = f"""
import sys, time, joblib, numpy as np, pyarrow as pa, pyarrow.csv, pyarrow.parquet as pq
csv = sys.argv[1].endswith(".csv")
model = joblib.load("{ROOT}/model.pkl")
started_at = time.perf_counter()
data = pyarrow.csv.read_csv(sys.argv[1]) if csv else pq.read_table(sys.argv[1])
rows = np.column_stack([data.column(name).to_numpy() for name in {NAMES}])
predictions = (rows @ model.coef_.T + model.intercept_).argmax(axis=1)
data = data.append_column("prediction", pa.array(predictions))
names = ["setosa", "versicolor", "virginica"]
labels = pa.DictionaryArray.from_arrays(pa.array(predictions), names)
data = data.append_column("label", labels)
pyarrow.csv.write_csv(data, sys.argv[2]) if csv else pq.write_table(data, sys.argv[2])
print(len(data) / (time.perf_counter() - started_at), "a second")
"""


def more_columns(shape, rng, n_rows):
    """Return the columns beside the features and the id."""
    if shape == "wide":
        return {f"x{i}": rng.normal(size=n_rows).round(3) for i in range(195)}
    if shape == "strings":
        words = np.array(["Torgersen", "a longer text, with a comma", "Größe", 'a "quoted" one'])
        repeated = {f"word{i}": words[rng.integers(len(words), size=n_rows)] for i in range(5)}
        numbers = rng.integers(10**9, size=(5, n_rows)).astype(str)
        return repeated | {f"key{i}": np.char.add("key-", numbers[i]) for i in range(5)}
    return {}


def write(path, rows, shape):
    """Write rows to a CSV or Parquet file, at most a million at a time."""
    iris = load_iris().data
    rng = np.random.default_rng(0)
    writer = None
    n_rows = min(rows, 1_000_000 if shape == "narrow" else 100_000)
    for start in range(0, rows, n_rows):
        values = iris[rng.integers(150, size=n_rows)]
        values = values + rng.normal(0, 0.05, size=(n_rows, 4))
        columns = dict(zip(NAMES, np.abs(values.round(2)).T, strict=True))
        columns |= more_columns(shape, rng, n_rows)
        table = pa.table({"id": np.arange(start, start + n_rows)} | columns)
        if writer is None:
            writer = (pq.ParquetWriter if path.suffix == ".parquet" else pyarrow.csv.CSVWriter)(
                path, table.schema
            )
        writer.write_table(table)
    writer.close()


def run(program, source, target):
    """Return the seconds of a process, its peak in MB, and its rows/s after the start."""
    started_at = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *program, source, target], stdout=subprocess.PIPE, text=True
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, program
    with process.stdout as file:
        rate = float(re.search("([0-9.]+) (?:a|per) second", file.read())[1])
    return time.perf_counter() - started_at, usage.ru_maxrss / 1024, rate


def compare(source, target, rounds, others):
    """Print the time and memory of each program relative to batch.py, as medians of the rounds."""
    programs = {"ours": [ROOT / "batch.py"], "pandas": ["-c", PANDAS], "limit": ["-c", LIMIT]}
    for name in others:
        if name not in programs:
            programs[name] = [Path(name).resolve() / "batch.py"]
    results = {name: [] for name in ("ours", *others)}
    for _ in range(rounds):
        for name in results:
            results[name].append(run(programs[name], source, target))
            target.unlink()
    ours, memory, fast = np.median(results["ours"], axis=0)
    rounds_taken = [round(seconds, 1) for seconds, _, _ in results["ours"]]
    print(f"  ours: {memory:.0f} MB at most; each round took {rounds_taken} s")
    for name in others:
        seconds, megabytes, rate = np.median(results[name], axis=0)
        times = f"{seconds / ours:.2f} times as long, {fast / rate:.2f} times without the start"
        print(f"  {name}: {times}; {megabytes / memory:.1f} times the memory")


def http(source, target, rounds):
    """Print the rows/s of a file relative to requests of 10,000 rows from two clients."""
    rows = pyarrow.csv.read_csv(source).slice(0, 10_000).select(NAMES).to_pydict()
    body = json.dumps({"features": list(zip(*rows.values(), strict=True))}).encode()
    environ = os.environ | {"PORT": "18787", "LOG_LEVEL": "warning"}
    server = subprocess.Popen([sys.executable, "-m", "gunicorn", "app:app"], cwd=ROOT, env=environ)

    def send_request(_):
        request = urllib.request.Request(
            "http://127.0.0.1:18787/predict", body, {"Content-Type": "application/json"}
        )
        return len(json.load(urllib.request.urlopen(request, timeout=60))["prediction"])

    time.sleep(4)
    with ThreadPoolExecutor(2) as clients:
        list(clients.map(send_request, range(10)))
        started_at = time.perf_counter()
        n_rows = sum(clients.map(send_request, range(200)))
        http_rate = n_rows / (time.perf_counter() - started_at)
    server.terminate()
    server.wait()
    rate = np.median([run([ROOT / "batch.py"], source, target)[2] for _ in range(rounds)])
    print(f"  a file has {rate / http_rate:.1f} times the rows/s of requests")


def cluster(source, target, rounds):
    """Print the time of a job with one worker relative to two, after a first job for each."""
    port = "18786"
    environ = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    processes = []

    def start(*words):
        command = [sys.executable, "-m", *words, "--no-dashboard"]
        processes.append(
            subprocess.Popen(command, env=environ, cwd=source.parent, stderr=subprocess.DEVNULL)
        )

    start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port)
    address = f"tcp://127.0.0.1:{port}"
    medians = []
    for workers in (1, 2):
        worker = ("distributed.cli.dask_worker", address)
        start(*worker, "--nthreads", "1", "--no-nanny", "--death-timeout", "60")
        time.sleep(5)
        program = [ROOT / "batch.py", "--scheduler", address, "--part-bytes", "30000000"]
        seconds = [run(program, source, target)[0] for _ in range(rounds + 1)][1:]
        medians.append(np.median(seconds))
        print(f"  {workers} workers: {[round(s, 1) for s in seconds]} s")
    print(f"  one worker takes {medians[0] / medians[1]:.2f} times as long as two")
    for process in processes:
        process.terminate()
        process.wait()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rows", type=int, default=5_000_000)
parser.add_argument("--format", choices=("csv", "parquet"), default="csv")
parser.add_argument("--shape", choices=("narrow", "wide", "strings"), default="narrow")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument(
    "--against",
    nargs="*",
    default=["pandas", "limit"],
    help="pandas, limit, or the path of another checkout",
)
parser.add_argument("--cluster", action="store_true")
parser.add_argument("--http", action="store_true")
options = parser.parse_args()
with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
    source = Path(directory, f"in.{options.format}")
    target = Path(directory, f"out.{options.format}")
    # In a process of its own, because the peak of a new process includes the memory of its parent.
    writer = multiprocessing.Process(target=write, args=(source, options.rows, options.shape))
    writer.start()
    writer.join()
    print(f"{options.rows} rows of {options.format}, {options.shape}")
    if options.cluster:
        cluster(source, Path(directory, "out"), options.rounds)
    elif options.http:
        http(source, target, options.rounds)
    else:
        compare(source, target, options.rounds, options.against)

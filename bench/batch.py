"""batch.py beside pandas, and beside pyarrow and one product of numpy alone: time and memory, as processes.

`make bench-batch` runs it all; it needs 20 GB of disk. The data are Iris's rows, drawn anew, with a little noise.
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
began = time.perf_counter()
data = (pd.read_csv if csv else pd.read_parquet)(sys.argv[1])
data["prediction"] = model.predict(data[{NAMES}].to_numpy())
data["label"] = np.array(["setosa", "versicolor", "virginica"])[data["prediction"]]
data.to_csv(sys.argv[2], index=False) if csv else data.to_parquet(sys.argv[2], index=False)
print(len(data) / (time.perf_counter() - began), "a second")
"""
LIMIT = f"""
import sys, time, joblib, numpy as np, pyarrow as pa, pyarrow.csv, pyarrow.parquet as pq
csv = sys.argv[1].endswith(".csv")
model = joblib.load("{ROOT}/model.pkl")
began = time.perf_counter()
data = pyarrow.csv.read_csv(sys.argv[1]) if csv else pq.read_table(sys.argv[1])
rows = np.column_stack([data.column(name).to_numpy() for name in {NAMES}])
found = (rows @ model.coef_.T + model.intercept_).argmax(axis=1)
data = data.append_column("prediction", pa.array(found))
labels = pa.DictionaryArray.from_arrays(pa.array(found), ["setosa", "versicolor", "virginica"])
data = data.append_column("label", labels)
pyarrow.csv.write_csv(data, sys.argv[2]) if csv else pq.write_table(data, sys.argv[2])
print(len(data) / (time.perf_counter() - began), "a second")
"""


def write(path, rows):
    """Write that many rows to a file of CSV or Parquet, a million at a time."""
    iris, rng, writer = load_iris().data, np.random.default_rng(0), None
    for start in range(0, rows, 1_000_000):
        some = iris[rng.integers(150, size=1_000_000)] + rng.normal(0, 0.05, size=(1_000_000, 4))
        columns = dict(zip(NAMES, np.abs(some.round(2)).T, strict=True))
        table = pa.table({"id": np.arange(start, start + 1_000_000)} | columns)
        if writer is None:
            writer = (pq.ParquetWriter if path.suffix == ".parquet" else pyarrow.csv.CSVWriter)(
                path, table.schema
            )
        writer.write_table(table)
    writer.close()


def run(program, source, target):
    """Return seconds of a process, megabytes at most, and rows/s once it had its imports and the model."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *program, source, target], stdout=subprocess.PIPE, text=True
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, program
    with process.stdout as file:
        rate = float(re.search("([0-9.]+) a second", file.read())[1])
    return time.perf_counter() - began, usage.ru_maxrss / 1024, rate


def compare(source, target, rounds, others):
    """Print how many times as long others take, and how many times the memory, medians of the rounds."""
    programs = {"ours": [ROOT / "batch.py"], "pandas": ["-c", PANDAS], "limit": ["-c", LIMIT]}
    found = {name: [] for name in ("ours", *others)}
    for _ in range(rounds):
        for name in found:
            found[name].append(run(programs[name], source, target))
            target.unlink()
    ours, memory, fast = np.median(found["ours"], axis=0)
    print(
        f"  ours: {memory:.0f} MB at most; each round took {[round(s, 1) for s, _, _ in found['ours']]} s"
    )
    for name in others:
        seconds, megabytes, rate = np.median(found[name], axis=0)
        times = f"{seconds / ours:.2f} times as long, {fast / rate:.2f} times without the start"
        print(f"  {name}: {times}; {megabytes / memory:.1f} times the memory")


def http(source, target, rounds):
    """Print how many times as many rows a second a file has as requests of 10,000 rows, two clients at a time."""
    rows = pyarrow.csv.read_csv(source).slice(0, 10_000).select(NAMES).to_pydict()
    body = json.dumps({"features": list(zip(*rows.values(), strict=True))}).encode()
    environ = os.environ | {"PORT": "18787", "LOG_LEVEL": "warning"}
    server = subprocess.Popen([sys.executable, "-m", "gunicorn", "app:app"], cwd=ROOT, env=environ)

    def ask(_):
        call = urllib.request.Request(
            "http://127.0.0.1:18787/predict", body, {"Content-Type": "application/json"}
        )
        return len(json.load(urllib.request.urlopen(call, timeout=60))["prediction"])

    time.sleep(4)
    with ThreadPoolExecutor(2) as clients:
        list(clients.map(ask, range(10)))
        began = time.perf_counter()
        answered = sum(clients.map(ask, range(200)))
        asked = answered / (time.perf_counter() - began)
    server.terminate()
    server.wait()
    rate = np.median([run([ROOT / "batch.py"], source, target)[2] for _ in range(rounds)])
    print(f"  a file has {rate / asked:.1f} times the rows/s of requests")


def cluster(source, target, rounds):
    """Print how many times as long a job takes one worker as two, each of one thread, without their first start."""
    port, environ, processes = (
        "18786",
        os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        [],
    )

    def start(*words):
        command = [sys.executable, "-m", *words, "--no-dashboard"]
        processes.append(
            subprocess.Popen(command, env=environ, cwd=source.parent, stderr=subprocess.DEVNULL)
        )

    start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port)
    address = f"tcp://127.0.0.1:{port}"
    medians = []
    for workers in (1, 2):
        start(
            "distributed.cli.dask_worker",
            address,
            "--nthreads",
            "1",
            "--no-nanny",
            "--death-timeout",
            "60",
        )
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
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--against", nargs="*", default=["pandas", "limit"])
parser.add_argument("--cluster", action="store_true")
parser.add_argument("--http", action="store_true")
options = parser.parse_args()
with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
    source, target = (
        Path(directory, f"in.{options.format}"),
        Path(directory, f"out.{options.format}"),
    )
    # In a process of its own: what is started later counts as having had, at first, the memory of this one.
    writer = multiprocessing.Process(target=write, args=(source, options.rows))
    writer.start()
    writer.join()
    print(f"{options.rows} rows of {options.format}")
    if options.cluster:
        cluster(source, Path(directory, "out"), options.rounds)
    elif options.http:
        http(source, target, options.rounds)
    else:
        compare(source, target, options.rounds, options.against)

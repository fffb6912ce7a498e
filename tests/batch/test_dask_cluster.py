"""batch.py on a Dask cluster: a worker or a scheduler that is killed loses nothing."""

import os
import re
import shutil
import socket
import subprocess
import sys

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from batches import (
    BATCH,
    GOOD_LINE,
    HEADER,
    batch_error,
    expected_predictions,
    iris_table,
    list_names,
    run_batch,
)
from helpers import ROOT, free_port, wait_until

SCHEDULER = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
WORKER = [sys.executable, "-m", "distributed.cli.dask_worker"]
WORKER_OPTIONS = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "60"]


class Cluster:
    """A scheduler and its workers, each a process of its own."""

    def __init__(self, directory):
        self.directory = directory
        self.port = free_port()
        self.workers = []
        self.address = f"tcp://127.0.0.1:{self.port}"
        words = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        self.scheduler = self.start(SCHEDULER + words, directory)  # it needs no code of ours
        wait_until(lambda: socket.create_connection(("127.0.0.1", self.port)).close() is None)

    def start(self, command, code):
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command,
            env=environ,
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start_worker(self, code=ROOT):
        """Start a worker, which is not restarted if it dies."""
        command = [*WORKER, self.address, *WORKER_OPTIONS]
        self.workers.append(self.start(command, code))
        return self.workers[-1]

    def stop(self):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path_factory):
    running = Cluster(tmp_path_factory.mktemp("cluster"))
    yield running
    running.stop()


def test_cluster_matches_one_machine(cluster, tmp_path):
    """A cluster writes, part by part, what one machine writes."""
    cluster.start_worker()
    cluster.start_worker()

    source = tmp_path / "in"
    source.mkdir()
    pyarrow.csv.write_csv(iris_table(20_000), source / "a.csv")
    pq.write_table(iris_table(20_000), source / "b.parquet", row_group_size=1000)
    words = ["--scheduler", cluster.address, "--part-bytes", "300000"]

    printed = run_batch(source, tmp_path / "out", *words)
    assert printed.startswith("40000 rows in ")
    names = list_names(tmp_path / "out")

    rows = {}
    for kind in ("a.csv", "b.parquet"):
        stem, suffix = kind.split(".")
        parts = [name for name in names if name.startswith(stem)]
        assert parts == [
            f"{stem}-{i:05d}-of-{len(parts):05d}.{suffix}" for i in range(1, len(parts) + 1)
        ]
        assert len(parts) > 2
        read = pyarrow.csv.read_csv if suffix == "csv" else pq.read_table
        output = pa.concat_tables(read(tmp_path / "out" / name) for name in parts)
        assert output.select(output.column_names[:5]).equals(iris_table(20_000))
        np.testing.assert_array_equal(
            output.column("prediction").to_numpy(), expected_predictions(output)
        )
        rows[kind] = len(output)
    assert rows == {"a.csv": 20_000, "b.parquet": 20_000}

    # A second run with fewer parts removes the parts of the first.
    run_batch(source, tmp_path / "out", "--scheduler", cluster.address)
    assert list_names(tmp_path / "out") == ["a-00001-of-00001.csv", "b-00001-of-00001.parquet"]


def test_bad_rows_numbered_in_file(cluster, tmp_path):
    """Bad rows of a part are numbered within the whole file."""
    cluster.start_worker()
    lines = [GOOD_LINE] * 5000
    for row in (2000, 4000):
        lines[row - 1] = "x,1,1,1"
    (tmp_path / "in.csv").write_text("\n".join([HEADER, "", *lines]))
    options = ["--scheduler", cluster.address, "--part-bytes", "10000"]
    words = [tmp_path / "in.csv", tmp_path / "out", *options]

    assert (
        "in.csv: row 2000 (line 2002): 'sepal length (cm)': expected a number, got 'x'"
        in batch_error(*words)
    )
    assert list_names(tmp_path) == ["in.csv"]

    run_batch(*words, "--on-error", "skip")
    errors_path = tmp_path / "out/in.csv.errors.ndjson"
    errors = [msgspec.json.decode(line) for line in errors_path.read_bytes().splitlines()]
    assert [(error["row"], error["line"]) for error in errors] == [(2000, 2002), (4000, 4002)]


def test_killed_worker_loses_nothing(cluster, tmp_path):
    """The parts of a worker that is killed are scored by another one."""
    doomed = cluster.start_worker()
    cluster.start_worker()
    pq.write_table(iris_table(1_500_000), tmp_path / "in.parquet", row_group_size=50_000)
    options = ["--scheduler", cluster.address, "--part-bytes", "1000000"]
    words = [tmp_path / "in.parquet", tmp_path / "out", *options]

    process = subprocess.Popen(
        [*BATCH, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    staging_dir = tmp_path / "out/.all.batch"
    wait_until(lambda: len(list(staging_dir.glob("in-*"))) > 2, 120)
    doomed.kill()
    assert len(list(staging_dir.glob("in-*"))) < 30  # the job is not over

    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("1500000 rows in ")
    names = list_names(tmp_path / "out")
    assert names == [f"in-{i:05d}-of-00030.parquet" for i in range(1, 31)]
    output = pa.concat_tables(pq.read_table(tmp_path / "out" / name) for name in names)
    assert output.column("id").to_pylist() == list(range(1_500_000))
    np.testing.assert_array_equal(
        output.column("prediction").to_numpy(), expected_predictions(output)
    )


def test_killed_scheduler_ends_job(cluster, tmp_path):
    """A scheduler that is killed ends the job, which leaves no output."""
    cluster.start_worker()
    pq.write_table(iris_table(1_500_000), tmp_path / "in.parquet", row_group_size=50_000)
    options = ["--scheduler", cluster.address, "--part-bytes", "1000000"]
    words = [tmp_path / "in.parquet", tmp_path / "out", *options]

    process = subprocess.Popen(
        [*BATCH, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(list((tmp_path / "out/.all.batch").glob("in-*"))) > 2, 120)
    cluster.scheduler.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in err
    assert err.splitlines()[-1].startswith((f"{tmp_path / 'in.parquet'}: ", cluster.address))
    assert list_names(tmp_path) == ["in.parquet"]


def test_rejects_worker_with_other_code(cluster, tmp_path):
    """A worker with other code is an error before anything is scored."""
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD_LINE}\n")
    words = [tmp_path / "in.csv", tmp_path / "out", "--scheduler", cluster.address]
    shutil.copytree(ROOT / "serving", tmp_path / "code/serving")
    with (tmp_path / "code/serving/monitoring/drift.py").open("a") as file:
        file.write("# changed\n")
    other = cluster.start_worker(tmp_path / "code")
    assert re.fullmatch(
        r"tcp://\S+: serving [0-9a-f]{12} there, [0-9a-f]{12} here", batch_error(*words)
    )
    other.kill()
    cluster.start_worker()  # the rejected job has left no plugin on the scheduler
    run_batch(*words)
    assert list_names(tmp_path / "out") == ["in-00001-of-00001.csv"]


def test_rejects_worker_without_code(cluster, tmp_path):
    """A worker without the code is an error before anything is scored."""
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD_LINE}\n")
    cluster.start_worker(tmp_path)
    assert "No module named 'serving'" in batch_error(
        tmp_path / "in.csv", tmp_path / "out", "--scheduler", cluster.address
    )
    assert list_names(tmp_path) == ["in.csv"]


def test_cluster_without_workers_is_one_line(cluster, tmp_path):
    """A cluster without a worker is an error of one line, soon."""
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD_LINE}\n")
    error = batch_error(tmp_path / "in.csv", tmp_path / "out", "--scheduler", cluster.address)
    assert error == f"{cluster.address}: no worker within 10 seconds"
    assert list_names(tmp_path) == ["in.csv"]


def test_unreachable_cluster_is_one_line(tmp_path):
    """A cluster that cannot be reached is an error of one line."""
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD_LINE}\n")
    address = f"tcp://127.0.0.1:{free_port()}"
    assert address in batch_error(tmp_path / "in.csv", tmp_path / "out", "--scheduler", address)
    assert list_names(tmp_path) == ["in.csv"]

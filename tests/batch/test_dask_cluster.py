"""batch.py on a real Dask cluster, and as the consumer of a real broker: what dies in the middle loses nothing."""

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

from batches import BATCH, GOOD, HEADER, batch, expected, listing, member, refused, table
from helpers import ROOT, free_port, wait_until

DASK = (
    [sys.executable, "-m", "distributed.cli.dask_scheduler"],
    [sys.executable, "-m", "distributed.cli.dask_worker"],
)


class Cluster:
    """A scheduler and its workers, processes each."""

    def __init__(self, directory):
        self.directory, self.port, self.workers = directory, free_port(), []
        self.address = f"tcp://127.0.0.1:{self.port}"
        words = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        self.scheduler = self.start(DASK[0] + words, ROOT)
        wait_until(lambda: socket.create_connection(("127.0.0.1", self.port)).close() is None)

    def start(self, command, code):
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environ, cwd=self.directory, stdout=-3, stderr=-3)

    def block_scorer(self, code=ROOT):
        """Start a worker, one that is not started again if it dies."""
        words = [
            self.address,
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
            "--death-timeout",
            "60",
        ]
        self.workers.append(self.start(DASK[1] + words, code))
        return self.workers[-1]

    def stop(self):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path_factory):
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    yield found
    found.stop()


def test_a_cluster_gives_what_one_machine_gives_part_by_part(cluster, tmp_path):
    cluster.block_scorer()
    cluster.block_scorer()
    source = tmp_path / "in"
    source.mkdir()
    pyarrow.csv.write_csv(table(20_000), source / "a.csv")
    pq.write_table(table(20_000), source / "b.parquet", row_group_size=1000)
    words = ["--scheduler", cluster.address, "--part-bytes", "300000"]
    printed = batch(source, tmp_path / "out", *words)
    assert printed.startswith("40000 rows in ")
    names = listing(tmp_path / "out")
    rows = {}
    for kind in ("a.csv", "b.parquet"):
        stem, suffix = kind.split(".")
        parts = [name for name in names if name.startswith(stem)]
        assert parts == [
            f"{stem}-{i:05d}-of-{len(parts):05d}.{suffix}" for i in range(1, len(parts) + 1)
        ]
        assert len(parts) > 2
        read = pyarrow.csv.read_csv if suffix == "csv" else pq.read_table
        found = pa.concat_tables(read(tmp_path / "out" / name) for name in parts)
        assert found.select(found.column_names[:5]).equals(table(20_000))
        np.testing.assert_array_equal(found.column("prediction").to_numpy(), expected(found))
        rows[kind] = len(found)
    assert rows == {"a.csv": 20_000, "b.parquet": 20_000}
    # Fewer parts the next time: those of before are gone.
    batch(source, tmp_path / "out", "--scheduler", cluster.address)
    assert listing(tmp_path / "out") == ["a-00001-of-00001.csv", "b-00001-of-00001.parquet"]


def test_bad_rows_have_their_number_in_the_whole_file(cluster, tmp_path):
    cluster.block_scorer()
    lines = [GOOD] * 5000
    for row in (2000, 4000):
        lines[row - 1] = "x,1,1,1"
    (tmp_path / "in.csv").write_text("\n".join([HEADER, "", *lines]))
    words = [
        tmp_path / "in.csv",
        tmp_path / "out",
        "--scheduler",
        cluster.address,
        "--part-bytes",
        "10000",
    ]
    assert (
        "in.csv: row 2000 (line 2002): 'sepal length (cm)': expected a number, got 'x'"
        in refused(*words)
    )
    assert listing(tmp_path) == ["in.csv"]
    batch(*words, "--on-error", "skip")
    errors = [
        *map(msgspec.json.decode, (tmp_path / "out/in.csv.errors.ndjson").read_bytes().splitlines())
    ]
    assert [(error["row"], error["line"]) for error in errors] == [(2000, 2002), (4000, 4002)]


def test_a_worker_that_is_killed_in_the_middle_costs_nothing(cluster, tmp_path):
    doomed, _ = cluster.block_scorer(), cluster.block_scorer()
    pq.write_table(table(1_500_000), tmp_path / "in.parquet", row_group_size=50_000)
    words = [
        tmp_path / "in.parquet",
        tmp_path / "out",
        "--scheduler",
        cluster.address,
        "--part-bytes",
        "1000000",
    ]
    process = subprocess.Popen(
        [*BATCH, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    place = tmp_path / "out/.all.batch"
    wait_until(lambda: len(list(place.glob("in-*"))) > 2)
    doomed.kill()
    assert len(list(place.glob("in-*"))) < 30  # in the middle
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("1500000 rows in ")
    names = listing(tmp_path / "out")
    assert names == [f"in-{i:05d}-of-00030.parquet" for i in range(1, 31)]
    found = pa.concat_tables(pq.read_table(tmp_path / "out" / name) for name in names)
    assert found.column("id").to_pylist() == list(range(1_500_000))
    np.testing.assert_array_equal(found.column("prediction").to_numpy(), expected(found))


def test_a_scheduler_that_dies_ends_the_job_which_leaves_nothing(cluster, tmp_path):
    cluster.block_scorer()
    pq.write_table(table(1_500_000), tmp_path / "in.parquet", row_group_size=50_000)
    words = [
        tmp_path / "in.parquet",
        tmp_path / "out",
        "--scheduler",
        cluster.address,
        "--part-bytes",
        "1000000",
    ]
    process = subprocess.Popen(
        [*BATCH, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(list((tmp_path / "out/.all.batch").glob("in-*"))) > 2)
    cluster.scheduler.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in err
    assert err.splitlines()[-1].startswith((f"{tmp_path / 'in.parquet'}: ", cluster.address))
    assert listing(tmp_path) == ["in.parquet"]


def test_a_worker_with_other_code_is_refused_before_anything(cluster, tmp_path):
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD}\n")
    words = [tmp_path / "in.csv", tmp_path / "out", "--scheduler", cluster.address]
    shutil.copytree(ROOT / "serving", tmp_path / "code/serving")
    with (tmp_path / "code/serving/monitoring/drift.py").open("a") as file:
        file.write("# changed\n")
    other = cluster.block_scorer(tmp_path / "code")
    assert re.fullmatch(
        r"tcp://\S+: serving [0-9a-f]{12} there, [0-9a-f]{12} here", refused(*words)
    )
    other.kill()
    cluster.block_scorer()  # what was refused has not stayed: this one may come
    batch(*words)
    assert listing(tmp_path / "out") == ["in-00001-of-00001.csv"]


def test_a_worker_without_the_code_is_refused_before_anything(cluster, tmp_path):
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD}\n")
    cluster.block_scorer(tmp_path)
    assert "No module named 'serving'" in refused(
        tmp_path / "in.csv", tmp_path / "out", "--scheduler", cluster.address
    )
    assert listing(tmp_path) == ["in.csv"]


def test_no_cluster_and_no_worker_are_one_line(tmp_path):
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD}\n")
    address = f"tcp://127.0.0.1:{free_port()}"
    assert address in refused(tmp_path / "in.csv", tmp_path / "out", "--scheduler", address)
    assert listing(tmp_path) == ["in.csv"]


class Redis:
    """What redis-cli, the broker's own client, answers, as JSON."""

    def __init__(self, port):
        command = ["redis-cli", "-p", str(port), "--json"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, *words):
        quoted = " ".join(
            '"' + str(word).replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words
        )
        self.process.stdin.write(quoted + "\n")
        self.process.stdin.flush()
        return msgspec.json.decode(self.process.stdout.readline())

    def close(self):
        self.process.communicate()


@pytest.fixture
def broker(tmp_path):
    port = free_port()
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=-3,
    )
    wait_until(lambda: socket.create_connection(("127.0.0.1", port)).close() is None)
    yield port
    server.terminate()
    server.wait()


def consume(port, enough):
    """Read the group's messages, score them in a process of their own, write and acknowledge each in one transaction.

    First what was delivered before and never acknowledged, then what is new; until `enough()`.
    """
    redis = Redis(port)
    process = subprocess.Popen(
        [*BATCH, "-", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=-3
    )
    since = "0"
    while not enough(process):
        found = redis(
            "XREADGROUP",
            "GROUP",
            "scorers",
            "one",
            "COUNT",
            "50",
            "BLOCK",
            "50",
            "STREAMS",
            "in",
            since,
        )
        messages = (
            (found or {}).get("in", [])
            if isinstance(found, dict)
            else dict(found or []).get("in", [])
        )
        if not messages:
            since = ">"
            continue
        for key, (_, row) in messages:
            process.stdin.write((row[:-1] + f',"key":"{key}"}}\n').encode())
        process.stdin.flush()
        for key, _ in messages:
            answer = process.stdout.readline().decode().rstrip("\n")
            if not answer:  # it was killed: what has no acknowledgement comes again
                process.communicate()
                return redis.close()
            assert msgspec.json.decode(answer)["key"] == key
            redis("MULTI")
            redis(
                "XADD", "out", key, "row", answer
            )  # by the key it came with: what is there already is refused
            redis("XACK", "in", "scorers", key)
            redis("EXEC")
        if since != ">":
            since = messages[-1][0]
    process.communicate()
    return redis.close()


def test_a_broker_loses_and_doubles_nothing_across_a_restart_of_the_consumer(broker):
    redis, rows = Redis(broker), 1000
    redis("XGROUP", "CREATE", "in", "scorers", "0", "MKSTREAM")
    keys = [redis("XADD", "in", "*", "row", member(n=i)) for i in range(rows)]

    def kill_at_300(process):
        if redis("XLEN", "out") > 300:
            process.kill()  # its answers to what is read next never come
        return False

    consume(broker, kill_at_300)
    [pending, *_] = redis("XPENDING", "in", "scorers")
    assert pending > 0 and redis("XLEN", "out") < rows
    consume(broker, lambda _: redis("XLEN", "out") == rows)
    assert redis("XPENDING", "in", "scorers")[0] == 0
    answers = redis("XRANGE", "out", "-", "+")
    assert [key for key, _ in answers] == keys
    decoded = [msgspec.json.decode(fields[1]) for _, fields in answers]
    assert [(one["n"], one["key"], one["prediction"]) for one in decoded] == [
        (i, key, 0) for i, key in enumerate(keys)
    ]
    redis.close()

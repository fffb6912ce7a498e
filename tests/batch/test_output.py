"""Output of the batch: after an error, a signal, or a second run, the old one stays."""

import gzip
import os
import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from batches import (
    BATCH,
    GOOD_LINE,
    HEADER,
    batch_error,
    iris_table,
    list_names,
    run_batch,
)
from helpers import NAMES, ROOT, wait_until


def test_file_errors_are_one_line(tmp_path):
    """A file that cannot be read or written is an error of one line."""
    (tmp_path / "in.parquet").write_bytes(b"PAR1 not really PAR1")
    assert batch_error(tmp_path / "in.parquet", tmp_path / "out.csv").startswith(
        f"{tmp_path / 'in.parquet'}: "
    )
    (tmp_path / "in.csv.gz").write_bytes(
        gzip.compress(f"{HEADER}\n{GOOD_LINE}\n".encode() * 10_000)[:-20]
    )
    assert batch_error(tmp_path / "in.csv.gz", tmp_path / "out.csv").startswith(
        f"{tmp_path / 'in.csv.gz'}: "
    )
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD_LINE}\n")
    (tmp_path / "in.txt").write_text(f"{HEADER}\n{GOOD_LINE}\n")
    source = tmp_path / "in.csv"
    output = tmp_path / "out.csv"
    suffixes = "name that ends in .csv, .tsv (also .gz, .bz2, .xz, .zst, .zip) or .parquet"
    inputs = f"expected a {suffixes}"
    outputs = inputs.replace(", .zip", "")
    nothing = f"no file found whose {suffixes.replace('that ', '')}"
    found = ", ".join(map(repr, NAMES))
    no_model = "No such file or directory; `python train.py` writes one"
    for words, message in (
        ((tmp_path / "none.csv", output), f"{tmp_path / 'none.csv'}: no such file"),
        ((tmp_path / "in.txt", output), f"{tmp_path / 'in.txt'}: {inputs}"),
        ((source, tmp_path / "out.txt"), f"{tmp_path / 'out.txt'}: {outputs}"),
        ((source, tmp_path / "out.csv.zip"), f"{tmp_path / 'out.csv.zip'}: {outputs}"),
        ((source, source), f"{source}: OUTPUT is INPUT"),
        ((source, tmp_path), f"{source}: OUTPUT is INPUT"),
        ((f"{tmp_path}/*.none", tmp_path), f"{tmp_path}/*.none: {nothing}"),
        ((source, "/proc/out.csv"), "/proc/out.csv: No such file or directory"),
        ((source, "s3://bucket/out.csv"), "s3://bucket/out.csv: Install s3fs to access S3"),
        (("nowhere://in.csv", output), "nowhere://in.csv: Protocol not known: nowhere"),
        ((source, output, "--keep", "id"), f"{source}: missing column 'id'; found {found}"),
        ((source, output, "--model", tmp_path / "no.pkl"), f"{tmp_path / 'no.pkl'}: {no_model}"),
    ):
        assert batch_error(*words) == message
    assert list_names(tmp_path) == ["in.csv", "in.csv.gz", "in.parquet", "in.txt"]
    pq.write_table(iris_table(1, nested=pa.array([[1]])), tmp_path / "in.parquet")
    assert "in.parquet: Unsupported Type" in batch_error(
        tmp_path / "in.parquet", tmp_path / "out.csv"
    )
    for words in (
        ["-", tmp_path / "out"],
        ["in", "out", "--format", "csv"],
        ["-", "-", "--scheduler", "tcp://x"],
    ):
        assert "error: " in run_batch(*words, status=2)


def test_forbidden_output_is_named(tmp_path):
    """Where nobody may write, the message names the output."""
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD_LINE}\n")
    forbidden = tmp_path / "forbidden"
    forbidden.mkdir(mode=0o555)
    command = [*BATCH, tmp_path / "in.csv", forbidden / "out.csv"]
    if os.geteuid() == 0:  # who may write everywhere, unless this is taken away
        lost = "-dac_override,-dac_read_search"
        command = ["setpriv", f"--bounding-set={lost}", f"--inh-caps={lost}", *command]
    result = subprocess.run(command, capture_output=True, text=True)
    message = f"{forbidden / 'out.csv'}: Permission denied\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", message)


def test_full_disk_keeps_output(tmp_path):
    """A full disk leaves the old output as it is."""
    small = tmp_path / "small"
    small.mkdir()
    root = [] if os.geteuid() == 0 else ["sudo"]
    subprocess.run(
        [*root, "mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", small], check=True
    )
    try:
        (small / "out.csv").write_text("old")
        (small / "out.parquet").write_text("old")
        pyarrow.csv.write_csv(iris_table(100_000), tmp_path / "in.csv")
        for name in ("out.csv", "out.parquet"):
            assert (
                batch_error(tmp_path / "in.csv", small / name)
                == f"{small / name}: No space left on device"
            )
            assert (small / name).read_text() == "old"
        assert list_names(small) == ["out.csv", "out.parquet"]
    finally:
        subprocess.run([*root, "umount", small], check=True)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_interrupted_run_keeps_output(tmp_path, number, status):
    """A run that a signal ends leaves the old output, and the next run succeeds."""
    target = tmp_path / "out"
    target.mkdir()
    (target / "in.csv").write_text("old")
    big = tmp_path / "in.csv"
    with big.open("w") as file:
        file.write(f"{HEADER}\n" + f"{GOOD_LINE}\n" * 3_000_000)
    # A shell starts a background job with SIGINT ignored, and children inherit that.
    command = ["env", "--default-signal=INT", *BATCH, big, target / "in.csv"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: (target / ".in.csv.batch/in.csv").stat().st_size > 1_000_000)
    process.send_signal(number)
    assert process.wait(30) == status
    message = b"stopped: nothing was written\n" * int(number != signal.SIGKILL)
    assert process.communicate() == (b"", message)
    assert (target / "in.csv").read_text() == "old"
    assert list_names(target) == (
        ["in.csv"] if number != signal.SIGKILL else [".in.csv.batch", "in.csv"]
    )
    # A run with another output removes what is left as well.
    (tmp_path / "small.csv").write_text(f"{HEADER}\n{GOOD_LINE}\n")
    run_batch(tmp_path / "small.csv", target / "small.csv")
    assert list_names(target) == ["in.csv", "small.csv"]
    (target / "small.csv").unlink()
    big.write_text(f"{HEADER}\n{GOOD_LINE}\n")
    run_batch(big, target / "in.csv")
    assert (target / "in.csv").read_text() == f"{HEADER},prediction,label\n{GOOD_LINE},0,setosa\n"
    assert list_names(target) == ["in.csv"]


def test_concurrent_run_is_rejected(tmp_path):
    """A second run with the same output is rejected while the first one writes."""
    staging_dir = tmp_path / ".out.csv.batch"
    staging_dir.mkdir()
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD_LINE}\n")
    holder = subprocess.Popen(
        ["flock", "--shared", staging_dir, "sh", "-c", "echo held; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"
    assert (
        batch_error(tmp_path / "in.csv", tmp_path / "out.csv")
        == f"{tmp_path}: another run is writing there"
    )
    holder.communicate(b"\n")
    run_batch(tmp_path / "in.csv", tmp_path / "out.csv")


def test_closed_pipe_is_quiet(tmp_path):
    """A reader of the report that has gone is no error."""
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD_LINE}\n")
    command = [*map(str, BATCH), str(tmp_path / "in.csv"), str(tmp_path / "out.csv")]
    script = 'set -o pipefail; "$@" | true'
    result = subprocess.run(["bash", "-c", script, "bash", *command], capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"")
    assert list_names(tmp_path) == ["in.csv", "out.csv"]


def test_report_names_the_outputs(tmp_path):
    """The report says where the output and the bad rows are."""
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD_LINE}\nx,1,1,1\n")
    printed = run_batch(tmp_path / "in.csv", tmp_path / "out.csv", "--on-error", "skip")
    output = tmp_path / "out.csv"
    assert f"  output    {output}\n  bad rows  1\n            {output}.errors.ndjson\n" in printed


def test_missing_package_is_one_line():
    """Without its packages batch.py names the command that installs them."""
    program = "import sys; sys.modules['pyarrow'] = None; import batch"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("batch.py needs pyarrow: run `make install-batch`")

"""Progress and memory of the batch."""

import contextlib
import os
import pty
import re
import subprocess
import sys
import termios

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from batches import BATCH, iris_table


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_memory_stays_constant(tmp_path, suffix):
    """The peak of memory does not grow with the file."""
    peaks = []
    for rows in (1_500_000, 6_000_000):
        path = tmp_path / f"{rows}.{suffix}"
        data = iris_table(500_000)
        new_writer = pq.ParquetWriter if suffix == "parquet" else pyarrow.csv.CSVWriter
        writer = new_writer(path, data.schema)
        for _ in range(rows // len(data)):
            writer.write_table(data)
        writer.close()

        # A process between: the peak of a new process includes the memory of its parent.
        program = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=-3, check=True)"
        )
        program += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        command = [sys.executable, "-c", program, *BATCH, path, tmp_path / f"out.{suffix}"]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True).stdout))
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_terminal_shows_progress_bar(tmp_path, suffix):
    """On a terminal a bar moves with the bytes that are read of a file, of all bytes."""
    source = tmp_path / f"in{suffix}"
    if suffix == ".parquet":
        pq.write_table(iris_table(500_000), source)
    else:
        compression = "gzip" if suffix.endswith(".gz") else None
        with pa.output_stream(source, compression=compression) as file:
            pyarrow.csv.write_csv(iris_table(500_000), file)
    terminal, process_end = pty.openpty()
    termios.tcsetwinsize(process_end, (24, 100))
    process = subprocess.Popen(
        [*BATCH, source, tmp_path / "out.csv"], stderr=process_end, stdout=subprocess.PIPE
    )
    os.close(process_end)
    screen = b""
    with contextlib.suppress(OSError):  # the read fails once no process writes to the terminal
        while more := os.read(terminal, 1 << 16):
            screen += more
    os.close(terminal)
    process.communicate()
    assert process.returncode == 0

    size = f"{source.stat().st_size / 1e6:.3g}".encode()
    pattern = rb"([0-9]+)%\|.*?/" + re.escape(size) + rb"M \["
    shown = [int(percent) for percent in re.findall(pattern, screen)]
    assert shown == sorted(shown) and shown[0] == 0 and shown[-1] == 100
    assert any(0 < percent < 100 for percent in shown)

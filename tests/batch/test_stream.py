"""Streams: batch.py between two pipes."""

import fcntl
import signal
import subprocess
import sys
import termios

import msgspec
import pytest

from batches import (
    BATCH,
    GOOD_LINE,
    HEADER,
    batch_error,
    json_line,
)
from helpers import NAMES, wait_until


class Stream:
    """The program between two pipes."""

    def __init__(self, *words):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([*BATCH, "-", "-", *words], **pipes)

    def write(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def read_line(self):
        return self.process.stdout.readline().decode()

    def unread_bytes(self):
        """Return how many bytes on stdin the program has not read."""
        count = fcntl.ioctl(self.process.stdin, termios.FIONREAD, bytes(4))
        return int.from_bytes(count, sys.byteorder)

    def end(self):
        out, err = self.process.communicate(timeout=30)
        return out.decode(), err.decode(), self.process.returncode


def test_ndjson_stream_keeps_members():
    """Each line of JSON is scored at once and keeps all its members."""
    stream = Stream()
    for i in range(3):
        line = json_line(key=f"k{i}")
        stream.write(line + "\n")
        assert stream.read_line() == f'{line[:-1]},"prediction":0,"label":"setosa"}}\n'
    stream.write(json_line()[:20])  # half a line is not scored yet
    stream.write(json_line()[20:])
    out, err, status = stream.end()  # the last line needs no line end
    assert (out, status) == (f'{json_line()[:-1]},"prediction":0,"label":"setosa"}}\n', 0)
    assert err.startswith("4 rows in ")


def test_csv_stream_scores_each_line():
    """Each line of a CSV stream is scored at once."""
    stream = Stream("--format", "csv")
    stream.write(f"key,{HEADER}\n")
    assert stream.read_line() == f"key,{HEADER},prediction,label\n"
    stream.write(f"a,{GOOD_LINE}\n")
    assert stream.read_line() == f"a,{GOOD_LINE},0,setosa\n"
    stream.write(f"b,{GOOD_LINE}")
    assert stream.end()[0] == f"b,{GOOD_LINE},0,setosa\n"


def test_csv_stream_shows_its_delimiter():
    """The delimiter of a stream is that of its header; without a header the first line is a row."""
    head, row = (text.replace(",", ";") for text in (HEADER, GOOD_LINE))
    stream = Stream("--format", "csv")
    stream.write(f"{head}\n{row}\n")
    assert stream.end()[0] == f"{head};prediction;label\n{row};0;setosa\n"
    stream = Stream("--format", "csv", "--no-header")
    stream.write(f"{GOOD_LINE}\n")
    assert stream.read_line() == f"{GOOD_LINE},0,setosa\n"
    stream.write(f"{GOOD_LINE}\nx,1,1,1\n")
    out, err, status = stream.end()
    assert (out, status) == (f"{GOOD_LINE},0,setosa\n", 1)
    assert err.startswith("stdin: row 3 (line 3): 'sepal length (cm)': expected a number")


def test_csv_in_place_of_json_is_explained():
    """CSV into a stream of JSON lines is an error that names the option."""
    error = batch_error("-", "-", input=f"{HEADER}\n{GOOD_LINE}\n")
    reason = "JSON is malformed: invalid character (byte 0)"
    assert error == f"stdin: row 1 (line 1): {reason}; for CSV use --format csv"


def test_stream_takes_bodies_of_requests():
    """A line may be the body of /predict with one row, by name or in order, with its outputs."""
    values = f"[{GOOD_LINE}]"
    lines = [
        f'{{"features":{values}}}',
        f'{{ "features": [{values}], "outputs": ["label"] }}',
        f'{{"outputs":["probability"],"features":{json_line()}}}',
    ]
    stream = Stream()
    stream.write("\n".join([*lines, f'{{"features":[{values},{values}]}}']))
    out, err, status = stream.end()
    assert out == "".join(f'{line[:-1]},"prediction":0,"label":"setosa"}}\n' for line in lines)
    assert (err, status) == (
        "stdin: row 4 (line 4): Expected one row, got 2 - at `$.features`\n",
        1,
    )


BAD_LINES = [
    ("nope", "JSON is malformed: invalid character (byte 4)"),
    ("[5.1, 3.5, 1.4, 0.2]", "Expected `object`, got `array`"),
    (json_line(**{NAMES[1]: None}), "Expected `float`, got `null` - at `$.sepal width (cm)`"),
    (json_line(**{NAMES[1]: True}), "Expected `float`, got `bool` - at `$.sepal width (cm)`"),
    (json_line().replace("3.5", "NaN"), "JSON is malformed"),
    (
        json_line().replace("3.5", "1e39"),
        "Expected `float` <= 3.4028234663852886e+38 - at `$.sepal width (cm)`",
    ),
    (f'{json_line()[:-1]},"x":{"[" * 9000}{"]" * 9000}}}', "JSON is nested too deeply"),
    (json_line(label="x"), "Object contains field `label` already"),
    (f'{json_line()[:-1]},"{NAMES[0]}":5.1}}', "Object contains field `sepal length (cm)` twice"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_bad_line_ends_stream(line, message):
    """A bad line ends the stream after the lines before it are written."""
    stream = Stream()
    stream.write(f"{json_line(key=1)}\n\n{line}\n{json_line(key=2)}\n")
    out, err, status = stream.end()
    assert [msgspec.json.decode(record)["key"] for record in out.splitlines()] == [
        1
    ] and status == 1
    [report] = err.splitlines()
    assert report.startswith(f"stdin: row 2 (line 3): {message}")


def test_bad_lines_null_or_skipped():
    """Bad lines get null or are skipped, and each is reported on stderr."""
    text = "".join(f"{json_line(key=i)}\n{line}\n" for i, (line, _) in enumerate(BAD_LINES))
    for on_error in ("null", "skip"):
        stream = Stream("--on-error", on_error)
        stream.write(text)
        out, err, status = stream.end()
        answers = [msgspec.json.decode(line) for line in out.splitlines()]
        good = answers if on_error == "skip" else answers[::2]
        assert [(record["key"], record["prediction"]) for record in good] == [
            (i, 0) for i in range(len(BAD_LINES))
        ]
        if on_error == "null":
            assert [(record["prediction"], record["label"]) for record in answers[1::2]] == [
                (None, None)
            ] * len(BAD_LINES)
            assert answers[5][NAMES[0]] == 5.1  # an object keeps its members
        reports = [line for line in err.splitlines() if line.startswith("stdin: ")]
        for i, (line, (_, message)) in enumerate(zip(reports, BAD_LINES, strict=True)):
            assert line.startswith(f"stdin: row {2 * i + 2} (line {2 * i + 2}): {message}")
        assert f"bad rows  {len(BAD_LINES)}" in err and status == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_stream(number):
    """A signal ends the stream between two lines, with status 0."""
    stream = Stream()
    stream.write(json_line() + "\n")
    stream.read_line()
    stream.write(json_line()[:10])
    wait_until(lambda: stream.unread_bytes() == 0)
    stream.process.send_signal(number)
    stream.process.wait(30)
    out, err, status = stream.end()
    assert (out, status) == ("", 0), err
    assert err.startswith("1 rows in ")


def test_closed_stdout_ends_stream():
    """A reader that closes stdout ends the program without a message."""
    stream = Stream()
    stream.process.stdout.close()
    stream.write(json_line() + "\n")
    assert stream.process.wait(30) == -signal.SIGPIPE
    assert stream.process.stderr.read() == b""
    stream.process.stdin.close()
    stream.process.stderr.close()

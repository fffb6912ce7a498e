"""Streams: lines from stdin are scored as they come and written to stdout."""

import os
import select
import signal
import sys
from collections.abc import Iterator

from serving.batch.csv_blocks import CsvScorer
from serving.batch.csv_format import detect_format
from serving.batch.csv_lines import find_first_line_end, find_last_line_end
from serving.batch.ndjson import NdjsonScorer
from serving.batch.scoring import Scorer
from serving.batch.stats import BatchError, BatchStats

STDIN = 0
READ_BYTES = 1 << 20


def score_stream(scorer: Scorer, input_format: str) -> BatchStats:
    """Score the lines of stdin and return their counts. Raises BatchError."""
    # As with any filter, a reader that closes the pipe ends the program.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if input_format == "ndjson":
        return score_ndjson_stream(scorer)
    return score_csv_stream(scorer)


def score_ndjson_stream(scorer: Scorer) -> BatchStats:
    """Score lines of JSON objects. Raises BatchError."""
    total = BatchStats()
    line_scorer = NdjsonScorer(scorer)
    buffer = b"\n"  # a block starts with the line end before its first line
    for data in read_stdin():
        buffer += data
        end = buffer.rfind(b"\n") if data else len(buffer)
        write_scored_block(line_scorer, buffer[:end], total)
        buffer = buffer[end:]
    return total


def score_csv_stream(scorer: Scorer) -> BatchStats:
    """Score lines of CSV, after a header if there is one. Raises BatchError."""
    total = BatchStats()
    line_scorer: CsvScorer | None = None
    buffer = b""
    for data in read_stdin():
        buffer += data
        if line_scorer is None:
            end = find_first_line_end(buffer)
            if end < 0 and data:
                continue
            first_line = buffer if end < 0 else buffer[:end]
            line_scorer = open_csv_stream(scorer, first_line)
            if scorer.reading.has_header:
                buffer = buffer[len(first_line) :]
                total.lines = 1 + first_line.count(b"\n")
                write_stdout(line_scorer.header + b"\n")
            else:
                buffer = b"\n" + buffer

        end = find_last_line_end(buffer) if data else len(buffer)
        write_scored_block(line_scorer, buffer[:end], total)
        buffer = buffer[end:]
    return total


def open_csv_stream(scorer: Scorer, first_line: bytes) -> CsvScorer:
    """Return the scorer of a stream with this first line. Raises BatchError."""
    csv_format = detect_format(first_line, "utf-8", False, scorer.model.features, scorer.reading)
    line_scorer = CsvScorer(scorer, csv_format, first_line, False, {})
    if line_scorer.notes:
        print(f"stdin: {', '.join(line_scorer.notes)}", file=sys.stderr)
    return line_scorer


def write_scored_block(
    line_scorer: CsvScorer | NdjsonScorer, block: bytes, total: BatchStats
) -> None:
    """Write the scored lines of a block and add its counts to `total`.

    If bad rows end the job, the lines before the first one are written. Raises BatchError.
    """
    payload, stats = line_scorer(block)
    fails = line_scorer.scorer.on_error == "fail"
    if fails and stats.first_bad_row:
        lines_before = block.split(b"\n")[: stats.first_bad_row.line]
        payload, _ = line_scorer(b"\n".join(lines_before))

    if len(payload):
        write_stdout(bytes(payload)[1:] + b"\n")
    for bad_row in stats.bad_rows:
        message = f"stdin: {total.to_global_row(bad_row)}"
        if not total.rows and bad_row.row == 0 and looks_like_csv(line_scorer, block):
            message += "; for CSV use --format csv"
        if fails:
            raise BatchError(message)
        print(message, file=sys.stderr)
    total.add(stats)


def looks_like_csv(line_scorer: CsvScorer | NdjsonScorer, block: bytes) -> bool:
    """Return whether the first line of a stream of JSON lines cannot be one."""
    return isinstance(line_scorer, NdjsonScorer) and not block.strip().startswith((b"{", b"["))


def write_stdout(text: bytes) -> None:
    """Write to stdout without delay."""
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def read_stdin() -> Iterator[bytes]:
    """Yield the data of stdin as they come, and b"" at its end.

    SIGTERM or SIGINT ends the iteration between two reads.
    """
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    data = b" "
    while data:
        readable, _, _ = select.select([STDIN, wakeup_read], [], [])
        if wakeup_read in readable:
            return
        data = os.read(STDIN, READ_BYTES)
        yield data

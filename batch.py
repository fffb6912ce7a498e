"""Score files, or a stream, with the model that the service serves.

`batch.py INPUT OUTPUT` takes CSV and Parquet, a file, a directory or a pattern, here or wherever fsspec reaches;
`batch.py - -` takes lines from stdin and answers each on stdout as it comes.
"""

import argparse
import importlib
import json
import logging
import os
import select
import signal
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pyarrow as pa
from fsspec.core import url_to_fs
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from serving.api.json_body import Number
from serving.batch.csv_blocks import CsvScorer, find_first_line_end, find_last_line_end
from serving.batch.files import SUFFIXES, FilePart, list_inputs, score_part, staged_output
from serving.batch.scoring import BatchError, BatchStats, Scorer, finalize_stats
from serving.model.errors import ModelError
from serving.model.storage import load_model
from serving.monitoring.drift import assess_drift

PROGRESS_INTERVAL_SECONDS = 30  # seconds between two lines of progress where stderr is no terminal
INPUT_ERRORS = (BatchError, OSError, EOFError, zlib.error, pa.ArrowException)  # what a file can be


def main() -> None:
    """Score, and report, or end with status 1 and one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", metavar="INPUT", help="- for stdin")
    parser.add_argument(
        "output",
        metavar="OUTPUT",
        help="- for stdout; a directory where INPUT is one, or a pattern",
    )
    parser.add_argument(
        "--keep", nargs="*", metavar="COLUMN", help="the columns to carry through; default: all"
    )
    parser.add_argument("--proba", action="store_true", help="add the probability of each class")
    parser.add_argument(
        "--on-error", choices=("fail", "null", "skip"), default="fail", help="default: %(default)s"
    )
    parser.add_argument("--format", choices=("ndjson", "csv"), help="of stdin; default: ndjson")
    parser.add_argument(
        "--scheduler", metavar="tcp://HOST:PORT", help="of a Dask cluster; default: all cores here"
    )
    parser.add_argument(
        "--part-bytes",
        type=int,
        default=64 << 20,
        metavar="N",
        help="of a cluster; default: %(default)s",
    )
    default = Path(os.environ.get("MODEL_PATH") or Path(__file__).with_name("model.pkl"))
    parser.add_argument(
        "--model",
        type=Path,
        default=default,
        metavar="PATH",
        help="default: MODEL_PATH or model.pkl",
    )
    options = parser.parse_args()
    if (options.input == "-") != (options.output == "-"):
        parser.error("- is for both INPUT and OUTPUT, or for neither")
    if options.format if options.input != "-" else options.scheduler or options.keep is not None:
        parser.error("--format is for -, --keep and --scheduler are not")
    if options.part_bytes < 1:
        parser.error("--part-bytes: expected a number above 0")
    # The model logs rejected values as requests; here they are reported as rows.
    logging.getLogger("serving.model").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        model = load_model(options.model, os.environ.get("MODEL_SHA256", ""))
        began = time.monotonic()
        scorer = Scorer(model, options.on_error, options.proba, options.keep)
        with threadpool_limits(1):  # the blocks are what is parallel
            total = (
                score_stream(scorer, options.format or "ndjson")
                if options.input == "-"
                else score_files(scorer, options)
            )
    except (BatchError, ModelError, OSError) as error:
        sys.exit(" ".join(str(error).split()))
    except KeyboardInterrupt:
        sys.exit(130)
    print_report(
        scorer, total, time.monotonic() - began, sys.stderr if options.input == "-" else sys.stdout
    )


def score_files(scorer: Scorer, options: argparse.Namespace) -> BatchStats:
    """Score files to files, and return what was seen. Raises Refused, ModelError and OSError."""
    input_paths, many = list_inputs(options.input)
    target, output = url_to_fs(options.output)
    to_directory = many or bool(options.scheduler) or target.isdir(output)
    directory, single = (output, "") if to_directory else os.path.split(output)
    names = {path: path.rpartition("/")[2] if to_directory else single for path in input_paths}
    if not to_directory and not single.endswith(SUFFIXES):
        raise BatchError(f"{options.output}: expected a name that ends in {', '.join(SUFFIXES)}")
    for path, name in names.items():
        if list(names.values()).count(name) > 1:
            raise BatchError(
                f"{options.input}: {name} is there more than once, and would be in {options.output}"
            )
        if url_to_fs(path)[1] == f"{directory}/{name}":
            raise BatchError(f"{path}: OUTPUT is INPUT")
    progress = Progress(sum(url_to_fs(path)[0].size(path) for path in input_paths))
    stale = [f"{name}.errors.ndjson" for name in names.values()]
    if options.scheduler:
        stale += [
            import_dask_cluster().part_filename(name, "?????", "?????") for name in names.values()
        ]
    with staged_output(target, directory, single, stale) as (place, done), closing(progress.bar):
        if options.scheduler:
            jobs = import_dask_cluster().score_on_cluster(
                options.scheduler, options.model, names, place, options.part_bytes, scorer
            )
        else:
            threads = joblib.cpu_count()  # by affinity and the container's quota
            jobs = (
                (path, [name], score_part(FilePart(path), scorer, f"{place}/{name}", threads))
                for path, name in names.items()
            )
        total = BatchStats()
        for path, outputs, results in jobs:
            with closing(results):
                seen = collect_results(path, results, progress, scorer.on_error == "fail")
            total.add(seen)
            done += [*outputs, *[f"{names[path]}.errors.ndjson"] * bool(seen.n_bad)]
    return total


def import_dask_cluster() -> Any:
    """Return the room for it: whoever has none need not wait for its import."""
    return importlib.import_module("serving.batch.dask_cluster")


def collect_results(
    path: str, results: Iterator[tuple[int, BatchStats]], progress: "Progress", fail: bool
) -> BatchStats:
    """Return what was seen in a file, once all of it was. Raises Refused with its name."""
    seen = BatchStats()
    try:
        for size, tally in results:
            seen.add(tally)
            progress.add(size, tally.rows)
            if seen.first_bad_row and fail:
                raise BatchError(format_bad_row(seen.first_bad_row))
    except INPUT_ERRORS as error:
        raise BatchError(
            f"{path}: {getattr(error, 'strerror', None) or error or type(error).__name__}"
        ) from error
    return seen


def format_bad_row(bad: tuple[int, int | None, str]) -> str:
    """Return a bad row as text, with its place counted from 1."""
    row, line, reason = bad
    return f"row {row + 1}{'' if line is None else f' (line {line})'}: {reason}"


class Progress:
    """A bar with rows a second and the time left on a terminal, and a line of that now and then elsewhere."""

    def __init__(self, size: int) -> None:
        self.bar = tqdm(unit=" rows", unit_scale=True, disable=None)
        self.size, self.done, self.rows = size, 0, 0
        self.began = self.last_reported = time.monotonic()

    def add(self, size: int, rows: int) -> None:
        """Count a block of so many bytes and rows."""
        self.done, self.rows, now = self.done + size, self.rows + rows, time.monotonic()
        self.bar.total = int(
            self.rows * max(self.size / max(self.done, 1), 1)
        )  # only Parquet says how many rows it has
        self.bar.update(rows)
        if self.bar.disable and now - self.last_reported > PROGRESS_INTERVAL_SECONDS:
            self.last_reported = now
            text = tqdm.format_meter(
                self.rows, self.bar.total, now - self.began, unit=" rows", unit_scale=True
            )
            print(text, file=sys.stderr, flush=True)


class NdjsonScorer:
    """Scores lines of JSON, an object each, which has the features among its members."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, fields = (
            scorer,
            {f"f{i}": name for i, name in enumerate(scorer.model.features)},
        )
        row: Any = msgspec.defstruct("Row", [(field, Number) for field in fields], rename=fields)
        self.decoder = msgspec.json.Decoder(row)
        self.output_columns = [
            "prediction",
            *["label"] * bool(scorer.model.labels),
            *["probability"] * scorer.proba,
        ]
        self.names = [
            msgspec.json.encode(name) for name in (*scorer.model.features, *self.output_columns)
        ]

    def __call__(self, block: bytes) -> tuple[bytes, BatchStats]:
        """Return each line of a block with its answer, after an end of line as in the block; and the tally."""
        numbers = [i for i, line in enumerate(block.split(b"\n")) if line.strip()]
        lines = [line.strip() for line in block.split(b"\n") if line.strip()]
        rows, bad = np.full((len(lines), self.scorer.model.n_features), np.nan), dict[int, str]()
        for i, line in enumerate(lines):
            try:
                row = self.decoder.decode(line)
                if any(line.count(name) > (j < rows.shape[1]) for j, name in enumerate(self.names)):
                    self._check_unique_keys(line)
                rows[i] = msgspec.structs.astuple(row)
            except (msgspec.MsgspecError, UnicodeDecodeError, BatchError) as error:
                bad[i] = str(error)
        answers, placed, tally = self.scorer.answer(rows, bad)
        tally.lines = block.count(b"\n")
        tally.bad_rows = [(row, numbers[row], reason) for row, _, reason in tally.bad_rows]
        bad = {row: reason for row, _, reason in tally.bad_rows}
        columns = [answers[name].to_pylist() for name in self.output_columns[:2] if name in answers]
        if self.scorer.proba:
            columns.append(
                list(
                    zip(
                        *(answers[name].to_pylist() for name in self.scorer.output_columns[2:]),
                        strict=True,
                    )
                )
            )
        found, answer = [], zip(*columns, strict=True)
        for i in np.flatnonzero(placed).tolist():
            members = dict(zip(self.output_columns, next(answer), strict=True))
            found.append(
                self._null_record(lines[i])
                if i in bad
                else lines[i][:-1] + b"," + msgspec.json.encode(members)[1:]
            )
        return b"".join(b"\n" + line for line in found), finalize_stats(tally)

    def _null_record(self, line: bytes) -> bytes:
        nothing = dict.fromkeys(self.output_columns)
        try:
            return msgspec.json.encode(
                msgspec.json.decode(line, type=dict[str, msgspec.Raw]) | nothing
            )
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return msgspec.json.encode(nothing)

    def _check_unique_keys(self, line: bytes) -> None:
        names = [name for name, _ in json.loads(line, object_pairs_hook=list)]
        for name in names:
            if names.count(name) > 1 or name in self.output_columns:
                raise BatchError(
                    f"Object contains field `{name}` {'already' if name in self.output_columns else 'twice'}"
                )


def score_stream(scorer: Scorer, form: str) -> BatchStats:
    """Answer lines from stdin on stdout, as they come, and return what was seen. Raises Refused."""
    signal.signal(
        signal.SIGPIPE, signal.SIG_DFL
    )  # as in any filter: whoever does not read on ends it
    total = BatchStats()
    line_scorer: CsvScorer | NdjsonScorer | None = (
        NdjsonScorer(scorer) if form == "ndjson" else None
    )
    buffer = b"" if line_scorer is None else b"\n"
    for data in read_stdin():
        buffer += data
        end = find_first_line_end(buffer)
        if line_scorer is None and (end >= 0 or not data):
            first = buffer if end < 0 else buffer[:end]
            buffer, total.lines = buffer[len(first) :], 1 + first.count(b"\n")
            line_scorer = CsvScorer(scorer, first, as_table=False)
            write_stdout(line_scorer.header + b"\n")
        if line_scorer is not None:
            end = (
                len(buffer)
                if not data
                else buffer.rfind(b"\n")
                if form == "ndjson"
                else find_last_line_end(buffer)
            )
            write_scored_block(line_scorer, buffer[:end], total)
            buffer = buffer[end:]
    return total


def write_scored_block(work: CsvScorer | NdjsonScorer, block: bytes, total: BatchStats) -> None:
    """Answer the lines of a block, up to the first bad one where such fail, and count them in `total`."""
    payload, tally = work(block)
    fail = work.scorer.on_error == "fail"
    if tally.first_bad_row and fail:
        payload, _ = work(b"\n".join(block.split(b"\n")[: tally.first_bad_row[1]]))
    if len(payload):
        write_stdout(bytes(payload)[1:] + b"\n")
    for bad in map(total.to_global_row, tally.bad_rows):
        if fail:
            raise BatchError(f"stdin: {format_bad_row(bad)}")
        print(f"stdin: {format_bad_row(bad)}", file=sys.stderr)
    total.add(tally)


def write_stdout(text: bytes) -> None:
    """Write to stdout, now."""
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def read_stdin() -> Iterator[bytes]:
    """Yield what comes in from stdin, and nothing, once, where it ends; or stop, between two reads, where told to."""
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    data = b" "
    while data and wakeup_read not in select.select([0, wakeup_read], [], [])[0]:
        data = os.read(0, 1 << 20)
        yield data


def print_report(scorer: Scorer, total: BatchStats, seconds: float, file: Any) -> None:
    """Print what was scored and how fast, which classes there were, and how it differs from the training data."""
    rate = total.rows / max(seconds, 1e-9)
    print(
        f"{total.rows} rows in {seconds:.1f} s, {rate:.0f} a second, by version {scorer.model.version}",
        file=file,
    )
    print(f"  bad rows  {total.n_bad}", file=file)
    if total.rows == total.n_bad:
        return
    card: Any = scorer.model.card
    columns = {f.name: np.array([0, *f.shares, 0]) * card.rows for f in card.features}
    live = dict(zip(columns, np.split(total.bin_counts, scorer.bins.offsets[1:-1]), strict=True))
    if card.classes:
        columns["classes"] = np.array([c.share for c in card.classes]) * card.rows
        live["classes"] = total.classes
        shares = zip(card.classes, total.classes / total.classes.sum(), strict=True)
        print(
            f"  classes   {', '.join(f'{one.label} {share:.3f}' for one, share in shares)}",
            file=file,
        )
    found = {
        name: assess_drift(live[name], reference, len(columns))
        for name, reference in columns.items()
    }
    drifting = [
        f"{name} {one['psi']:.2f}" for name, one in found.items() if one["verdict"] == "drifting"
    ]
    print(f"  drift     {', '.join(drifting) or next(iter(found.values()))['verdict']}", file=file)


if __name__ == "__main__":
    main()

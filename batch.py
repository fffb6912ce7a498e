"""Score files, or a stream, with the model that the service serves.

`batch.py INPUT OUTPUT` scores CSV and Parquet: a file, a directory or a pattern, local or at any
URL that fsspec supports. `batch.py - -` scores lines from stdin and writes each to stdout at once.
With the addresses of two streams of Redis or Kafka it answers messages until it is stopped.
"""

import argparse
import logging
import os
import signal
import sys
import time
from pathlib import Path

try:
    from threadpoolctl import threadpool_limits

    from serving.batch.csv_format import ReadOptions
    from serving.batch.files import score_files
    from serving.batch.parts import Cluster
    from serving.batch.report import print_report
    from serving.batch.scoring import Scorer
    from serving.batch.stats import BatchError
    from serving.streams.urls import is_stream_url
except ModuleNotFoundError as error:
    sys.exit(f"batch.py needs {error.name}: run `make install-batch`, then .venv-batch/bin/python")

from serving.config import ConfigurationError, Settings
from serving.model.errors import ModelError, one_line
from serving.model.loading import load_model

DEFAULT_PART_BYTES = 64 << 20
STATUS_SIGTERM = 143
STATUS_SIGINT = 130


def main() -> None:
    """Score and print a report, or end with status 1 and one line."""
    try:
        settings = Settings.from_env(os.environ)
    except ConfigurationError as error:
        sys.exit(str(error))
    options = parse_options(settings)

    # The model logs rejected values as requests; here they are reported as rows.
    logging.getLogger("serving.model").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, raise_terminated)
    try:
        run(options, settings)
    except (BatchError, ModelError, OSError) as error:
        sys.exit(one_line(error))
    except KeyboardInterrupt as interrupt:
        print("stopped: nothing was written", file=sys.stderr)
        sys.exit(STATUS_SIGTERM if interrupt.args else STATUS_SIGINT)


def raise_terminated(number: int, _: object) -> None:
    """End the program as Ctrl-C does."""
    raise KeyboardInterrupt(number)


def run(options: argparse.Namespace, settings: Settings) -> None:
    """Score and print a report. Raises BatchError, ModelError and OSError."""
    model = load_model(
        options.model, settings.model_sha256, use_plan=settings.prediction_plan == "on"
    )
    if names_broker(options):
        from serving.streams.command import run_stream

        run_stream(options, settings, model)
        return
    started_at = time.monotonic()
    scorer = Scorer(model, options.on_error, options.proba, options.keep, reading_options(options))
    with threadpool_limits(1):  # blocks are scored in parallel, not parts of one product
        if options.output == "-":
            from serving.batch.stream import score_stream

            total = score_stream(scorer, options.format or "ndjson")
            print_report(scorer, total, time.monotonic() - started_at, sys.stderr)
            return
        total, errors_files = score_files(
            scorer, options.inputs, options.output, parse_cluster(options)
        )

    seconds = time.monotonic() - started_at
    try:
        print_report(scorer, total, seconds, sys.stdout, options.output, errors_files)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads the report; what is left of it would be an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse_options(settings: Settings) -> argparse.Namespace:
    """Return the options of the command line, or end with status 2 and usage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="files, directories or patterns, or - for stdin, or redis://HOST/0?stream=NAME, "
        "or kafka://HOST/TOPIC",
    )
    parser.add_argument(
        "output",
        nargs="?",
        metavar="OUTPUT",
        help="- for stdout; a directory if INPUT is a directory, a pattern or several files; "
        "another stream if INPUT is one",
    )
    parser.add_argument(
        "--keep",
        nargs="*",
        metavar="COLUMN",
        help="input columns to keep in the output; default: all",
    )
    parser.add_argument("--proba", action="store_true", help="add the probability of each class")
    parser.add_argument(
        "--on-error",
        choices=("fail", "null", "skip"),
        default="fail",
        help="for a bad row: end the job, leave its prediction empty, or drop it; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--format", choices=("ndjson", "csv"), help="format of stdin; default: ndjson"
    )
    add_reading_options(parser)
    parser.add_argument(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        help="score on a Dask cluster; default: on all cores of this machine",
    )
    parser.add_argument(
        "--part-bytes",
        type=int,
        default=DEFAULT_PART_BYTES,
        metavar="N",
        help="size of a part on a cluster; default: %(default)s",
    )
    parser.add_argument(
        "--model",
        type=Path,
        default=settings.model_path,
        metavar="PATH",
        help="default: MODEL_PATH or model.pkl",
    )
    options = parser.parse_args()
    take_paths(parser, options)
    check_options(parser, options)
    return options


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how an input is read."""
    group = parser.add_argument_group("reading")
    group.add_argument(
        "--rename",
        action="append",
        default=[],
        type=parse_rename,
        metavar="OLD=NEW",
        help="take the column OLD for the feature NEW; may be repeated",
    )
    group.add_argument(
        "--delimiter", type=parse_delimiter, metavar="CHAR", help="of CSV; default: by the header"
    )
    group.add_argument("--decimal", choices=(".", ","), help="of CSV; default: by the first lines")
    group.add_argument(
        "--encoding", type=parse_encoding, metavar="NAME", help="of CSV; default: UTF-8 or UTF-16"
    )
    group.add_argument(
        "--no-header",
        action="store_true",
        help="the first line of CSV has values, in the order of the model's features",
    )


def parse_rename(text: str) -> tuple[str, str]:
    """Return the two names in OLD=NEW."""
    old, equals, new = text.rpartition("=")
    if not (old and equals and new):
        raise argparse.ArgumentTypeError(f"expected OLD=NEW, got {text!r}")
    return old, new


def parse_delimiter(text: str) -> str:
    """Return a delimiter; a tab may be written as a backslash and a t."""
    delimiter = text.replace("\\t", "\t")
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        raise argparse.ArgumentTypeError(f"expected one ASCII character, got {text!r}")
    return delimiter


def parse_encoding(text: str) -> str:
    """Return the name of an encoding of text."""
    try:
        "".encode(text)
    except LookupError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def take_paths(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Move paths to where they belong: --keep takes all words after it, INPUT all but the last."""
    paths = [*options.inputs, *filter(None, [options.output])]
    keep = options.keep or []
    n_missing = max(2 - len(paths), 0)
    if len(keep) < n_missing:
        parser.error("expected INPUT and OUTPUT")
    paths += keep[len(keep) - n_missing :]
    if n_missing:
        options.keep = keep[: len(keep) - n_missing]
    *options.inputs, options.output = paths


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with status 2 if options exclude each other."""
    if names_broker(options):
        from serving.streams.command import check_options as check_stream_options

        check_stream_options(parser, options)
        return
    is_stream = "-" in options.inputs
    if is_stream != (options.output == "-") or (is_stream and len(options.inputs) > 1):
        parser.error("use - for both INPUT and OUTPUT, or for neither")
    if is_stream and (options.scheduler or options.keep is not None or options.encoding):
        parser.error("--keep, --encoding and --scheduler are for files, not for -")
    if not is_stream and options.format:
        parser.error("--format is for -, not for files")
    if options.part_bytes < 1:
        parser.error("--part-bytes: expected a number above 0")


def names_broker(options: argparse.Namespace) -> bool:
    """Return whether an input or the output is a stream of a broker.

    What serves streams is imported for them alone: it imports Flask, for which no file need wait.
    """
    return any(map(is_stream_url, [*options.inputs, options.output]))


def reading_options(options: argparse.Namespace) -> ReadOptions:
    """Return how inputs are read."""
    return ReadOptions(
        delimiter=options.delimiter,
        decimal=options.decimal,
        encoding=options.encoding,
        has_header=not options.no_header,
        renames=dict(options.rename),
    )


def parse_cluster(options: argparse.Namespace) -> Cluster | None:
    """Return the Dask cluster in the options, if there is one."""
    if not options.scheduler:
        return None
    return Cluster(options.scheduler, options.model, options.part_bytes)


if __name__ == "__main__":
    main()

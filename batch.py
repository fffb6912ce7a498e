"""Score files, or a stream, with the model that the service serves.

`batch.py INPUT OUTPUT` scores CSV and Parquet: a file, a directory or a pattern, local or at any
URL that fsspec supports. `batch.py - -` scores lines from stdin and writes each to stdout at once.
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

    from serving.batch.files import Cluster, score_files
    from serving.batch.report import print_report
    from serving.batch.scoring import Scorer
    from serving.batch.stats import BatchError
    from serving.batch.stream import score_stream
except ModuleNotFoundError as error:
    sys.exit(f"batch.py needs {error.name}: run `make install-batch`, then .venv-batch/bin/python")

from serving.config import ConfigurationError, Settings
from serving.model.errors import ModelError, one_line
from serving.model.storage import load_model

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
    is_stream = options.input == "-"

    # The model logs rejected values as requests; here they are reported as rows.
    logging.getLogger("serving.model").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STATUS_SIGTERM))
    try:
        model = load_model(options.model, settings.model_sha256)
        started_at = time.monotonic()
        scorer = Scorer(model, options.on_error, options.proba, options.keep)
        with threadpool_limits(1):  # blocks are scored in parallel, not parts of one product
            if is_stream:
                total = score_stream(scorer, options.format or "ndjson")
            else:
                total = score_files(scorer, options.input, options.output, parse_cluster(options))
    except (BatchError, ModelError, OSError) as error:
        sys.exit(one_line(error))
    except KeyboardInterrupt:
        sys.exit(STATUS_SIGINT)

    report_file = sys.stderr if is_stream else sys.stdout
    print_report(scorer, total, time.monotonic() - started_at, report_file)


def parse_options(settings: Settings) -> argparse.Namespace:
    """Return the options of the command line, or end with status 2 and usage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", metavar="INPUT", help="- for stdin")
    parser.add_argument(
        "output",
        metavar="OUTPUT",
        help="- for stdout; a directory if INPUT is a directory or a pattern",
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
    check_options(parser, options)
    return options


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with status 2 if options exclude each other."""
    is_stream = options.input == "-"
    if is_stream != (options.output == "-"):
        parser.error("use - for both INPUT and OUTPUT, or for neither")
    if is_stream and (options.scheduler or options.keep is not None):
        parser.error("--keep and --scheduler are for files, not for -")
    if not is_stream and options.format:
        parser.error("--format is for -, not for files")
    if options.part_bytes < 1:
        parser.error("--part-bytes: expected a number above 0")


def parse_cluster(options: argparse.Namespace) -> Cluster | None:
    """Return the Dask cluster in the options, if there is one."""
    if not options.scheduler:
        return None
    return Cluster(options.scheduler, options.model, options.part_bytes)


if __name__ == "__main__":
    main()

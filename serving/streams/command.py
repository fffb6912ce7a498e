"""The consumer as a command: `batch.py INPUT OUTPUT` with the addresses of two streams."""

import argparse
import logging.config
import sys

from threadpoolctl import threadpool_limits

from serving.batch.stats import BatchError
from serving.config import Settings
from serving.model.model import Model
from serving.monitoring.request_log import logging_config
from serving.monitoring.telemetry import Telemetry
from serving.streams.consumer import Consumer
from serving.streams.messages import Broker
from serving.streams.metrics import create_app, serve_in_background
from serving.streams.scoring import MessageScorer
from serving.streams.urls import StreamUrl, is_stream_url, parse_stream_url

# Options that say how files are read or written.
FILE_OPTIONS = (
    "keep",
    "format",
    "scheduler",
    "rename",
    "delimiter",
    "decimal",
    "encoding",
    "no_header",
)


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with status 2 if the options do not suit a stream."""
    if len(options.inputs) != 1 or not is_stream_url(options.inputs[0]):
        parser.error("use one address of a stream for INPUT, and another one for OUTPUT")
    if not is_stream_url(options.output):
        parser.error("use one address of a stream for INPUT, and another one for OUTPUT")

    given = [name for name in FILE_OPTIONS if getattr(options, name, None)]
    if options.on_error != "fail":
        given.append("on_error")
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        parser.error(
            f"{names}: not for streams of a broker, which answer bad messages with `error`"
        )


def run_stream(options: argparse.Namespace, settings: Settings, model: Model) -> None:
    """Answer messages until a signal comes. Raises BatchError, ModelError and OSError."""
    is_terminal = sys.stderr.isatty()
    logging.config.dictConfig(logging_config(settings.log_level.upper(), is_terminal))

    source = parse_url("INPUT", options.inputs[0])
    target = parse_url("OUTPUT", options.output)
    scorer = MessageScorer(model, options.proba, settings.max_body_bytes)
    try:
        consumer = Consumer(open_broker(source, target, model), scorer, str(source))
        consumer.stop_on_signals()
        telemetry = Telemetry({}, model, set())
        scorer.count_rows_in(telemetry.predictions)
        if settings.metrics_port is not None:
            serve_in_background(create_app(consumer, telemetry), settings.metrics_port)
        with threadpool_limits(1):  # more consumers are what takes more cores
            consumer.run()
    except BatchError as error:
        raise BatchError(f"{source}: {error}") from error


def parse_url(word: str, text: str) -> StreamUrl:
    """Return what an address names. Raises BatchError with the word for which it stands."""
    try:
        return parse_stream_url(text)
    except BatchError as error:
        raise BatchError(f"{word}: {error}") from error


def open_broker(source: StreamUrl, target: StreamUrl, model: Model) -> Broker:
    """Return the broker of two streams. Raises BatchError."""
    if source.kind != target.kind:
        raise BatchError(f"OUTPUT is a stream of {target.kind}, expected one of {source.kind}")
    # Each client takes long to import, and is needed for its own broker only.
    if source.kind == "redis":
        from serving.streams.redis_streams import RedisStream

        return RedisStream(source, target, model.signature)

    from serving.streams.kafka_topics import KafkaTopic

    return KafkaTopic(source, target)

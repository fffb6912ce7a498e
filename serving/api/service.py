"""The running service: everything that a request needs, in one object."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from flask import Flask, current_app

from serving.api.rows import RowDecoder
from serving.config import Settings
from serving.model.model import Model
from serving.monitoring.prometheus import MetricsRegistry
from serving.monitoring.telemetry import Telemetry

Decoder = TypeVar("Decoder")
# How long a self-test that passed counts: less than the period of any probe.
SELF_TEST_SECONDS = 1.0

ErrorBody = Callable[[int, str], dict[str, str]]  # from status and message


class SelfTest:
    """The self-test of a model that is in service; one that passed counts for a second.

    Load balancers ask each of several probe paths, and a large model takes milliseconds to answer.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._passed_until = 0.0

    def run(self) -> None:
        """Raise ModelError unless the model passes, or has passed within the last second."""
        now = time.monotonic()
        if now < self._passed_until:
            return
        self._model.self_test()
        self._passed_until = now + SELF_TEST_SECONDS


@dataclass(frozen=True)
class Service:
    """What a running service consists of."""

    settings: Settings
    model: Model
    self_test: SelfTest
    row_decoder: RowDecoder
    probe_paths: frozenset[str]  # not logged while they succeed
    open_paths: frozenset[str]  # a GET needs no API key: probes and pages
    error_bodies: Mapping[str, ErrorBody]  # by path, where a protocol's differs from our own
    telemetry: Telemetry
    metrics: MetricsRegistry
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _decoders: dict[Callable[[RowDecoder], Any], Any] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def model_name(self) -> str:
        """Return the name of the model in paths and responses."""
        if self.model.card is None:
            return "model"
        return self.model.card.name

    def error_body(self, path: str, status: int, message: str) -> dict[str, str]:
        """Return the body of an error response in the shape of the protocol at `path`."""
        if path in self.error_bodies:
            return self.error_bodies[path](status, message)
        return {"error": message}

    def decoder(self, build: Callable[[RowDecoder], Decoder]) -> Decoder:
        """Return the decoder of one request format, which `build` makes from the row decoder.

        It is built once; `create_app` does so before the workers are forked, which then share it.
        """
        try:
            decoder: Decoder = self._decoders[build]
        except KeyError:
            decoder = self._decoders[build] = build(self.row_decoder)
        return decoder

    def share_decoders(self, other: "Service") -> None:
        """Use the decoders that another service of the same model has built."""
        self._decoders.update(other._decoders)


def current_service() -> Service:
    """Return the service that handles the current request."""
    # The application itself: an attribute through Flask's proxy costs ten times as much.
    return service_of(current_app._get_current_object())  # type: ignore[attr-defined]


def service_of(app: Flask) -> Service:
    """Return the service that `app` serves."""
    service: Service = app.extensions["service"]
    return service

"""One decoder of each protocol for the model that is served."""

from collections.abc import Callable
from typing import TypeVar

from flask import current_app

from serving.api.schemas import RowDecoder
from serving.model.model import Model

Decoder = TypeVar("Decoder")


def current_decoder(build: Callable[[Model, RowDecoder], Decoder]) -> Decoder:
    """Return what `build` returns for the served model. It is called once for each model."""
    decoders = current_app.extensions["decoders"]
    if build not in decoders:
        decoders[build] = build(current_app.extensions["model"], current_app.extensions["rows"])
    decoder: Decoder = decoders[build]
    return decoder

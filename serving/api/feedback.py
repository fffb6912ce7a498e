"""Decoder of feedback: predictions with the classes or numbers that turned out to be true."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from serving.api.json_body import Number, decode_json, reject_duplicate_keys
from serving.api.messages import JSON
from serving.api.rows import RowDecoder
from serving.model.card import PredictionValue
from serving.model.errors import InvalidInput
from serving.monitoring.scope import list_classes, uncounted_reason


class FeedbackDecoder:
    """Decode `{"prediction": [...], "actual": [...]}`.

    The values are classes of the model, or numbers for a regressor.
    """

    def __init__(self, row_decoder: RowDecoder) -> None:
        self.uncounted_reason = uncounted_reason(row_decoder.model)
        self.classes: list[PredictionValue] = []
        self.example: list[Any] = []

        value_type: Any = Any
        schema: dict[str, Any] = {}
        card = row_decoder.model.card
        if card and card.prediction:
            value_type = Number
            self.example = [card.reference[0].prediction]
        elif not self.uncounted_reason:
            self.classes = list_classes(row_decoder.model)
            value_type = type(self.classes[0])
            schema["allOf"] = [{"items": {"enum": self.classes}}]
            self.example = self.classes[:1]
        schema["minItems"] = 1
        self.known_classes = frozenset(self.classes)

        values: Any = Annotated[list[value_type], Meta(extra_json_schema=schema)]
        self.request: Any = msgspec.defstruct(
            "FeedbackRequest",
            [("prediction", values), ("actual", values)],
            forbid_unknown_fields=True,
        )
        self.decoder = msgspec.json.Decoder(self.request)

    def examples(self) -> dict[str, Any]:
        """Return an example body for each media type."""
        return {JSON: {"prediction": self.example, "actual": self.example}}

    def decode(self, body: bytes) -> tuple[list[PredictionValue], list[PredictionValue]]:
        """Return the predictions and the actual values, two lists of one length.

        Raises InvalidInput.
        """
        request = decode_json(self.decoder, body)
        reject_duplicate_keys(body, 2)
        if self.uncounted_reason:
            raise InvalidInput(f"Feedback is not counted: {self.uncounted_reason}")

        prediction = request.prediction
        actual = request.actual
        if not prediction:
            raise InvalidInput("Expected at least 1 values, got 0 - at `$.prediction`")
        if len(actual) != len(prediction):
            raise InvalidInput(
                f"Expected {len(prediction)} values, got {len(actual)} - at `$.actual`"
            )
        if self.classes:
            self._check_classes(prediction, "$.prediction")
            self._check_classes(actual, "$.actual")
        return prediction, actual

    def _check_classes(self, values: list[PredictionValue], json_path: str) -> None:
        for i, value in enumerate(values):
            if value not in self.known_classes:
                raise InvalidInput(f"Expected a class of the model - at `{json_path}[{i}]`")

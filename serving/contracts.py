"""How rows are asked about: a contract decodes a body to an array, or says what is wrong and where in it."""

import json
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from serving.model import FLOAT32_MAX, Floats, InvalidInput, Model, Value

Number = Annotated[float, msgspec.Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
Output = Literal["label", "probability"]


class Predict:
    """Our own contract: `{"features": ROW or [ROW, ...], "outputs": [...]}`; a ROW is an array or an object."""

    def __init__(self, model: Model) -> None:
        self.width = model.n_features
        self.outputs = {"label": bool(model.labels), "probability": model.has_probabilities}
        # A struct of the card's names: the decoder itself then finds unknown, missing and mistyped members. Without a
        # card it has no member, and every name is unknown.
        fields = {f"f{i}": name for i, name in enumerate(model.features)}
        row: Any = msgspec.defstruct("Row", [(f, Number) for f in fields], rename=fields, forbid_unknown_fields=True)
        request: Any = msgspec.defstruct(
            "PredictRequest",
            [
                ("features", list[Number | list[Number] | row] | row),
                ("outputs", list[Output] | msgspec.UnsetType, msgspec.UNSET),
            ],
            forbid_unknown_fields=True,
        )
        self.named = row
        self.decoder = msgspec.json.Decoder(request)

    def decode(self, body: bytes) -> tuple[Floats, list[Output]]:
        """Return the rows, of shape (rows, features), and what is asked for beside their prediction.

        Raises InvalidInput.
        """
        request = _decode(self.decoder, body)
        rows = request.features
        if isinstance(rows, self.named):
            rows = [rows]
        kinds = set(map(type, rows))
        if len(kinds) > 1:
            odd = next(i for i, row in enumerate(rows) if type(row) is not type(rows[0]))
            raise InvalidInput(f"Expected rows of one kind, or numbers alone - at `$.features[{odd}]`")
        outputs = [] if request.outputs is msgspec.UNSET else request.outputs
        for i, output in enumerate(outputs):
            if not self.outputs[output]:
                raise InvalidInput(f"This model has no {output} - at `$.outputs[{i}]`")
        members = 1 + (request.outputs is not msgspec.UNSET)
        if kinds == {self.named}:
            rows = list(map(msgspec.structs.astuple, rows))
            members += len(rows) * self.width
        _no_member_twice(body, members)
        if kinds == {float}:
            return self._array([rows], "$.features"), outputs
        return self._array(rows, "$.features[{}]"), outputs

    def _array(self, rows: list[Any], at: str) -> Floats:
        if not rows:
            raise InvalidInput("Expected at least one row - at `$.features`")
        if set(map(len, rows)) != {self.width}:
            i = next(i for i, row in enumerate(rows) if len(row) != self.width)
            raise InvalidInput(f"Expected {self.width} numbers, got {len(rows[i])} - at `{at.format(i)}`")
        return np.array(rows, dtype=np.float64)


class Feedback:
    """What was predicted, and what turned out to be: `{"prediction": [...], "actual": [...]}`, of known classes."""

    def __init__(self, model: Model) -> None:
        self.classes = model.classes.tolist() if isinstance(model.classes, np.ndarray) else []
        kind: Any = list[type(self.classes[0])] if self.classes else list[Any]  # type: ignore[misc]
        members = [("prediction", kind), ("actual", kind)]
        self.decoder = msgspec.json.Decoder(msgspec.defstruct("FeedbackRequest", members, forbid_unknown_fields=True))

    def decode(self, body: bytes) -> tuple[list[Value], list[Value]]:
        """Return the predictions and the truths, as many of each. Raises InvalidInput."""
        request = _decode(self.decoder, body)
        _no_member_twice(body, 2)
        if not self.classes:
            raise InvalidInput("This model has no classes, and only those are counted")
        if not request.prediction or len(request.actual) != len(request.prediction):
            expected = len(request.prediction) or "at least 1"
            at = "actual" if request.prediction else "prediction"
            raise InvalidInput(f"Expected {expected} values, got {len(getattr(request, at))} - at `$.{at}`")
        for name, values in (("prediction", request.prediction), ("actual", request.actual)):
            if unknown := set(values).difference(self.classes):
                i = next(i for i, value in enumerate(values) if value in unknown)
                raise InvalidInput(f"Expected a class of the model - at `$.{name}[{i}]`")
        return request.prediction, request.actual


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        raise InvalidInput("The body is not UTF-8") from error
    except msgspec.MsgspecError as error:
        raise InvalidInput(_shortened(str(error)) if body else "The body is empty") from error


def _no_member_twice(body: bytes, members: int) -> None:
    if body.count(b":") != members:  # one too many stands in a string, or in a member that came twice
        json.loads(body, object_pairs_hook=_unique)


def _unique(members: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in members]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"Object contains field `{_shortened(twice)}` twice")


def _shortened(text: str) -> str:
    # The middle goes: a message ends with its path.
    return text if len(text) < 300 else f"{text[:150]} ... {text[-100:]}"

"""How rows are asked about: a contract decodes a body to an array, or says what is wrong and where in it."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from serving.model.card import PredictionValue
from serving.model.errors import InvalidInput
from serving.model.model import FLOAT32_MAX, Floats, Model

Number = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
Output = Literal["label", "probability"]


class RowDecoder:
    """A model's rows as JSON writes them: in the order of its features, or by their names.

    The types are what msgspec decodes to; what JSON Schema can say beyond them stands in their `extra_json_schema`, for
    the OpenAPI document alone, as `array` says it with the place.
    """

    def __init__(self, model: Model) -> None:
        self.width, self.features = model.n_features, model.features
        # Structs of the card's names: the decoder itself then finds unknown, missing and mistyped members. Without a
        # card they have no member, and every name is unknown.
        fields = {f"f{i}": name for i, name in enumerate(model.features)}
        as_wide = {"minItems": self.width, "maxItems": self.width}
        positions, names = (
            {"items": {"type": "array"}, "minItems": 1},
            {"items": {"type": "object"}, "minItems": 1},
        )
        one = {"items": {"type": "number"}, **as_wide}
        row: Any = _with_json_schema(list[Number], as_wide)
        column: Any = _with_json_schema(list[Number], {"minItems": 1})
        named: Any = msgspec.defstruct(
            "Row", [(f, Number) for f in fields], rename=fields, forbid_unknown_fields=True
        )
        columns: Any = msgspec.defstruct(
            "Columns", [(f, column) for f in fields], rename=fields, forbid_unknown_fields=True
        )
        order: Any = _with_json_schema(
            list[str | int],
            as_wide | {"allOf": [{"items": {"enum": model.features}}], "uniqueItems": True},
        )
        table: Any = _with_json_schema(list[row], {"minItems": 1})
        split: Any = msgspec.defstruct(
            "Split",
            [
                ("data", table),
                ("columns", order | UnsetType, UNSET),
                ("index", list[Any] | UnsetType, UNSET),
            ],
        )
        self.named, self.columns, self.split = named, columns, split
        self.records = _with_json_schema(list[named], {"minItems": 1})
        self.many = _with_json_schema(list[row | named], {"anyOf": [positions, names]})
        self.any = _with_json_schema(list[Number | row | named], {"anyOf": [positions, names, one]})
        self.bare = _with_json_schema(list[Number | row], {"anyOf": [positions, one]})

    def to_array(self, rows: Any, at: str) -> Floats:
        """Return `rows`, of one of the types above, as an array of shape (rows, features). Raises InvalidInput."""
        if isinstance(rows, self.split):
            order = (
                slice(None)
                if rows.columns is UNSET
                else self.column_order(rows.columns, f"{at}.columns")
            )
            return self.to_array(rows.data, f"{at}.data")[:, order]
        if isinstance(rows, self.columns):
            lists = msgspec.structs.astuple(rows)
            for name, column in zip(self.features, lists, strict=True):
                if len(column) != len(lists[0]):
                    raise InvalidInput(
                        f"Expected {len(lists[0])} numbers, got {len(column)} - at `{at}.{name}`"
                    )
            return self.to_array(list(zip(*lists, strict=True)), at)
        kinds = set(map(type, rows))
        if len(kinds) > 1:
            odd = next(i for i, row in enumerate(rows) if type(row) is not type(rows[0]))
            raise InvalidInput(f"Expected rows of one kind, or numbers alone - at `{at}[{odd}]`")
        if kinds == {self.named}:
            rows = list(map(msgspec.structs.astuple, rows))
        if kinds == {float}:
            rows = [rows]
        else:
            at += "[{}]"
        if not rows:
            raise InvalidInput(f"Expected at least one row - at `{at[:-4]}`")
        if set(map(len, rows)) != {self.width}:
            i = next(i for i, row in enumerate(rows) if len(row) != self.width)
            raise InvalidInput(
                f"Expected {self.width} numbers, got {len(rows[i])} - at `{at.format(i)}`"
            )
        return np.array(rows, dtype=np.float64)

    def column_order(self, columns: Sequence[str | int], at: str) -> list[int]:
        """Return where each feature stands in `columns`: their names in any order, or 0, 1, 2 as pandas counts them."""
        if list(columns) == list(range(self.width)):
            return list(range(self.width))
        if len(columns) != self.width or set(columns) != set(self.features):
            expected = ", ".join(self.features) or f"0 to {self.width - 1}"
            raise InvalidInput(f"{truncate_middle(f'Expected the columns {expected}')} - at `{at}`")
        return [columns.index(name) for name in self.features]

    def parse_csv(self, body: bytes) -> tuple[Floats, bool]:
        """Return the rows of a CSV text, of shape (rows, features), and whether its first line has names.

        It has none where each of its fields is a number. Raises InvalidInput.
        """
        try:
            lines = list(
                csv.reader(
                    io.StringIO(body.decode("utf-8-sig").rstrip(), newline=""),
                    skipinitialspace=True,
                    strict=True,
                )
            )
        except UnicodeDecodeError as error:
            raise InvalidInput("The body is not UTF-8") from error
        except csv.Error as error:
            raise InvalidInput(f"CSV is malformed: {error}") from error
        try:
            msgspec.convert(lines[:1], list[list[Number]], strict=False)
            order = None
        except msgspec.ValidationError:
            order = self.column_order(lines.pop(0), "line 1")
        try:
            array = self.to_array(msgspec.convert(lines, list[list[Number]], strict=False), "$")
        except msgspec.ValidationError as error:
            raise InvalidInput(truncate_middle(str(error))) from error
        return (array, False) if order is None else (array[:, order], True)


class PredictDecoder:
    """Our own contract: `{"features": ROW or [ROW, ...], "outputs": [...]}`; a ROW is an array or an object."""

    def __init__(self, model: Model, rows: RowDecoder) -> None:
        self.rows = rows
        self.outputs = {"label": bool(model.labels), "probability": model.has_probabilities}
        self.request: Any = msgspec.defstruct(
            "PredictRequest",
            [("features", rows.any | rows.named), ("outputs", list[Output] | UnsetType, UNSET)],
            forbid_unknown_fields=True,
        )
        self.decoder = msgspec.json.Decoder(self.request)

    def decode(self, body: bytes) -> tuple[Floats, list[Output]]:
        """Return the rows, of shape (rows, features), and what is asked for beside their prediction.

        Raises InvalidInput.
        """
        request = decode_json(self.decoder, body)
        features = request.features
        if isinstance(features, self.rows.named):
            features = [features]
        outputs = [] if request.outputs is UNSET else request.outputs
        for i, output in enumerate(outputs):
            if not self.outputs[output]:
                raise InvalidInput(f"This model has no {output} - at `$.outputs[{i}]`")
        members = 1 + (request.outputs is not UNSET)
        if features and isinstance(features[0], self.rows.named):
            members += len(features) * self.rows.width
        reject_duplicate_keys(body, members)
        return self.rows.to_array(features, "$.features"), outputs


class TabularDecoder:
    """A platform's contract: an object with its rows in exactly one of several members, or, if `bare`, no object.

    Other members than these are the platform's own, and not read.
    """

    def __init__(
        self, rows: RowDecoder, name: str, members: tuple[str, ...], bare: bool = False
    ) -> None:
        kinds = {
            "instances": rows.many,
            "inputs": rows.many | rows.columns,
            "dataframe_split": rows.split,
            "dataframe_records": rows.records,
            "data": rows.many,
            "input_data": rows.split,
        }
        struct: Any = msgspec.defstruct(
            name, [(member, kinds[member] | UnsetType, UNSET) for member in members]
        )
        self.rows, self.members = rows, members
        self.request = _with_json_schema(
            struct, {"oneOf": [{"required": [member]} for member in members]}
        )
        if bare:
            self.request |= rows.bare
        self.decoder = msgspec.json.Decoder(self.request)

    def decode(self, body: bytes) -> tuple[Floats, bool]:
        """Return the rows, of shape (rows, features), and whether they came in an object. Raises InvalidInput."""
        request = decode_json(self.decoder, body)
        reject_duplicate_keys(body, not isinstance(request, list))
        if isinstance(request, list):
            return self.rows.to_array(request, "$"), False
        given = [member for member in self.members if getattr(request, member) is not UNSET]
        if len(given) != 1:
            expected = ", ".join(self.members)
            raise InvalidInput(
                f"Expected exactly one of {expected}, got {' and '.join(given) or 'none'} - at `$`"
            )
        return self.rows.to_array(getattr(request, given[0]), f"$.{given[0]}"), True


class FeedbackDecoder:
    """What was predicted, and what turned out to be: `{"prediction": [...], "actual": [...]}`, of known classes."""

    def __init__(self, model: Model) -> None:
        self.classes = model.classes.tolist() if isinstance(model.classes, np.ndarray) else []
        kind: Any = list[type(self.classes[0])] if self.classes else list[Any]  # type: ignore[misc]
        known: Any = Annotated[
            kind,
            Meta(extra_json_schema={"allOf": [{"items": {"enum": self.classes}}], "minItems": 1}),
        ]
        self.request: Any = msgspec.defstruct(
            "FeedbackRequest",
            [("prediction", known), ("actual", known)],
            forbid_unknown_fields=True,
        )
        self.decoder = msgspec.json.Decoder(self.request)

    def decode(self, body: bytes) -> tuple[list[PredictionValue], list[PredictionValue]]:
        """Return the predictions and the truths, as many of each. Raises InvalidInput."""
        request = decode_json(self.decoder, body)
        reject_duplicate_keys(body, 2)
        if not self.classes:
            raise InvalidInput("This model has no classes, and only those are counted")
        if not request.prediction or len(request.actual) != len(request.prediction):
            expected = len(request.prediction) or "at least 1"
            at = "actual" if request.prediction else "prediction"
            raise InvalidInput(
                f"Expected {expected} values, got {len(getattr(request, at))} - at `$.{at}`"
            )
        for name, values in (("prediction", request.prediction), ("actual", request.actual)):
            if unknown := set(values).difference(self.classes):
                i = next(i for i, value in enumerate(values) if value in unknown)
                raise InvalidInput(f"Expected a class of the model - at `$.{name}[{i}]`")
        return request.prediction, request.actual


def _with_json_schema(kind: Any, schema: dict[str, Any]) -> Any:
    return Annotated[kind, Meta(extra_json_schema=schema)]


def decode_json(decoder: msgspec.json.Decoder[Any], body: Any) -> Any:
    """Return what `decoder` makes of `body`. Raises InvalidInput."""
    try:
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        raise InvalidInput("The body is not UTF-8") from error
    except RecursionError as error:
        raise InvalidInput("The body is nested too deeply") from error
    except msgspec.MsgspecError as error:
        raise InvalidInput(truncate_middle(str(error)) if body else "The body is empty") from error


def reject_duplicate_keys(body: bytes, members: int) -> None:
    """Raise InvalidInput where an object of the JSON in `body` names a member twice; `members` are those expected."""
    if (
        body.count(b":") != members
    ):  # one too many stands in a string, or in a member that came twice
        try:
            json.loads(body, object_pairs_hook=_check_unique_keys, parse_int=str, parse_float=str)
        except RecursionError as error:
            raise InvalidInput("The body is nested too deeply") from error
        except UnicodeDecodeError as error:
            raise InvalidInput("The body is not UTF-8") from error
        except json.JSONDecodeError as error:  # in a member that is not read
            raise InvalidInput(f"JSON is malformed: {error.msg} (character {error.pos})") from error


def _check_unique_keys(members: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in members]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"Object contains field `{truncate_middle(twice)}` twice")


def truncate_middle(text: str) -> str:
    """Return `text`, or where it is long its ends: a message's is its path."""
    return text if len(text) < 300 else f"{text[:150]} ... {text[-100:]}"

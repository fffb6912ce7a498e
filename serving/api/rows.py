"""Rows of features: from JSON and CSV to an array, or an error with its place."""

import csv
import io
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from serving.api.json_body import Number, truncate_middle
from serving.model.errors import InvalidInput
from serving.model.model import Floats, Model

ARRAYS = {"items": {"type": "array"}, "minItems": 1}
OBJECTS = {"items": {"type": "object"}, "minItems": 1}
NOT_EMPTY = {"minItems": 1}


class RowDecoder:
    """The JSON types of a model's rows, and their conversion to an array.

    A row is an array in the order of the features or an object by their names. The attributes
    `named` to `unnamed_rows` are types, to which msgspec decodes; `split` is the form that pandas
    calls `orient="split"`. The `extra_json_schema` of a type is for the OpenAPI document alone:
    `to_array` checks the same, and its errors have a place.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.width = model.n_features
        self.features = model.features

        width_constraint = {"minItems": self.width, "maxItems": self.width}
        row: Any = with_json_schema(list[Number], width_constraint)
        column: Any = with_json_schema(list[Number], NOT_EMPTY)
        table: Any = with_json_schema(list[row], NOT_EMPTY)
        one_row = {"items": {"type": "number"}, **width_constraint}

        # Structs with a field for each feature, so that msgspec itself reports unknown, missing
        # and mistyped names. Without a model card they have no field, and every name is unknown.
        self.named = self._struct("Row", Number)
        self.columns = self._struct("Columns", column)
        self.split = self._split_struct(table, width_constraint)

        named: Any = self.named
        self.records = with_json_schema(list[named], NOT_EMPTY)
        self.row_list = with_json_schema(list[row | named], {"anyOf": [ARRAYS, OBJECTS]})
        self.rows_or_row = with_json_schema(
            list[Number | row | named], {"anyOf": [ARRAYS, OBJECTS, one_row]}
        )
        self.unnamed_rows = with_json_schema(list[Number | row], {"anyOf": [ARRAYS, one_row]})

    def _struct(self, name: str, field_type: Any) -> Any:
        names = {f"f{i}": feature for i, feature in enumerate(self.features)}
        fields = [(field, field_type) for field in names]
        return msgspec.defstruct(name, fields, rename=names, forbid_unknown_fields=True)

    def _split_struct(self, table: Any, width_constraint: dict[str, Any]) -> Any:
        names = {"allOf": [{"items": {"enum": self.features}}], "uniqueItems": True}
        column_names: Any = with_json_schema(list[str | int], width_constraint | names)
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
            ("data", table),
            ("columns", column_names | UnsetType, UNSET),
            ("index", list[Any] | UnsetType, UNSET),
        ]
        return msgspec.defstruct("Split", fields)

    def example_row(self) -> list[float]:
        """Return the first reference row of the model card, or zeros without a card."""
        if self.model.card is None:
            return [0.0] * self.width
        return self.model.card.reference[0].features

    def to_array(self, rows: Any, json_path: str) -> Floats:
        """Return `rows`, of one of the types above, as an array of shape (rows, features).

        `json_path` is their place in the body. Raises InvalidInput.
        """
        if isinstance(rows, self.split):
            return self._split_to_array(rows, json_path)
        if isinstance(rows, self.columns):
            return self._columns_to_array(rows, json_path)

        row_types = set(map(type, rows))
        if not row_types:
            raise InvalidInput(f"Expected at least one row - at `{json_path}`")
        if len(row_types) > 1:
            mismatch_index = next(i for i, row in enumerate(rows) if type(row) is not type(rows[0]))
            raise InvalidInput(
                f"Expected rows of one kind, or numbers alone - at `{json_path}[{mismatch_index}]`"
            )

        if row_types == {float}:
            self._check_width(rows, json_path)
            return np.array([rows], dtype=np.float64)
        if row_types == {self.named}:
            rows = list(map(msgspec.structs.astuple, rows))
        if set(map(len, rows)) != {self.width}:
            for i, row in enumerate(rows):
                self._check_width(row, f"{json_path}[{i}]")
        return np.array(rows, dtype=np.float64)

    def _split_to_array(self, split: Any, json_path: str) -> Floats:
        order: Any = slice(None)
        if split.columns is not UNSET:
            order = self.column_order(split.columns, f"{json_path}.columns")
        return self.to_array(split.data, f"{json_path}.data")[:, order]

    def _columns_to_array(self, columns: Any, json_path: str) -> Floats:
        values = msgspec.structs.astuple(columns)
        expected = len(values[0]) if values else 0
        for name, column in zip(self.features, values, strict=True):
            if len(column) != expected:
                raise InvalidInput(
                    f"Expected {expected} numbers, got {len(column)} - at `{json_path}.{name}`"
                )
        return self.to_array(list(zip(*values, strict=True)), json_path)

    def _check_width(self, row: Sequence[float], json_path: str) -> None:
        if len(row) != self.width:
            raise InvalidInput(f"Expected {self.width} numbers, got {len(row)} - at `{json_path}`")

    def column_order(self, columns: Sequence[str | int], place: str) -> list[int]:
        """Return the index in `columns` of each feature.

        `columns` are the names of the features in any order, or 0, 1, 2 ..., the names that pandas
        gives. Raises InvalidInput.
        """
        if list(columns) == list(range(self.width)):
            return list(range(self.width))
        if len(columns) != self.width or set(columns) != set(self.features):
            names = ", ".join(self.features) or f"0 to {self.width - 1}"
            raise InvalidInput(f"{truncate_middle(f'Expected the columns {names}')} - at `{place}`")
        return [columns.index(name) for name in self.features]

    def parse_csv(self, body: bytes) -> tuple[Floats, bool]:
        """Return the rows of a CSV body, of shape (rows, features), and whether it has a header.

        The first line is a header unless each of its fields is a number. Raises InvalidInput.
        """
        records = read_csv(body)
        has_header = not _are_numbers(records[:1])
        order: Any = slice(None)
        if has_header:
            order = self.column_order(records.pop(0), "line 1")

        try:
            rows = msgspec.convert(records, list[list[Number]], strict=False)
        except msgspec.ValidationError as error:
            raise InvalidInput(truncate_middle(str(error))) from error
        return self.to_array(rows, "$")[:, order], has_header


def read_csv(body: bytes) -> list[list[str]]:
    """Return the fields of each line of a CSV body. Raises InvalidInput."""
    try:
        text = io.StringIO(body.decode("utf-8-sig").rstrip(), newline="")
        return list(csv.reader(text, skipinitialspace=True, strict=True))
    except UnicodeDecodeError as error:
        raise InvalidInput("The body is not UTF-8") from error
    except csv.Error as error:
        raise InvalidInput(f"CSV is malformed: {error}") from error


def with_json_schema(json_type: Any, schema: dict[str, Any]) -> Any:
    """Return `json_type` with constraints for the OpenAPI document only."""
    return Annotated[json_type, Meta(extra_json_schema=schema)]


def _are_numbers(records: list[list[str]]) -> bool:
    try:
        msgspec.convert(records, list[list[Number]], strict=False)
    except msgspec.ValidationError:
        return False
    return True

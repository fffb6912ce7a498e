"""Rows of features: from JSON and CSV to an array, or an error with its place."""

from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from serving.api.json_body import Number, truncate_middle
from serving.api.values import AnyValue, value_type
from serving.model.arrays import Rows
from serving.model.card import FeatureValue
from serving.model.errors import InvalidInput
from serving.model.model import Model

ARRAYS = {"items": {"type": "array"}, "minItems": 1}
OBJECTS = {"items": {"type": "object"}, "minItems": 1}
NOT_EMPTY = {"minItems": 1}

SCALARS = {float, bool, str, type(None)}


class RowDecoder:
    """The JSON types of a model's rows, and their conversion to an array.

    A row is an array in the order of the features or an object by their names. The attributes
    `named` to `unnamed_rows` are types, to which msgspec decodes; `split` is the form that pandas
    calls `orient="split"`. As in MLflow, `record`, `frame` and `split` may have more columns than
    the model, which are ignored. The `extra_json_schema` of a type is for the OpenAPI document
    alone: `to_array` checks the same, and its errors have a place.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.signature = model.signature
        self.width = model.n_features
        self.features = model.features

        self.value_types = [value_type(feature) for feature in self.signature.features]
        if not self.features:  # without a model card a row is numbers
            self.value_types = [Number] * self.width
        # Numbers are validated as they are decoded, and rows of them need no second step.
        self.is_plain_numbers = all(value_type is Number for value_type in self.value_types)
        # A struct, because msgspec looks up a tuple of many types by a hash that takes longer.
        fields = [(f"f{i}", value_type) for i, value_type in enumerate(self.value_types)]
        self._values_type: Any = msgspec.defstruct("Values", fields, array_like=True)
        self._list_type: Any = list[self._values_type]  # type: ignore[name-defined]

        self.named = self._named_struct("Row", forbid_unknown_fields=True)
        self.record = self._named_struct("Record", forbid_unknown_fields=False)
        self.columns = self._columns_struct("Columns", forbid_unknown_fields=True)
        self.frame = self._columns_struct("Frame", forbid_unknown_fields=False)
        self._column_types = (self.columns, self.frame)
        self._define_row_types()

    def _define_row_types(self) -> None:
        value: Any = Number
        one_row: dict[str, Any] = {"items": msgspec.json.schema(Number)}
        if not self.is_plain_numbers:
            value = AnyValue
            one_row = {"prefixItems": list(map(msgspec.json.schema, self.value_types))}

        width_constraint = {"minItems": self.width, "maxItems": self.width}
        one_row |= width_constraint
        row: Any = with_json_schema(list[value], one_row)
        any_row: Any = with_json_schema(list[Any], one_row)
        table: Any = with_json_schema(list[any_row], NOT_EMPTY)
        named: Any = self.named
        record: Any = self.record

        self.split = self._split_struct(table, width_constraint)
        self.records = with_json_schema(list[record], NOT_EMPTY)
        self.rows_or_records = with_json_schema(list[row | record], {"anyOf": [ARRAYS, OBJECTS]})
        self.line = row | record
        self.row_list = with_json_schema(list[row | named], {"anyOf": [ARRAYS, OBJECTS]})
        self.rows_or_row = with_json_schema(
            list[value | row | named], {"anyOf": [ARRAYS, OBJECTS, one_row]}
        )
        self.unnamed_rows = with_json_schema(list[value | row], {"anyOf": [ARRAYS, one_row]})

    # Structs with a field for each feature, so that msgspec itself reports unknown, missing and
    # mistyped names. Without a model card they have no field, and every name is unknown.

    def _named_struct(self, name: str, *, forbid_unknown_fields: bool) -> Any:
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        for i, feature in enumerate(self.signature.features):
            if feature.nullable:
                fields.append((f"f{i}", self.value_types[i], None))
            else:
                fields.append((f"f{i}", self.value_types[i]))
        return self._struct(name, fields, forbid_unknown_fields)

    def _columns_struct(self, name: str, *, forbid_unknown_fields: bool) -> Any:
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        for i in range(len(self.features)):
            column_type: Any = list[self.value_types[i]]  # type: ignore[name-defined]
            fields.append((f"f{i}", with_json_schema(column_type, NOT_EMPTY)))
        return self._struct(name, fields, forbid_unknown_fields)

    def _struct(self, name: str, fields: list[Any], forbid_unknown_fields: bool) -> Any:
        names = {f"f{i}": feature for i, feature in enumerate(self.features)}
        return msgspec.defstruct(
            name,
            fields,
            rename=names,
            forbid_unknown_fields=forbid_unknown_fields,
            kw_only=True,
        )

    def _split_struct(self, table: Any, width_constraint: dict[str, Any]) -> Any:
        names = {"allOf": [{"items": {"enum": self.features}}], "uniqueItems": True}
        column_names: Any = with_json_schema(list[str | int], width_constraint | names)
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
            ("data", table),
            ("columns", column_names | UnsetType, UNSET),
            ("index", list[Any] | UnsetType, UNSET),
        ]
        return msgspec.defstruct("Split", fields)

    def example_row(self) -> list[FeatureValue]:
        """Return the first reference row of the model card, or zeros without a card."""
        if self.model.card is None:
            return [0.0] * self.width
        return self.model.card.reference[0].features

    def to_array(self, rows: Any, json_path: str) -> Rows:
        """Return `rows`, of one of the types above, as an array of shape (rows, features).

        `json_path` is their place in the body. Raises InvalidInput.
        """
        if isinstance(rows, self.split):
            return self._split_to_array(rows, json_path)
        if isinstance(rows, self._column_types):
            return self._columns_to_array(rows, json_path)

        row_types = set(map(type, rows))
        if not row_types:
            raise InvalidInput(f"Expected at least one row - at `{json_path}`")
        if row_types <= SCALARS:
            return self._values_to_array(rows, json_path)
        if len(row_types) > 1:
            mismatch_index = next(i for i, row in enumerate(rows) if type(row) is not type(rows[0]))
            raise InvalidInput(
                f"Expected rows of one kind, or {self._values} alone "
                f"- at `{json_path}[{mismatch_index}]`"
            )

        if row_types == {list}:
            return self._lists_to_array(rows, json_path)
        rows = list(map(msgspec.structs.astuple, rows))
        if self.is_plain_numbers:
            return self._lists_to_array(rows, json_path)
        return self.signature.to_rows(rows)

    @property
    def _values(self) -> str:
        if self.is_plain_numbers:
            return "numbers"
        return "values"

    def _values_to_array(self, values: list[FeatureValue], json_path: str) -> Rows:
        """Return the values of one row as an array with one row."""
        self.check_width(values, json_path)
        if self.is_plain_numbers:
            return np.array([values], dtype=np.float64)
        converted = convert(values, self._values_type, json_path)
        return self.signature.to_rows([msgspec.structs.astuple(converted)])

    def _lists_to_array(self, rows: list[list[FeatureValue]], json_path: str) -> Rows:
        if set(map(len, rows)) != {self.width}:
            for i, row in enumerate(rows):
                self.check_width(row, f"{json_path}[{i}]")

        if self.is_plain_numbers:
            # Half the time of np.array, which looks at each list first.
            values = chain.from_iterable(rows)
            return np.fromiter(values, np.float64, len(rows) * self.width).reshape(-1, self.width)
        converted = convert(rows, self._list_type, json_path)
        return self.signature.to_rows(list(map(msgspec.structs.astuple, converted)))

    def _split_to_array(self, split: Any, json_path: str) -> Rows:
        columns = range(self.width)
        if split.columns is not UNSET:
            columns = split.columns
        order = self.column_order(columns, f"{json_path}.columns")
        return self.table_to_array(split.data, order, len(columns), f"{json_path}.data")

    def table_to_array(
        self,
        rows: list[list[Any]],
        order: list[int],
        n_columns: int,
        json_path: str,
        *,
        strict: bool = True,
    ) -> Rows:
        """Return lists whose column `order[i]` is feature i as an array of shape (rows, features).

        Each has `n_columns`. Unless `strict`, numbers and booleans may be text. Raises
        InvalidInput.
        """
        if not rows:
            raise InvalidInput(f"Expected at least one row - at `{json_path}`")
        for i, row in enumerate(rows):
            self.check_width(row, f"{json_path}[{i}]", n_columns)

        if self.is_plain_numbers and n_columns == self.width:
            numbers = convert(rows, list[list[Number]], json_path, strict=strict)
            return np.array(numbers, dtype=np.float64)[:, order]

        # Converted in the order of the body, so that the place in an error is right.
        types_in_body: list[Any] = [Any] * n_columns
        for column, column_type in zip(order, self.value_types, strict=True):
            types_in_body[column] = column_type
        row_type: Any = tuple[tuple(types_in_body)]  # type: ignore[misc]
        converted = convert(rows, list[row_type], json_path, strict=strict)
        return self.signature.to_rows([[row[column] for column in order] for row in converted])

    def _columns_to_array(self, columns: Any, json_path: str) -> Rows:
        values = msgspec.structs.astuple(columns)
        expected = len(values[0]) if values else 0
        for name, column in zip(self.features, values, strict=True):
            if len(column) != expected:
                raise InvalidInput(
                    f"Expected {expected} {self._values}, got {len(column)} "
                    f"- at `{json_path}.{name}`"
                )
        if not expected:
            raise InvalidInput(f"Expected at least one row - at `{json_path}`")
        return self.signature.to_rows(list(zip(*values, strict=True)))

    def check_width(
        self, row: Sequence[FeatureValue], json_path: str, width: int | None = None
    ) -> None:
        """Raise InvalidInput unless `row`, which is at `json_path`, has a value for each column.

        There are `width` columns, or else one for each feature.
        """
        expected = self.width if width is None else width
        if len(row) != expected:
            raise InvalidInput(
                f"Expected {expected} {self._values}, got {len(row)} - at `{json_path}`"
            )

    def column_order(self, columns: Sequence[str | int], place: str) -> list[int]:
        """Return the index in `columns` of each feature.

        `columns` have the names of the features, in any order and among others, or are 0, 1, 2 ...,
        the names that pandas gives. Raises InvalidInput.
        """
        if list(columns) == list(range(self.width)):
            return list(range(self.width))
        if not self.features:
            raise InvalidInput(f"Expected the columns 0 to {self.width - 1} - at `{place}`")

        positions: dict[str | int, int] = {}
        repeated = set()
        for index, name in enumerate(columns):
            if name in positions:
                repeated.add(name)
            positions[name] = index

        for name in self.features:
            if name not in positions or name in repeated:
                problem = "repeated" if name in repeated else "missing"
                expected = truncate_middle(f"Expected the columns {', '.join(self.features)}")
                raise InvalidInput(f"{expected}: `{name}` is {problem} - at `{place}`")
        return [positions[name] for name in self.features]


def convert(values: Any, target_type: Any, json_path: str, *, strict: bool = True) -> Any:
    """Return `values`, which are at `json_path`, as msgspec converts them. Raises InvalidInput."""
    try:
        return msgspec.convert(values, target_type, strict=strict)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        place = place or "`"
        raise InvalidInput(truncate_middle(f"{text} - at `{json_path}{place}")) from error


def with_json_schema(json_type: Any, schema: dict[str, Any]) -> Any:
    """Return `json_type` with constraints for the OpenAPI document only."""
    return Annotated[json_type, Meta(extra_json_schema=schema)]

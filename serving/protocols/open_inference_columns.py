"""Input tensors of Open Inference Protocol V2 as the columns of a DataFrame.

This is what MLServer and KServe call `content_type: "pd"`: a tensor for each feature, named after
it. One tensor is enough for a model with one feature, or if all features have one datatype.
"""

import math
import struct
from typing import Any

import numpy as np

from serving.api.json_body import Number
from serving.api.rows import RowDecoder, convert
from serving.model.arrays import Rows
from serving.model.card import FeatureInfo, FeatureValue
from serving.model.errors import InvalidInput
from serving.protocols.open_inference_tensors import (
    InputTensor,
    check_binary_size,
    check_data_place,
    check_json_shape,
    decode_tensor,
)

LENGTH_BYTES = 4  # of the length before each string in binary data
JSON_NUMBERS: Any = list[Number | list[Number | None] | None]

Values = list[FeatureValue]


class ColumnDecoder:
    """Decoder of the input tensors of a model whose features are not all plain numbers."""

    def __init__(self, row_decoder: RowDecoder) -> None:
        self.signature = row_decoder.signature
        self.value_types = row_decoder.value_types

    def decode(self, tensors: list[InputTensor], body: bytes, json_length: int) -> Rows:
        """Return the rows of shape (rows, features). Raises InvalidInput."""
        values_by_tensor = []
        offset = json_length
        for index, tensor in enumerate(tensors):
            values, offset = decode_values(tensor, body, offset, f"$.inputs[{index}]")
            values_by_tensor.append(values)
        check_end(body, offset, json_length)

        columns = self._to_columns(tensors, values_by_tensor)
        return self.signature.to_rows(list(zip(*columns, strict=True)))

    def _to_columns(self, tensors: list[InputTensor], values: list[Values]) -> list[Values]:
        n_features = len(self.signature.names)
        if len(tensors) == 1 and tensors[0].shape[-1] == n_features:
            by_row = np.array(values[0], dtype=object).reshape(-1, n_features)
            return [
                self._convert(index, by_row[:, index].tolist(), "$.inputs[0].data")
                for index in range(n_features)
            ]
        if len(tensors) == 1 and n_features == 1:
            return [self._convert(0, values[0], "$.inputs[0].data")]

        positions = self._find_tensors(tensors)
        check_column_shapes(tensors)
        n_rows = tensors[0].shape[0]
        columns: list[Values] = []
        for index, position in enumerate(positions):
            if position is None:
                columns.append([None] * n_rows)
            else:
                json_path = f"$.inputs[{position}].data"
                columns.append(self._convert(index, values[position], json_path))
        return columns

    def _find_tensors(self, tensors: list[InputTensor]) -> list[int | None]:
        """Return the position of each feature's tensor, or None for one that may be missing."""
        names = [tensor.name for tensor in tensors]
        required = set()
        for feature in self.signature.features:
            if not feature.nullable:
                required.add(feature.name)

        is_complete = required <= set(names) <= set(self.signature.names)
        if not names or not is_complete or len(set(names)) != len(names):
            expected = ", ".join(self.signature.names)
            raise InvalidInput(f"Expected an input for each of {expected} - at `$.inputs`")

        positions: list[int | None] = []
        for name in self.signature.names:
            positions.append(names.index(name) if name in names else None)
        return positions

    def _convert(self, index: int, values: Values, json_path: str) -> Values:
        feature = self.signature.features[index]
        if is_text(feature) and feature.nullable:
            # Binary data has no null, so a missing text is an empty one.
            values = [None if value == "" else value for value in values]
        column_type: Any = list[self.value_types[index]]  # type: ignore[name-defined]
        converted: Values = convert(values, column_type, json_path)
        return converted


def is_text(feature: FeatureInfo) -> bool:
    """Return whether the values of the feature are strings."""
    return feature.type in ("category", "text")


def decode_values(
    tensor: InputTensor, body: bytes, offset: int, json_path: str
) -> tuple[Values, int]:
    """Return the values of a tensor, flat, and the offset in `body` after its binary data.

    `offset` is where the binary data starts. Raises InvalidInput.
    """
    datatype: str = tensor.datatype
    if datatype not in ("BOOL", "BYTES"):
        if tensor.data is not None:
            tensor.data = convert(tensor.data, JSON_NUMBERS, f"{json_path}.data")
        numbers, offset = decode_tensor(tensor, body, offset, json_path)
        return [None if np.isnan(value) else value for value in numbers.ravel().tolist()], offset

    check_data_place(tensor, json_path)
    binary_size = tensor.binary_size
    if binary_size is None:
        check_json_shape(tensor, json_path)
        return flatten(tensor.data), offset

    if datatype == "BOOL":
        check_binary_size(tensor, binary_size, len(body) - offset, json_path)
        flags = np.frombuffer(body, np.uint8, binary_size, offset)
        return flags.astype(bool).tolist(), offset + binary_size

    if not 0 <= binary_size <= len(body) - offset:
        raise InvalidInput(
            f"Expected at most {len(body) - offset} bytes, got {binary_size} - at `{json_path}`"
        )
    end = offset + binary_size
    return decode_strings(body[offset:end], math.prod(tensor.shape), json_path), end


def decode_strings(data: bytes, count: int, json_path: str) -> Values:
    """Return `count` strings, each after its length. Raises InvalidInput."""
    strings: Values = []
    position = 0
    while position + LENGTH_BYTES <= len(data) and len(strings) < count:
        [length] = struct.unpack_from("<I", data, position)
        start = position + LENGTH_BYTES
        position = start + length
        try:
            strings.append(data[start:position].decode())
        except UnicodeDecodeError as error:
            raise InvalidInput(f"A string is not UTF-8 - at `{json_path}`") from error

    if len(strings) != count or position != len(data):
        raise InvalidInput(f"Expected {count} strings with their lengths - at `{json_path}`")
    return strings


def flatten(data: Any) -> Values:
    """Return the values of a list of values or of lists."""
    values: Values = []
    for item in data:
        if isinstance(item, list):
            values.extend(item)
        else:
            values.append(item)
    return values


def check_column_shapes(tensors: list[InputTensor]) -> None:
    """Raise InvalidInput unless each tensor is one column and all have the same length."""
    n_rows = tensors[0].shape[0]
    for index, tensor in enumerate(tensors):
        if tensor.shape not in ([n_rows], [n_rows, 1]):
            raise InvalidInput(
                "Expected the shape [N] or [N, 1] with the same N for every input "
                f"- at `$.inputs[{index}].shape`"
            )


def check_end(body: bytes, offset: int, json_length: int) -> None:
    """Raise InvalidInput unless the binary data ends with the body."""
    if offset != len(body):
        raise InvalidInput(
            f"Expected {offset - json_length} bytes of binary data after the JSON, "
            f"got {len(body) - json_length}"
        )

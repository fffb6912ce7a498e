"""Tensors of Open Inference Protocol V2: JSON data, and Triton's binary tensor data extension.

The values of a tensor stand in the JSON (`data`), or in the bytes after the JSON, in the order of
the tensors (`parameters.binary_data_size`).
"""

import math
import struct
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from serving.api.json_body import Number
from serving.api.values import AnyValue
from serving.model.arrays import Array, Floats
from serving.model.errors import InvalidInput
from serving.model.model import FLOAT32_MAX

NumberDatatype = Literal[
    "FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"
]
INPUT_DTYPES: dict[str, np.dtype[Any]] = {  # the extension is little-endian
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "BOOL": np.dtype("?"),
}
FEATURE_DATATYPES = {  # by the type of a feature
    "number": "FP64",
    "integer": "INT64",
    "boolean": "BOOL",
    "category": "BYTES",
    "text": "BYTES",
}
OUTPUT_DATATYPES = {  # by the kind of a numpy dtype
    "b": "BOOL",
    "i": "INT64",
    "u": "INT64",
    "f": "FP64",
    "U": "BYTES",
    "O": "BYTES",
}
OUTPUT_DTYPES = {"BOOL": "?", "INT64": "<i8", "FP64": "<f8"}

SCALAR_LENGTH = -1  # stands for the length of a number among the lengths of rows

Dimension = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Shape = Annotated[list[Dimension], Meta(min_length=1, max_length=2)]
JsonData = list[Number | list[Number]]
MixedJsonData = list[AnyValue | list[AnyValue]]


class BinaryParameters(msgspec.Struct):
    """The number of bytes after the JSON that belong to a tensor."""

    binary_data_size: int | None = None


class InputTensor(msgspec.Struct):
    """An input tensor: nested or flat data in the JSON, or binary data after it."""

    name: str
    shape: Shape
    datatype: NumberDatatype
    data: JsonData | None = None
    parameters: BinaryParameters | None = None

    @property
    def binary_size(self) -> int | None:
        """Return the number of bytes after the JSON, if the tensor has binary data."""
        if self.parameters is None:
            return None
        return self.parameters.binary_data_size


class MixedInputTensor(InputTensor):
    """An input tensor of a model whose features are not all numbers, or may be missing."""

    datatype: NumberDatatype | Literal["BOOL", "BYTES"]  # type: ignore[assignment]
    data: MixedJsonData | None = None  # type: ignore[assignment]


class OutputTensor(msgspec.Struct):
    """An output tensor: flat data in the JSON, or binary data after it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[bool | float | str] | UnsetType = UNSET
    parameters: BinaryParameters | UnsetType = UNSET


class TensorMetadata(msgspec.Struct):
    """A tensor of the model; a dimension of -1 has any size."""

    name: str
    datatype: str
    shape: list[int]


@np.errstate(all="ignore")  # the casts below are compared with the values; a warning adds nothing
def decode_tensor(
    tensor: InputTensor, body: bytes, offset: int, json_path: str
) -> tuple[Floats, int]:
    """Return the numbers in the tensor's shape, and the offset in `body` after its binary data.

    `offset` is where the binary data starts. No array is allocated before the shape is compared
    with the data that came, so the body's size bounds the memory. Raises InvalidInput.
    """
    check_data_place(tensor, json_path)
    binary_size = tensor.binary_size

    if binary_size is not None:
        check_binary_size(tensor, binary_size, len(body) - offset, json_path)
        return _decode_binary_data(tensor, body, offset, json_path), offset + binary_size
    return _decode_json_data(tensor, json_path), offset


def check_data_place(tensor: InputTensor, json_path: str) -> None:
    """Raise InvalidInput unless the tensor has JSON data or binary data."""
    if (tensor.data is None) == (tensor.binary_size is None):
        raise InvalidInput(
            f"Expected either data or parameters.binary_data_size - at `{json_path}`"
        )


def check_binary_size(
    tensor: InputTensor, binary_size: int, remaining_bytes: int, json_path: str
) -> None:
    """Raise InvalidInput unless the size is that of the shape, and as many bytes came."""
    expected = math.prod(tensor.shape) * INPUT_DTYPES[tensor.datatype].itemsize

    if binary_size != expected or binary_size > remaining_bytes:
        raise InvalidInput(
            f"Expected {expected} bytes for {tensor.datatype} of shape {tensor.shape}, "
            f"got {binary_size} with {remaining_bytes} bytes left - at `{json_path}`"
        )


def _decode_binary_data(tensor: InputTensor, body: bytes, offset: int, json_path: str) -> Floats:
    dtype = INPUT_DTYPES[tensor.datatype]
    values = np.frombuffer(body, dtype, math.prod(tensor.shape), offset).astype(np.float64)

    # The negation also finds NaN, which stands for a missing value where one is allowed.
    is_valid = np.abs(values) <= FLOAT32_MAX
    if isinstance(tensor, MixedInputTensor):
        is_valid |= np.isnan(values)
    if not is_valid.all():
        raise InvalidInput(f"Expected finite numbers of at most {FLOAT32_MAX} - at `{json_path}`")
    return values.reshape(tensor.shape)


def _decode_json_data(tensor: InputTensor, json_path: str) -> Floats:
    if tensor.datatype == "FP16":
        raise InvalidInput(f"FP16 has no JSON form: send it as binary data - at `{json_path}`")

    check_json_shape(tensor, json_path)
    values = np.array(tensor.data, dtype=np.float64).reshape(tensor.shape)
    return _round_to_datatype(values, tensor.datatype, json_path)


def check_json_shape(tensor: InputTensor, json_path: str) -> None:
    """Raise InvalidInput unless the JSON data, flat or nested, has the tensor's shape."""
    data: Any = tensor.data
    row_lengths = {len(row) if isinstance(row, list) else SCALAR_LENGTH for row in data}

    if row_lengths == {SCALAR_LENGTH}:
        matches = len(data) == math.prod(tensor.shape)
    else:
        # Rows of several lengths make a list longer than any shape.
        matches = [len(data), *row_lengths] == tensor.shape

    if not matches:
        raise InvalidInput(f"Expected data of shape {tensor.shape} - at `{json_path}.data`")


def _round_to_datatype(values: Floats, datatype: NumberDatatype, json_path: str) -> Floats:
    """Return `values` as a client that sends `datatype` in binary would have sent them."""
    dtype = INPUT_DTYPES[datatype]
    if dtype == values.dtype:
        return values

    rounded = values.astype(dtype).astype(np.float64)
    is_missing = np.isnan(values)
    rounded[is_missing] = np.nan
    if dtype.kind != "f" and not np.array_equal(rounded, values, equal_nan=True):
        raise InvalidInput(f"Expected numbers of {datatype} - at `{json_path}.data`")
    return rounded


def encode_binary_data(array: Array, datatype: str) -> bytes:
    """Return the elements of `array` in row-major order; each string follows its length."""
    if datatype != "BYTES":
        return array.astype(OUTPUT_DTYPES[datatype]).tobytes()

    parts = []
    for value in array.ravel().tolist():
        text = str(value).encode()
        parts.append(struct.pack("<I", len(text)) + text)
    return b"".join(parts)

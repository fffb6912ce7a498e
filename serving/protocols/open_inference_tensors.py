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

from serving.api.schemas import Number
from serving.model.errors import InvalidInput
from serving.model.model import FLOAT32_MAX, Array, Floats

InputDatatype = Literal[
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


class BinaryParameters(msgspec.Struct):
    """The number of bytes after the JSON that belong to a tensor."""

    binary_data_size: int | UnsetType = UNSET


class InputTensor(msgspec.Struct):
    """An input tensor: nested or flat data in the JSON, or binary data after it."""

    name: str
    shape: Shape
    datatype: InputDatatype
    data: JsonData | UnsetType = UNSET
    parameters: BinaryParameters = msgspec.field(default_factory=BinaryParameters)


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
    """Return the values in the tensor's shape, and the offset in `body` after its binary data.

    `offset` is where the binary data starts. No array is allocated before the shape is compared
    with the data that came, so the body's size bounds the memory. Raises InvalidInput.
    """
    data = tensor.data
    binary_size = tensor.parameters.binary_data_size

    if data is UNSET and binary_size is not UNSET:
        _check_binary_size(tensor, binary_size, len(body) - offset, json_path)
        return _decode_binary_data(tensor, body, offset, json_path), offset + binary_size

    if data is not UNSET and binary_size is UNSET:
        return _decode_json_data(tensor, data, json_path), offset

    raise InvalidInput(f"Expected either data or parameters.binary_data_size - at `{json_path}`")


def _check_binary_size(
    tensor: InputTensor, binary_size: int, remaining_bytes: int, json_path: str
) -> None:
    expected = math.prod(tensor.shape) * INPUT_DTYPES[tensor.datatype].itemsize

    if binary_size != expected or binary_size > remaining_bytes:
        raise InvalidInput(
            f"Expected {expected} bytes for {tensor.datatype} of shape {tensor.shape}, "
            f"got {binary_size} with {remaining_bytes} bytes left - at `{json_path}`"
        )


def _decode_binary_data(tensor: InputTensor, body: bytes, offset: int, json_path: str) -> Floats:
    dtype = INPUT_DTYPES[tensor.datatype]
    values = np.frombuffer(body, dtype, math.prod(tensor.shape), offset).astype(np.float64)

    # The negation also finds NaN.
    if not (np.abs(values) <= FLOAT32_MAX).all():
        raise InvalidInput(f"Expected finite numbers of at most {FLOAT32_MAX} - at `{json_path}`")
    return values.reshape(tensor.shape)


def _decode_json_data(tensor: InputTensor, data: JsonData, json_path: str) -> Floats:
    if tensor.datatype == "FP16":
        raise InvalidInput(f"FP16 has no JSON form: send it as binary data - at `{json_path}`")

    _check_json_shape(tensor.shape, data, json_path)
    values = np.array(data, dtype=np.float64).reshape(tensor.shape)
    return _round_to_datatype(values, tensor.datatype, json_path)


def _check_json_shape(shape: list[int], data: JsonData, json_path: str) -> None:
    row_lengths = {len(row) if isinstance(row, list) else SCALAR_LENGTH for row in data}

    if row_lengths == {SCALAR_LENGTH}:
        matches = len(data) == math.prod(shape)
    else:
        # Rows of several lengths make a list longer than any shape.
        matches = [len(data), *row_lengths] == shape

    if not matches:
        raise InvalidInput(f"Expected data of shape {shape} - at `{json_path}.data`")


def _round_to_datatype(values: Floats, datatype: InputDatatype, json_path: str) -> Floats:
    """Return `values` as a client that sends `datatype` in binary would have sent them."""
    dtype = INPUT_DTYPES[datatype]
    if dtype == values.dtype:
        return values

    rounded = values.astype(dtype).astype(np.float64)
    if dtype.kind != "f" and not np.array_equal(rounded, values):
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

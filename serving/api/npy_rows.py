"""Rows in an array of numpy's file format, and predictions in one; never in a pickle."""

import io
import math
import sys
from typing import Any

import numpy as np

from serving.api.rows import RowDecoder
from serving.model.arrays import Array, Floats, Rows
from serving.model.errors import InvalidInput
from serving.model.model import FLOAT32_MAX

READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
VALUE_KINDS = "biufU"  # of dtypes: booleans, numbers and strings
NUMBER_KINDS = "iuf"


def decode_npy(decoder: RowDecoder, body: bytes) -> Rows:
    """Return the rows in an array file, of shape (rows, features).

    An array of one dimension is one row. Raises InvalidInput.
    """
    array = read_npy(body)
    if array.ndim == 1:
        array = array[np.newaxis]
    if array.ndim != 2 or array.shape[1] != decoder.width or not len(array):
        raise InvalidInput(
            f"Expected an array of shape (rows, {decoder.width}), got {describe_shape(array.shape)}"
        )
    if decoder.is_plain_numbers:
        return to_numbers(array)

    values = array.tolist()
    if decoder.signature.has_missing:
        values = [[None if value != value else value for value in row] for row in values]
    return decoder.to_array(values, "$")


def read_npy(body: bytes) -> Array:
    """Return the array in a file of numpy's format, without any pickle. Raises InvalidInput."""
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        shape, is_fortran, dtype = READ_HEADER[version](file)
    except Exception as error:  # the header is a literal of Python, which can be wrong in any way
        raise InvalidInput("The body is not an array of numpy's file format") from error
    if dtype.hasobject or dtype.kind not in VALUE_KINDS:
        raise InvalidInput(f"Expected an array of numbers or strings, got dtype {dtype.name[:20]}")

    # `numpy.load` allocates what the header states, before it compares that with what came.
    content = memoryview(body)[file.tell() :]
    if any(length < 0 for length in shape) or len(content) != math.prod(shape) * dtype.itemsize:
        raise InvalidInput(
            f"Expected {math.prod(shape) * dtype.itemsize} bytes for {dtype.name[:20]} of shape "
            f"{describe_shape(shape)}, got {len(content)}"
        )
    if dtype.kind == "U":
        check_characters(content, dtype)
    order: Any = "F" if is_fortran else "C"
    return np.ndarray(shape, dtype, content, order=order)


def check_characters(content: memoryview, dtype: np.dtype[Any]) -> None:
    """Raise InvalidInput unless the characters of strings, of four bytes each, are Unicode."""
    characters = np.frombuffer(content, np.dtype(np.uint32).newbyteorder(dtype.byteorder))
    if characters.max(initial=0) > sys.maxunicode:
        raise InvalidInput("The array has a string that is not Unicode")


def to_numbers(array: Array) -> Floats:
    """Return an array of numbers as float64. Raises InvalidInput for any other value."""
    if array.dtype.kind not in NUMBER_KINDS:
        raise InvalidInput(f"Expected an array of numbers, got dtype {array.dtype.name[:20]}")

    with np.errstate(over="ignore"):  # a number of 128 bits becomes infinite
        numbers = array.astype(np.float64)
    # The negation also finds NaN.
    is_invalid = ~(np.abs(numbers) <= FLOAT32_MAX)
    if is_invalid.any():
        row, column = np.argwhere(is_invalid)[0].tolist()
        raise InvalidInput(
            f"Expected a finite number of at most {FLOAT32_MAX} - at `$[{row}][{column}]`"
        )
    return numbers


def describe_shape(shape: tuple[int, ...]) -> str:
    """Return a shape as numpy writes it, up to three dimensions."""
    if len(shape) > 3:
        return f"{len(shape)} dimensions"
    return str(tuple(shape))[:60]


def encode_npy(values: list[Any]) -> bytes:
    """Return numbers or strings as an array file."""
    file = io.BytesIO()
    np.save(file, np.array(values), allow_pickle=False)
    return file.getvalue()

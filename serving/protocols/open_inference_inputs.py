"""The inputs of a model in Open Inference Protocol V2: their metadata, and their tensors."""

import re
from typing import Any

from serving.api.rows import RowDecoder
from serving.model.arrays import Rows
from serving.model.card import FeatureValue
from serving.model.errors import InvalidInput
from serving.protocols.open_inference_columns import check_end
from serving.protocols.open_inference_tensors import (
    FEATURE_DATATYPES,
    InputTensor,
    TensorMetadata,
    decode_tensor,
)


def describe_inputs(row_decoder: RowDecoder) -> list[TensorMetadata]:
    """Return the input tensors of the model: one with all features if they are numbers."""
    if row_decoder.signature.is_numeric:
        return [TensorMetadata("features", "FP64", [-1, row_decoder.width])]
    return [
        TensorMetadata(feature.name, FEATURE_DATATYPES[feature.type], [-1])
        for feature in row_decoder.signature.features
    ]


def example_input(metadata: TensorMetadata, values: list[FeatureValue]) -> dict[str, Any]:
    """Return a tensor of one row."""
    shape = [1, *metadata.shape[1:]]
    return {"name": metadata.name, "shape": shape, "datatype": metadata.datatype, "data": values}


def parse_json_length(header: str | None, body_length: int) -> int:
    """Return the length of the JSON at the start of the body. Raises InvalidInput."""
    if header is None:
        return body_length

    # More digits than these name a length beyond any body, and int() refuses thousands of them.
    if re.fullmatch("[0-9]{1,18}", header) and int(header) <= body_length:
        return int(header)
    raise InvalidInput(
        f"Expected a JSON length of at most the body's {body_length} bytes, got {header[:19]} "
        "- at `Inference-Header-Content-Length`"
    )


def decode_inputs(tensors: list[InputTensor], body: bytes, json_length: int) -> list[Rows]:
    """Return the values of each tensor in its shape. Raises InvalidInput."""
    arrays = []
    offset = json_length
    for index, tensor in enumerate(tensors):
        array, offset = decode_tensor(tensor, body, offset, f"$.inputs[{index}]")
        arrays.append(array)

    check_end(body, offset, json_length)
    return arrays


def check_columns(columns: list[Rows]) -> None:
    """Raise InvalidInput unless each array is one column and all have the same length."""
    n_rows = columns[0].size
    for index, column in enumerate(columns):
        if column.size != n_rows or column.shape[1:] not in ((), (1,)):
            raise InvalidInput(
                "Expected the shape [N] or [N, 1] with the same N for every input "
                f"- at `$.inputs[{index}].shape`"
            )

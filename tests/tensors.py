"""Inference requests of Open Inference Protocol V2, as tests send them."""

from typing import Any

import msgspec

from endpoints import OPEN_INFERENCE, ROWS
from helpers import JSON

BINARY_DTYPES = {
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
}


def json_input(**members: Any) -> dict[str, Any]:
    """Return a tensor of two rows with its data in the JSON."""
    return {"name": "x", "shape": [2, 4], "datatype": "FP64", "data": ROWS} | members


def binary_input(**members: Any) -> dict[str, Any]:
    """Return a tensor of two rows with its data after the JSON."""
    tensor = {
        "name": "x",
        "shape": [2, 4],
        "datatype": "FP32",
        "parameters": {"binary_data_size": 32},
    }
    return tensor | members


def post_infer(call: Any, request: Any, *binary_parts: bytes) -> Any:
    """Send an inference request; with binary parts, as Triton's client does."""
    body = msgspec.json.encode(request)
    headers = JSON
    if binary_parts:
        # Triton's client sends no Content-Type.
        headers = {"Inference-Header-Content-Length": str(len(body))}
    return call("POST", OPEN_INFERENCE.path, body + b"".join(binary_parts), headers)

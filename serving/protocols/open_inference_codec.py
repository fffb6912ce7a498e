"""Inference requests and responses of Open Inference Protocol V2 for one model."""

import uuid
from typing import Any

import msgspec
import numpy as np

from serving.api.json_body import decode_json, reject_duplicate_keys
from serving.api.messages import JSON
from serving.api.rows import RowDecoder
from serving.model.arrays import Array, Rows
from serving.model.errors import InvalidInput
from serving.protocols.open_inference_columns import ColumnDecoder
from serving.protocols.open_inference_inputs import (
    check_columns,
    decode_inputs,
    describe_inputs,
    example_input,
    parse_json_length,
)
from serving.protocols.open_inference_outputs import (
    as_datatype,
    compute_output,
    describe_outputs,
)
from serving.protocols.open_inference_tensors import (
    BinaryParameters,
    InputTensor,
    MixedInputTensor,
    OutputTensor,
    encode_binary_data,
)

OCTET_STREAM = "application/octet-stream"
FP64_BYTES = 8
MEMBERS_PER_INPUT = 4  # name, shape, datatype, data


class OutputParameters(msgspec.Struct, forbid_unknown_fields=True):
    """How to send one output. Classification and shared memory are not supported."""

    binary_data: bool | None = None


class RequestParameters(msgspec.Struct):
    """How to send the outputs that have no `binary_data` parameter of their own."""

    binary_data_output: bool | None = None


class RequestedOutput(msgspec.Struct):
    """An output that the client requests."""

    name: str
    parameters: OutputParameters | None = None


class InferRequest(msgspec.Struct):
    """One tensor with all features, or one tensor for each; no outputs means all outputs.

    MLServer's clients send null for a member that they leave out.
    """

    inputs: list[InputTensor]
    id: str | None = None
    outputs: list[RequestedOutput] | None = None
    parameters: RequestParameters | None = None


class MixedInferRequest(InferRequest):
    """A tensor for each feature, for a model whose features are not all plain numbers."""

    inputs: list[MixedInputTensor]  # type: ignore[assignment]


class InferResponse(msgspec.Struct):
    """The outputs of one inference request."""

    model_name: str
    model_version: str
    id: str
    outputs: list[OutputTensor]


class InferCodec:
    """Decoder of inference requests and encoder of their responses for one model."""

    def __init__(self, row_decoder: RowDecoder) -> None:
        model = row_decoder.model
        self.row_decoder = row_decoder
        self.model = model
        self.n_features = model.n_features

        self.request: Any = InferRequest
        self.columns: ColumnDecoder | None = None
        if not row_decoder.is_plain_numbers:
            self.request = MixedInferRequest
            self.columns = ColumnDecoder(row_decoder)

        self.decoder = msgspec.json.Decoder(self.request)
        self.inputs = describe_inputs(row_decoder)
        self.outputs = describe_outputs(model)
        self.datatypes = {output.name: output.datatype for output in self.outputs}

    def examples(self) -> dict[str, Any]:
        """Return an example body for each media type."""
        row = self.row_decoder.example_row()
        if len(self.inputs) == 1:
            return {JSON: {"id": "1", "inputs": [example_input(self.inputs[0], row)]}}

        tensors = []
        for metadata, value in zip(self.inputs, row, strict=True):
            tensors.append(example_input(metadata, [value]))
        return {JSON: {"id": "1", "inputs": tensors}}

    def decode(self, body: bytes, json_length_header: str | None) -> tuple[Rows, InferRequest]:
        """Return the rows, of shape (rows, features), and the request.

        `json_length_header` is the length of the JSON at the start of the body, if binary data
        follows it. Raises InvalidInput.
        """
        json_length = parse_json_length(json_length_header, len(body))
        if json_length == 0 and body:
            return self._decode_raw(body), InferRequest([])

        request: InferRequest = decode_json(
            self.decoder,
            memoryview(body)[:json_length],
            nan_is_null=self.row_decoder.signature.has_missing,
        )
        reject_duplicate_keys(body[:json_length], count_members(request))
        self._check_requested_outputs(request.outputs or [])

        if self.columns:
            return self.columns.decode(request.inputs, body, json_length), request
        arrays = decode_inputs(request.inputs, body, json_length)
        return self._stack_arrays(request.inputs, arrays), request

    def _decode_raw(self, body: bytes) -> Rows:
        """Return the rows of a body that is the data of the only input, without any JSON."""
        metadata = self.inputs[0]
        if len(self.inputs) > 1 or metadata.datatype != "FP64":
            raise InvalidInput(
                "Expected JSON before the binary data: only the data of a single FP64 input "
                "may stand alone"
            )

        n_rows = max(len(body) // (self.n_features * FP64_BYTES), 1)
        shape = [n_rows, self.n_features]
        size = BinaryParameters(len(body))
        if self.columns:
            mixed_tensor = MixedInputTensor(metadata.name, shape, "FP64", parameters=size)
            return self.columns.decode([mixed_tensor], body, 0)

        tensor = InputTensor(metadata.name, shape, "FP64", parameters=size)
        [rows] = decode_inputs([tensor], body, 0)
        return rows

    def _check_requested_outputs(self, outputs: list[RequestedOutput]) -> None:
        # A repeated name is refused, which bounds the size of the response.
        available = list(self.datatypes)

        for index, output in enumerate(outputs):
            if output.name not in available:
                expected = ", ".join(available) or "no more"
                raise InvalidInput(f"Expected one of {expected} - at `$.outputs[{index}].name`")
            available.remove(output.name)

    def _stack_arrays(self, tensors: list[InputTensor], arrays: list[Rows]) -> Rows:
        names = [tensor.name for tensor in tensors]
        if len(names) == self.n_features and set(names) == set(self.model.features):
            check_columns(arrays)
            return np.column_stack([arrays[names.index(name)] for name in self.model.features])

        if len(tensors) != 1:
            raise InvalidInput(
                f"Expected one input, or {self.n_features} inputs named after the features, "
                f"got {len(tensors)} - at `$.inputs`"
            )

        rows = arrays[0]
        if rows.shape[-1] != self.n_features:
            raise InvalidInput(
                f"Expected the shape [N, {self.n_features}] or [{self.n_features}] "
                "- at `$.inputs[0].shape`"
            )
        return rows.reshape(-1, self.n_features)

    def encode(
        self, request: InferRequest, rows: Rows, prediction: Array, model_name: str
    ) -> tuple[bytes, int | None]:
        """Return the response body, and the length of its JSON if binary data follows it."""
        requested = request.outputs or [RequestedOutput(name) for name in self.datatypes]
        tensors = []
        binary_parts = []

        for output in requested:
            datatype = self.datatypes[output.name]
            array = compute_output(self.model, output.name, rows, prediction)
            array = as_datatype(array, datatype)
            tensor = OutputTensor(output.name, datatype, array.shape)

            if is_binary(output, request):
                binary_data = encode_binary_data(array, tensor.datatype)
                tensor.parameters = BinaryParameters(len(binary_data))
                binary_parts.append(binary_data)
            else:
                tensor.data = array.ravel().tolist()
            tensors.append(tensor)

        request_id = request.id or str(uuid.uuid4())
        response = InferResponse(model_name, self.model.version, request_id, tensors)
        response_json = msgspec.json.encode(response)
        if not binary_parts:
            return response_json + b"\n", None
        return b"".join([response_json, *binary_parts]), len(response_json)


def count_members(request: InferRequest) -> int:
    """Return how many members the JSON has if it is a typical request without binary data."""
    members = 1 + MEMBERS_PER_INPUT * len(request.inputs)
    if request.outputs:
        members += 1 + len(request.outputs)
    if request.id:
        members += 1
    return members


def is_binary(output: RequestedOutput, request: InferRequest) -> bool:
    """Return whether the output is sent as binary data."""
    if output.parameters and output.parameters.binary_data is not None:
        return output.parameters.binary_data
    if request.parameters:
        return bool(request.parameters.binary_data_output)
    return False

"""Inference requests and responses of Open Inference Protocol V2 for one model."""

import re
import uuid
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from serving.api.json_body import decode_json, reject_duplicate_keys
from serving.api.messages import JSON
from serving.api.rows import RowDecoder
from serving.model.arrays import Array, Rows
from serving.model.card import FeatureValue
from serving.model.errors import InvalidInput
from serving.model.model import Model
from serving.protocols.open_inference_columns import ColumnDecoder, check_end
from serving.protocols.open_inference_tensors import (
    FEATURE_DATATYPES,
    OUTPUT_DATATYPES,
    BinaryParameters,
    InputTensor,
    MixedInputTensor,
    OutputTensor,
    TensorMetadata,
    decode_tensor,
    encode_binary_data,
)

OCTET_STREAM = "application/octet-stream"
MEMBERS_PER_INPUT = 4  # name, shape, datatype, data


class OutputParameters(msgspec.Struct, forbid_unknown_fields=True):
    """How to send one output. Classification and shared memory are not supported."""

    binary_data: bool | UnsetType = UNSET


class RequestParameters(msgspec.Struct):
    """How to send the outputs that have no `binary_data` parameter of their own."""

    binary_data_output: bool = False


class RequestedOutput(msgspec.Struct):
    """An output that the client requests."""

    name: str
    parameters: OutputParameters = msgspec.field(default_factory=OutputParameters)


class InferRequest(msgspec.Struct):
    """One tensor with all features, or one tensor for each; no outputs means all outputs."""

    inputs: list[InputTensor]
    id: str = ""
    outputs: list[RequestedOutput] = []
    parameters: RequestParameters = msgspec.field(default_factory=RequestParameters)


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
        self.output_names = [output.name for output in self.outputs]

    def examples(self) -> dict[str, Any]:
        """Return an example body for each media type."""
        row = self.row_decoder.example_row()
        if len(self.inputs) == 1:
            return {JSON: {"inputs": [example_input(self.inputs[0], row)]}}

        tensors = []
        for metadata, value in zip(self.inputs, row, strict=True):
            tensors.append(example_input(metadata, [value]))
        return {JSON: {"inputs": tensors}}

    def decode(self, body: bytes, json_length_header: str | None) -> tuple[Rows, InferRequest]:
        """Return the rows, of shape (rows, features), and the request.

        `json_length_header` is the length of the JSON at the start of the body, if binary data
        follows it. Raises InvalidInput.
        """
        json_length = parse_json_length(json_length_header, len(body))

        request: InferRequest = decode_json(
            self.decoder,
            memoryview(body)[:json_length],
            nan_is_null=self.row_decoder.signature.has_missing,
        )
        reject_duplicate_keys(body[:json_length], count_members(request))
        self._check_requested_outputs(request.outputs)

        if self.columns:
            return self.columns.decode(request.inputs, body, json_length), request
        arrays = decode_inputs(request.inputs, body, json_length)
        return self._stack_arrays(request.inputs, arrays), request

    def _check_requested_outputs(self, outputs: list[RequestedOutput]) -> None:
        # A repeated name is refused, which bounds the size of the response.
        available = self.output_names.copy()

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
        requested = request.outputs or [RequestedOutput(name) for name in self.output_names]
        tensors = []
        binary_parts = []

        for output in requested:
            array = self._compute_output(output.name, rows, prediction)
            tensor = OutputTensor(output.name, OUTPUT_DATATYPES[array.dtype.kind], array.shape)

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

    def _compute_output(self, name: str, rows: Rows, prediction: Array) -> Array:
        if name == "predict":
            return prediction
        if name == "predict_proba":
            return self.model.probabilities(rows)
        return np.array([self.model.labels[value] for value in prediction.tolist()])


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


def describe_outputs(model: Model) -> list[TensorMetadata]:
    """Return the output tensors of the model, in the order of a response."""
    examples = example_predictions(model)
    datatype = OUTPUT_DATATYPES[examples.dtype.kind]
    outputs = [TensorMetadata("predict", datatype, [-1, *examples.shape[1:]])]

    if model.has_probabilities:
        outputs.append(TensorMetadata("predict_proba", "FP64", [-1, len(examples)]))
    if model.labels:
        outputs.append(TensorMetadata("label", "BYTES", [-1]))
    return outputs


def example_predictions(model: Model) -> Array:
    """Return the classes of the model, or the predictions of its reference rows.

    A regressor has no classes; its reference rows show the type and the number of values per row.
    """
    if isinstance(model.classes, np.ndarray):
        return model.classes

    reference = model.card.reference if model.card else []
    return np.array([row.prediction for row in reference] or [0.0])


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


def count_members(request: InferRequest) -> int:
    """Return how many members the JSON has if it is a typical request without binary data."""
    members = 1 + MEMBERS_PER_INPUT * len(request.inputs)
    if request.outputs:
        members += 1 + len(request.outputs)
    if request.id:
        members += 1
    return members


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


def is_binary(output: RequestedOutput, request: InferRequest) -> bool:
    """Return whether the output is sent as binary data."""
    binary_data = output.parameters.binary_data
    if binary_data is UNSET:
        return request.parameters.binary_data_output
    return binary_data

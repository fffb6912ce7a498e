"""Open Inference Protocol V2 (kserve/open-inference-protocol) with Triton's binary tensor extension."""

import math
import struct
import uuid
from typing import Annotated, Any, Literal, get_args

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from serving.api.schemas import Number, decode_json, reject_duplicate_keys
from serving.model.errors import InvalidInput
from serving.model.model import FLOAT32_MAX, Array, Floats, Model

Datatype = Literal[
    "FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"
]
# Little-endian, as the extension sends them: <f2 to <f8, <i1 to <i8, <u1 to <u8.
DTYPES = {
    name: np.dtype(f"<{name.lower()[0]}{int(name.strip('FPUINT')) // 8}")
    for name in get_args(Datatype)
}
DATATYPES = {
    "b": "BOOL",
    "i": "INT64",
    "u": "INT64",
    "f": "FP64",
    "U": "BYTES",
    "O": "BYTES",
}  # by numpy's kind
OUTPUT_DTYPES = {"INT64": "<i8", "FP64": "<f8", "BOOL": "?"}
Dimension = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Shape = Annotated[list[Dimension], Meta(min_length=1, max_length=2)]


class BinaryParameters(msgspec.Struct):
    """How many of the bytes behind the JSON are a tensor's."""

    binary_data_size: int | UnsetType = UNSET


class OutputParameters(msgspec.Struct, forbid_unknown_fields=True):
    """How an output is to be sent; classification and shared memory are other extensions, and refused."""

    binary_data: bool | UnsetType = UNSET


class RequestParameters(msgspec.Struct):
    """How the outputs are to be sent that do not say."""

    binary_data_output: bool = False


class InputTensor(msgspec.Struct):
    """An input: its data in the JSON, nested or flat, or behind it."""

    name: str
    shape: Shape
    datatype: Datatype
    data: list[Number | list[Number]] | UnsetType = UNSET
    parameters: BinaryParameters = msgspec.field(default_factory=BinaryParameters)


class RequestedOutput(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: OutputParameters = msgspec.field(default_factory=OutputParameters)


class InferRequest(msgspec.Struct):
    """What is asked: one tensor with all features, or one for each; no outputs named means all."""

    inputs: list[InputTensor]
    id: str = ""
    outputs: list[RequestedOutput] = []
    parameters: RequestParameters = msgspec.field(default_factory=RequestParameters)


class TensorMetadata(msgspec.Struct):
    """A tensor of the model; a size of -1 is any."""

    name: str
    datatype: str
    shape: list[int]


class OutputTensor(msgspec.Struct):
    """An output: its data in the JSON, flat, or behind it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[bool | float | str] | UnsetType = UNSET
    parameters: BinaryParameters | UnsetType = UNSET


class InferResponse(msgspec.Struct):
    """What is answered."""

    model_name: str
    model_version: str
    id: str
    outputs: list[OutputTensor]


class InferCodec:
    """The contract for one model."""

    def __init__(self, model: Model) -> None:
        self.model, self.width = model, model.n_features
        self.decoder = msgspec.json.Decoder(InferRequest)
        self.inputs = [TensorMetadata("features", "FP64", [-1, self.width])]
        # Where there are no classes, the card's reference rows tell what is predicted: which kind, and how many a row.
        answers = [r.prediction for r in model.card.reference] if model.card else []
        kind = (
            model.classes if isinstance(model.classes, np.ndarray) else np.array(answers or [0.0])
        )
        self.outputs = [
            TensorMetadata("predict", DATATYPES[kind.dtype.kind], [-1, *kind.shape[1:]])
        ]
        if model.has_probabilities:
            self.outputs.append(TensorMetadata("predict_proba", "FP64", [-1, len(kind)]))
        if model.labels:
            self.outputs.append(TensorMetadata("label", "BYTES", [-1]))

    def decode(self, body: bytes, header_length: str | None) -> tuple[Floats, InferRequest]:
        """Return the rows, of shape (rows, features), and the request; its JSON has a length where bytes follow.

        Raises InvalidInput.
        """
        length = len(body)
        if header_length is not None:
            if not (
                header_length.isascii()
                and header_length.isdigit()
                and int(header_length[:19]) <= length
            ):
                expected = f"Expected a JSON of at most the body's {length} bytes"
                raise InvalidInput(
                    f"{expected}, got {header_length[:19]} - at `Inference-Header-Content-Length`"
                )
            length = int(header_length)
        request: InferRequest = decode_json(self.decoder, memoryview(body)[:length])
        outputs = 1 + len(request.outputs) if request.outputs else 0
        reject_duplicate_keys(
            body[:length], 1 + 4 * len(request.inputs) + outputs + bool(request.id)
        )
        known = [output.name for output in self.outputs]
        for i, output in enumerate(request.outputs):
            if (
                output.name not in known
            ):  # a second time it is not either: what is answered is bounded as well
                raise InvalidInput(
                    f"Expected one of {', '.join(known) or 'no more'} - at `$.outputs[{i}].name`"
                )
            known.remove(output.name)
        values, at = [], length
        for i, tensor in enumerate(request.inputs):
            array, at = self._decode_tensor(tensor, f"$.inputs[{i}]", body, at)
            values.append(array)
        if at != len(body):
            raise InvalidInput(
                f"Expected {at - length} bytes behind the JSON, got {len(body) - length}"
            )
        return self._stack_tensors(request.inputs, values), request

    @staticmethod
    @np.errstate(all="ignore")  # a cast that does not fit is found by comparing
    def _decode_tensor(tensor: InputTensor, place: str, body: bytes, at: int) -> tuple[Floats, int]:
        # Nothing is made of a shape before it is compared with what came: memory is bounded by the body.
        dtype, shape, size = (
            DTYPES[tensor.datatype],
            tensor.shape,
            tensor.parameters.binary_data_size,
        )
        data: Any = tensor.data
        elements = math.prod(shape)
        if (data is UNSET) == (size is UNSET):
            raise InvalidInput(
                f"Expected either data or parameters.binary_data_size - at `{place}`"
            )
        if isinstance(size, int):
            if size != elements * dtype.itemsize or size > len(body) - at:
                needed = f"{elements * dtype.itemsize} bytes for {tensor.datatype} of shape {shape}"
                raise InvalidInput(
                    f"Expected {needed}, got {size} of {len(body) - at} that are left - at `{place}`"
                )
            values = np.frombuffer(body, dtype, elements, at).astype(np.float64)
            if not (np.abs(values) <= FLOAT32_MAX).all():
                raise InvalidInput(
                    f"Expected finite numbers of at most {FLOAT32_MAX} - at `{place}`"
                )
            return values.reshape(shape), at + size
        if tensor.datatype == "FP16":
            raise InvalidInput(f"FP16 has no JSON form: send it as binary data - at `{place}`")
        sizes = {len(row) if isinstance(row, list) else -1 for row in data}
        if elements != len(data) if sizes == {-1} else shape != [len(data), *sizes]:
            raise InvalidInput(f"Expected data of shape {shape} - at `{place}.data`")
        values = np.array(data, dtype=np.float64).reshape(shape)
        if dtype == values.dtype:
            return values, at
        cast = values.astype(dtype).astype(np.float64)
        if dtype.kind != "f" and not np.array_equal(cast, values):
            raise InvalidInput(f"Expected numbers of {tensor.datatype} - at `{place}.data`")
        return cast, at

    def _stack_tensors(self, tensors: list[InputTensor], values: list[Floats]) -> Floats:
        names = [tensor.name for tensor in tensors]
        if len(names) == self.width and set(names) == set(self.model.features):
            for i, column in enumerate(values):
                if column.size != len(values[0]) or column.shape[1:] not in ((), (1,)):
                    raise InvalidInput(
                        f"Expected the shape [N] or [N, 1], for all the same - at `$.inputs[{i}].shape`"
                    )
            return np.column_stack([values[names.index(name)] for name in self.model.features])
        if len(tensors) != 1:
            expected = f"Expected one input, or {self.width} that are named after the features"
            raise InvalidInput(f"{expected}, got {len(tensors)} - at `$.inputs`")
        if values[0].shape[-1] != self.width:
            raise InvalidInput(
                f"Expected the shape [N, {self.width}] or [{self.width}] - at `$.inputs[0].shape`"
            )
        return values[0].reshape(-1, self.width)

    def encode(
        self, request: InferRequest, rows: Floats, prediction: Array, name: str
    ) -> tuple[bytes, int | None]:
        """Return the answer, and the length of its JSON where bytes follow it."""
        wanted = request.outputs or [RequestedOutput(output.name) for output in self.outputs]
        outputs, blobs = [], []
        for output in wanted:
            array = self._compute_output(output.name, rows, prediction)
            sent = OutputTensor(output.name, DATATYPES[array.dtype.kind], array.shape)
            binary = output.parameters.binary_data
            if request.parameters.binary_data_output if binary is UNSET else binary:
                blobs.append(_to_bytes(array, sent.datatype))
                sent.parameters = BinaryParameters(len(blobs[-1]))
            else:
                sent.data = array.ravel().tolist()
            outputs.append(sent)
        answer = InferResponse(name, self.model.version, request.id or str(uuid.uuid4()), outputs)
        header = msgspec.json.encode(answer)
        return (b"".join([header, *blobs]), len(header)) if blobs else (header + b"\n", None)

    def _compute_output(self, name: str, rows: Floats, prediction: Array) -> Array:
        if name == "predict":
            return prediction
        if name == "predict_proba":
            return self.model.probabilities(rows)
        return np.array([self.model.labels[value] for value in prediction.tolist()])


def _to_bytes(array: Array, datatype: str) -> bytes:
    if datatype == "BYTES":  # each element behind its length
        texts = [str(value).encode() for value in array.ravel().tolist()]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return array.astype(OUTPUT_DTYPES[datatype]).tobytes()

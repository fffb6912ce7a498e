"""The outputs of a model in Open Inference Protocol V2: their metadata and their values."""

import numpy as np

from serving.model.arrays import Array, Rows
from serving.model.model import Model
from serving.protocols.open_inference_tensors import OUTPUT_DATATYPES, TensorMetadata


def list_outputs(model: Model) -> list[str]:
    """Return the names of the outputs, in the order of a response."""
    names = ["predict"]
    if model.has_probabilities:
        names.append("predict_proba")
    if model.has_labels:
        names.append("label")
    return names


def compute_output(model: Model, name: str, rows: Rows, prediction: Array) -> Array:
    """Return one output for `rows`, whose predictions are known. Raises InvalidInput."""
    if name == "predict":
        return prediction
    if name == "predict_proba":
        return model.probabilities(rows)
    return np.array([model.labels[value] for value in prediction.tolist()])


def as_datatype(array: Array, datatype: str) -> Array:
    """Return integers as floats where the metadata of the output says FP64."""
    if datatype == "FP64" and array.dtype.kind in "iu":
        return array.astype(np.float64)
    return array


def describe_outputs(model: Model) -> list[TensorMetadata]:
    """Return the output tensors of the model, with the types and shapes of its answers.

    They are those for its example rows, because `classes_` does not tell: an outlier detector has
    none, and a model of several labels has as many columns as labels. A regressor may return
    integers for some rows, and its output is FP64 all the same.
    """
    rows = model.example_rows()
    prediction = model.predict(rows)

    outputs = []
    for name in list_outputs(model):
        array = compute_output(model, name, rows, prediction)
        datatype = OUTPUT_DATATYPES[array.dtype.kind]
        if datatype == "INT64" and model.is_regressor:
            datatype = "FP64"
        outputs.append(TensorMetadata(name, datatype, [-1, *array.shape[1:]]))
    return outputs

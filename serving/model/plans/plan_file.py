"""Plan files: a prediction plan as data in MessagePack, from which nothing can be executed.

Each object of a plan is written as the arguments that its constructor takes, which it keeps under
the same names, as estimators of scikit-learn keep their parameters.
"""

import inspect
from typing import Any

import msgspec
import numpy as np

from serving.model.arrays import Array
from serving.model.errors import ModelError, describe_error
from serving.model.plans.bayes import GaussianBayesPredictor
from serving.model.plans.columns import LookupColumn, NumberColumn
from serving.model.plans.ensembles import BoostingPredictor, ForestPredictor
from serving.model.plans.linear import LinearClassifier, LinearRegressor
from serving.model.plans.networks import NetworkPredictor
from serving.model.plans.plan import Plan
from serving.model.plans.support_vectors import (
    Kernel,
    SupportVectorClassifier,
    SupportVectorRegressor,
)
from serving.model.plans.trees import FlatTrees

# Another number whenever an older file would be read differently.
FORMAT = 1

OBJECTS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        BoostingPredictor,
        FlatTrees,
        ForestPredictor,
        GaussianBayesPredictor,
        Kernel,
        LinearClassifier,
        LinearRegressor,
        LookupColumn,
        NetworkPredictor,
        NumberColumn,
        Plan,
        SupportVectorClassifier,
        SupportVectorRegressor,
    )
}
# Of elements whose bytes are their values: booleans, integers, floats and texts.
ARRAY_KINDS = "biufU"


class PlanFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a plan file; `sha256` is the digest of the pickle that it was made from."""

    format: int
    sha256: str
    plan: Any


def encode_plan(plan: Plan, sha256: str) -> bytes:
    """Return the content of the plan file of the pickle with this digest.

    Raises ModelError for an array of another kind of elements, such as sparse coefficients.
    """
    return msgspec.msgpack.encode(PlanFile(FORMAT, sha256, _to_data(plan)))


def decode_plan(content: bytes, sha256: str) -> Plan:
    """Return the plan in a file. Raises ModelError if it is no plan, or that of another pickle."""
    try:
        file = msgspec.msgpack.decode(content, type=PlanFile)
        if file.format != FORMAT:
            raise ModelError(f"plan file of format {file.format}, not {FORMAT}: export it again")
        if file.sha256 != sha256:
            raise ModelError(
                f"the plan is of the model {file.sha256[:12]}, the model card of {sha256[:12]}: "
                "export it again"
            )
        plan = _from_data(file.plan)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"it is no plan file: {describe_error(error)}") from error
    if not isinstance(plan, Plan):
        raise ModelError("it is no plan file")
    return plan


def _to_data(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _array_to_data(value)
    if isinstance(value, list | tuple):
        return [_to_data(element) for element in value]
    if isinstance(value, np.generic):
        return value.item()

    name = type(value).__name__
    if OBJECTS.get(name) is type(value):
        arguments = {}
        for argument in inspect.signature(type(value)).parameters:
            arguments[argument] = _to_data(getattr(value, argument))
        return {"object": name, "arguments": arguments}
    if isinstance(value, bool | int | float | str | None):
        return value
    raise ModelError(f"{name} cannot be written into a plan file")


def _array_to_data(array: Array) -> dict[str, Any]:
    shape = list(array.shape)
    if array.dtype == object:  # classes of a DataFrame are texts in objects
        return {"values": [_to_data(value) for value in array.ravel().tolist()], "shape": shape}
    if array.dtype.kind not in ARRAY_KINDS:
        raise ModelError(f"an array of {array.dtype} cannot be written into a plan file")
    little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return {"dtype": little_endian.dtype.str, "bytes": little_endian.tobytes(), "shape": shape}


def _from_data(data: Any) -> Any:
    if isinstance(data, list):
        return tuple(_from_data(element) for element in data)
    if not isinstance(data, dict):
        return data
    if "object" in data:
        arguments = {name: _from_data(value) for name, value in data["arguments"].items()}
        return OBJECTS[data["object"]](**arguments)
    if "values" in data:
        return np.array(data["values"], dtype=object).reshape(data["shape"])

    dtype = np.dtype(data["dtype"])
    if dtype.kind not in ARRAY_KINDS:
        raise ValueError(f"array of {dtype}")
    return np.frombuffer(data["bytes"], dtype).reshape(data["shape"])

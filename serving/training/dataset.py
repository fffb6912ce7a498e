"""Training data: arrays, DataFrames or texts, and the signature that they have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from serving.model.arrays import Array
from serving.model.card import FeatureInfo, FeatureType, InputKind, PredictionValue
from serving.model.signature import Signature
from serving.training.features import Column, DataError, describe_feature, to_column

FRAME_LIBRARIES: dict[str, InputKind] = {"pandas": "pandas", "polars": "polars"}


@dataclass(frozen=True)
class Dataset:
    """The training data.

    `X` is an array of shape (rows, features), a DataFrame of pandas or polars, or a list of texts.
    `y` has the shape (rows,), or (rows, outputs) for several outputs, or is None for an outlier
    detector. `feature_names` are those of an array, with the unit in parentheses if there is one.
    `labels` are the names of classes. `types` and `nullable` replace what the data tells about a
    feature, by its name.
    """

    X: Any
    y: Any = None
    feature_names: Sequence[str] = ()
    labels: Mapping[PredictionValue, str] = field(default_factory=dict)
    source: str = ""
    types: Mapping[str, FeatureType] = field(default_factory=dict)
    nullable: Mapping[str, bool] = field(default_factory=dict)

    @classmethod
    def from_sklearn(cls, bunch: Any, source: str = "") -> "Dataset":
        """Return the data of a dataset of scikit-learn, such as `load_wine()`.

        Names of a target that are no names of classes are left out.
        """
        y = np.asarray(bunch.target)
        names = getattr(bunch, "target_names", None)
        labels: dict[PredictionValue, str] = {}
        if names is not None and y.ndim == 1 and y.dtype.kind in "iu":
            labels = dict(enumerate(map(str, names)))
        return cls(
            X=bunch.data,
            y=y,
            feature_names=list(map(str, getattr(bunch, "feature_names", ()))),
            labels=labels,
            source=source,
        )


class TrainingData:
    """The training data as the service will build it, so that training and serving agree.

    `X` is what the estimator is fitted on, made from the rows by the signature of the model card.
    Raises DataError.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.input_kind = find_input_kind(dataset.X)

        columns = split_columns(dataset, self.input_kind)
        self.features = [self._describe(column) for column in columns]
        self.signature = Signature(self.features, self.input_kind)

        if self.input_kind == "array" and self.signature.is_numeric:
            self.rows = np.asarray(dataset.X, dtype=np.float64)
        else:
            values = list(zip(*[column.values for column in columns], strict=True))
            self.rows = self.signature.to_rows(values)
        self.X = self.signature.to_input(self.rows)
        self.y: Array | None = None
        if dataset.y is not None:
            self.y = np.asarray(dataset.y)
            check_lengths(self.rows, self.y)

    def _describe(self, column: Column) -> FeatureInfo:
        feature_type = self.dataset.types.get(column.name)
        if self.input_kind == "texts":
            feature_type = "text"  # however few different ones there are
        return describe_feature(column, feature_type, self.dataset.nullable.get(column.name))

    def label(self, value: PredictionValue) -> str:
        """Return the name of a class."""
        return self.dataset.labels.get(value, str(value))


def find_input_kind(X: Any) -> InputKind:
    """Return how an estimator that is fitted on `X` is asked. Raises DataError."""
    library = type(X).__module__.partition(".")[0]
    if library in FRAME_LIBRARIES and hasattr(X, "columns"):
        return FRAME_LIBRARIES[library]
    if library == "scipy":
        raise DataError("a sparse matrix cannot be served; vectorize in the estimator's pipeline")

    array = np.asarray(X)
    if array.ndim == 1 and array.dtype.kind in "UO" and isinstance(array[0], str):
        return "texts"
    if array.ndim != 2:
        raise DataError(f"X has the shape {array.shape}; expected (rows, features), or texts")
    return "array"


def split_columns(dataset: Dataset, input_kind: InputKind) -> list[Column]:
    """Return the columns of the data. Raises DataError."""
    X = dataset.X
    if input_kind == "texts":
        [name] = dataset.feature_names or ["text"]
        return [to_column(name, X)]

    if input_kind == "array":
        array = np.asarray(X)
        names = list(dataset.feature_names) or [f"x{i}" for i in range(array.shape[1])]
        names = [str(name) if isinstance(name, str) else name for name in names]  # numpy's strings
        if len(names) != array.shape[1]:
            raise DataError(f"{len(names)} feature names for {array.shape[1]} columns")
        check_names(names)
        return [to_column(name, column) for name, column in zip(names, array.T, strict=True)]

    check_names(list(X.columns))
    # polars writes the categories of an Enum behind its name.
    return [to_column(name, X[name], str(X[name].dtype).partition("(")[0]) for name in X.columns]


def check_names(names: list[Any]) -> None:
    """Raise DataError unless the names of the features are distinct strings."""
    for name in names:
        if not isinstance(name, str):
            raise DataError(f"the name of a column must be a string, not {name!r}")
        if names.count(name) > 1:
            raise DataError(f"two columns have the name `{name}`")


def check_lengths(rows: Array, y: Array) -> None:
    """Raise DataError unless there is a target for each row."""
    if len(y) != len(rows):
        raise DataError(f"X has {len(rows)} rows, y has {len(y)}")


def digest_content(*arrays: Any) -> bytes:
    """Return the values of `arrays` as JSON, for a digest."""
    lists = [None if array is None else np.asarray(array).tolist() for array in arrays]
    return msgspec.json.encode(lists)

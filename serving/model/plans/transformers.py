"""The columns that fitted transformers make, of those that treat each column on its own."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils import check_array

from serving.model.plans.columns import (
    FILL_MISSING,
    CategoryColumn,
    Column,
    LookupColumn,
    NoPlanError,
    NumberColumn,
    Step,
    is_of_sklearn,
)
from serving.model.plans.encoders import encoded_columns

Columns = list[Column]


def transformed_columns(transformer: Any, columns: Columns) -> Columns:
    """Return what `transformer` makes of `columns`. Raises NoPlanError if that is not known."""
    if transformer is None or transformer == "passthrough":
        return columns

    kind = type(transformer).__name__
    make_columns = TRANSFORMERS.get(kind)
    if make_columns is None or not is_of_sklearn(transformer):
        raise NoPlanError(f"{kind} has no plan")
    return make_columns(transformer, columns)


def _after_steps(column: Column, *steps: Step) -> Column:
    if isinstance(column, CategoryColumn):
        raise NoPlanError("arithmetic on a category")
    return column.after(*steps)


def _standard_scaler(scaler: Any, columns: Columns) -> Columns:
    return _shifted_and_divided(columns, scaler.mean_ if scaler.with_mean else None, scaler.scale_)


def _robust_scaler(scaler: Any, columns: Columns) -> Columns:
    return _shifted_and_divided(columns, scaler.center_, scaler.scale_)


def _shifted_and_divided(columns: Columns, shifts: Any, divisors: Any) -> Columns:
    """Return `columns` less `shifts`, divided by `divisors`; either is None if it is not done."""
    if shifts is not None:
        columns = _with_operands(columns, "subtract", shifts)
    if divisors is not None:
        columns = _with_operands(columns, "divide", divisors)
    return columns


def _min_max_scaler(scaler: Any, columns: Columns) -> Columns:
    columns = _with_operands(columns, "multiply", scaler.scale_)
    columns = _with_operands(columns, "add", scaler.min_)
    if scaler.clip:
        columns = _clipped(columns, *scaler.feature_range)
    return columns


def _max_abs_scaler(scaler: Any, columns: Columns) -> Columns:
    columns = _with_operands(columns, "divide", scaler.scale_)
    if getattr(scaler, "clip", False):
        columns = _clipped(columns, -1.0, 1.0)
    return columns


def _with_operands(columns: Columns, function: str, operands: Sequence[float]) -> Columns:
    """Return `columns` after one step, each with its operand."""
    made = []
    for column, operand in zip(columns, operands, strict=True):
        made.append(_after_steps(column, (function, float(operand))))
    return made


def _clipped(columns: Columns, minimum: float, maximum: float) -> Columns:
    steps = [("maximum", float(minimum)), ("minimum", float(maximum))]
    return [_after_steps(column, *steps) for column in columns]


def _simple_imputer(imputer: Any, columns: Columns) -> Columns:
    if imputer.missing_values is not None and imputer.missing_values == imputer.missing_values:
        raise NoPlanError("SimpleImputer of a value that stands for a missing one")

    made: Columns = []
    for column, statistic in zip(columns, imputer.statistics_, strict=True):
        if statistic is None or statistic != statistic:
            raise NoPlanError("SimpleImputer of a feature without any value")
        if isinstance(column, CategoryColumn):
            made.append(CategoryColumn(column.source, statistic))
        else:
            made.append(column.after((FILL_MISSING, float(statistic))))

    if imputer.add_indicator:
        for index in imputer.indicator_.features_:
            made.append(_indicator(columns[index]))
    return made


def _indicator(column: Column) -> LookupColumn:
    """Return a column that is 1 where the value is missing, and else 0."""
    if isinstance(column, LookupColumn) or (isinstance(column, NumberColumn) and column.steps):
        raise NoPlanError("a MissingIndicator after another transformer")
    return LookupColumn(column.source, (), np.array([0.0, 1.0]), refused=(False, False))


def _function_transformer(transformer: Any, columns: Columns) -> Columns:
    function = transformer.func
    if isinstance(function, partial) and function.func is check_array:
        function = None  # HistGradientBoosting validates its numbers so
    if function is None:
        return columns
    name = getattr(function, "__name__", "")
    is_of_numpy = isinstance(function, np.ufunc) and getattr(np, name, None) is function
    takes_one_array = is_of_numpy and function.signature is None and function.nargs == 2
    if not takes_one_array or transformer.kw_args:
        raise NoPlanError("FunctionTransformer of a function that is not numpy's")
    return [_after_steps(column, (name, 0.0)) for column in columns]


def _pipeline(pipeline: Any, columns: Columns) -> Columns:
    for _, step in pipeline.steps:
        columns = transformed_columns(step, columns)
    return columns


def _feature_union(union: Any, columns: Columns) -> Columns:
    if union.transformer_weights:
        raise NoPlanError("FeatureUnion with weights")
    made: Columns = []
    for _, transformer in union.transformer_list:
        if transformer != "drop":
            made += transformed_columns(transformer, columns)
    return made


def _column_transformer(transformer: Any, columns: Columns) -> Columns:
    if transformer.transformer_weights:
        raise NoPlanError("ColumnTransformer with weights")

    names = list(getattr(transformer, "feature_names_in_", ()))
    made: Columns = []
    for _, part, selection in transformer.transformers_:
        selected = [columns[index] for index in _selected_indices(selection, names, len(columns))]
        if selected and not (isinstance(part, str) and part == "drop"):
            made += transformed_columns(part, selected)
    return made


def _selected_indices(selection: Any, names: list[str], n_columns: int) -> list[int]:
    """Return the indices of the columns that a ColumnTransformer was told by name or position."""
    if isinstance(selection, slice):
        if isinstance(selection.start, str) or isinstance(selection.stop, str):
            raise NoPlanError("ColumnTransformer with a slice of names")
        return list(range(n_columns)[selection])
    if isinstance(selection, str | int):
        selection = [selection]

    chosen = list(selection)
    if chosen and all(isinstance(item, bool | np.bool_) for item in chosen):
        return np.flatnonzero(chosen).tolist()
    return [names.index(item) if isinstance(item, str) else int(item) for item in chosen]


def _feature_selection(selector: Any, columns: Columns) -> Columns:
    return [columns[index] for index in selector.get_support(indices=True)]


TRANSFORMERS: dict[str, Callable[[Any, Columns], Columns]] = {
    "ColumnTransformer": _column_transformer,
    "FeatureUnion": _feature_union,
    "FunctionTransformer": _function_transformer,
    "MaxAbsScaler": _max_abs_scaler,
    "MinMaxScaler": _min_max_scaler,
    "OneHotEncoder": encoded_columns,
    "OrdinalEncoder": encoded_columns,
    "Pipeline": _pipeline,
    "RobustScaler": _robust_scaler,
    "SelectFromModel": _feature_selection,
    "SelectKBest": _feature_selection,
    "SelectPercentile": _feature_selection,
    "SimpleImputer": _simple_imputer,
    "StandardScaler": _standard_scaler,
    "TargetEncoder": encoded_columns,
    "VarianceThreshold": _feature_selection,
}

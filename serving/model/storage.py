"""Pickles: save a model with its card, and load it after verification."""

import hashlib
import io
import os
import re
from pathlib import Path
from pickle import PicklingError
from typing import Any

import joblib
import msgspec
from sklearn.utils.validation import check_is_fitted

from serving.model.arrays import Rows
from serving.model.card import FeatureValue, ModelCard, PlanInfo, ReferenceRow
from serving.model.errors import ModelError, one_line
from serving.model.estimator_model import EstimatorModel
from serving.model.formats import decompress
from serving.model.imports import OWN_FILE
from serving.model.libraries import (
    check_libraries,
    check_own_source,
    library_versions,
    own_source_digest,
)
from serving.model.unpickling import restricted_loads

PICKLE_PROTOCOL = 4  # the default before Python 3.14, so that the bytes stay the same
PROBABILITY_DECIMALS = 12

# Rows for which a prediction plan is compared with its estimator.
MAX_ROWS_AT_TRAINING = 100_000
MAX_ROWS_AT_START = 1000


def save_model(
    path: Path,
    estimator: Any,
    *,
    reference: Rows | list[list[FeatureValue]],
    training_rows: Rows | None = None,
    **card_fields: Any,
) -> ModelCard:
    """Write `estimator` to `path` and its card beside it, both or neither, and return the card.

    `reference` holds the values of some rows, which are scored and stored for the self-test. The
    prediction plan is compared for these, or for `training_rows`, of shape (rows, features).
    `card_fields` are the other members of ModelCard. The pickle is read back as `load_model` does
    before a file is replaced. Raises ModelError if it cannot be, or if the card and the estimator
    disagree, InvalidInput if the estimator cannot score `reference`, OSError if a file cannot be
    written.
    """
    model_bytes = _dump(estimator)
    unpickled = restricted_loads(model_bytes)

    card = ModelCard(
        sha256=hashlib.sha256(model_bytes).hexdigest(),
        estimator=describe_estimator(estimator),
        libraries=library_versions(unpickled.modules),
        reference=[],
        prediction_plan=PlanInfo(),
        transformers_sha256=own_source_digest(unpickled.modules) or msgspec.UNSET,
        **card_fields,
    )
    model = EstimatorModel(estimator, card.sha256, card)
    card = msgspec.structs.replace(card, reference=_reference_rows(model, reference))
    card = msgspec.structs.replace(
        card, prediction_plan=_describe_plan(unpickled.value, card, training_rows)
    )
    _test_model(EstimatorModel(unpickled.value, card.sha256, card))

    card_bytes = msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"
    write_files_atomically({path: model_bytes, path.with_suffix(".json"): card_bytes})
    return card


def describe_estimator(estimator: Any) -> str:
    """Return the estimator with its parameters in one line, the same in each process."""
    return re.sub(" at 0x[0-9a-f]+", "", " ".join(repr(estimator).split()))


def unpickle_model(
    model_bytes: bytes, digest: str, card: ModelCard | None, *, use_plan: bool
) -> EstimatorModel:
    """Return the model of a pickle with this digest, as `load_model` does. Raises ModelError."""
    if card is not None:
        if card.sha256 != digest:
            raise ModelError(
                f"SHA-256 mismatch: the file has {digest}, its model card lists {card.sha256}"
            )
        check_libraries(card.libraries)
        check_own_source(card.transformers_sha256 or None)

    estimator = restricted_loads(decompress(model_bytes)).value
    check_is_fitted(estimator)
    model = EstimatorModel(estimator, digest, card, use_plan=use_plan)
    _test_model(model)
    return model


def write_files_atomically(contents: dict[Path, bytes]) -> None:
    """Write all files, or leave all of them as they were. Raises OSError."""
    # A full disk leaves the old files. A crash between two replacements leaves files whose digests
    # differ, which `load_model` rejects.
    temporary_paths = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in contents}
    try:
        for path, content in contents.items():
            with temporary_paths[path].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, temporary_path in temporary_paths.items():
            temporary_path.replace(path)
    finally:
        for temporary_path in temporary_paths.values():
            temporary_path.unlink(missing_ok=True)


def _describe_plan(estimator: Any, card: ModelCard, training_rows: Rows | None) -> PlanInfo:
    """Return the prediction plan of `estimator`, if it answers as the estimator does."""
    model = EstimatorModel(
        estimator, card.sha256, msgspec.structs.replace(card, prediction_plan=msgspec.UNSET)
    )
    if training_rows is None:
        training_rows = model.example_rows()
    compared_rows = model.admit_plan(training_rows, MAX_ROWS_AT_TRAINING)
    if model.plan:
        return PlanInfo(kind=model.plan.name, compared_rows=compared_rows)
    return PlanInfo(reason=model.plan_refusal)


def _test_model(model: EstimatorModel) -> None:
    """Run the self-test, and compare a plan that was not compared at training."""
    model.self_test()
    model.test_estimator()
    if model.card is None or model.card.prediction_plan is msgspec.UNSET:
        model.admit_plan(model.example_rows(), MAX_ROWS_AT_START)


def _dump(estimator: Any) -> bytes:
    """Return the pickle of `estimator`, uncompressed. Raises ModelError if it has none."""
    buffer = io.BytesIO()
    try:
        joblib.dump(estimator, buffer, protocol=PICKLE_PROTOCOL)
    except (PicklingError, AttributeError, TypeError) as error:
        raise ModelError(
            f"the estimator cannot be pickled: {one_line(error)}; "
            f"a lambda or an inner function must be a named function in {OWN_FILE}"
        ) from error
    return buffer.getvalue()


def _reference_rows(
    model: EstimatorModel, values: Rows | list[list[FeatureValue]]
) -> list[ReferenceRow]:
    rows = model.signature.to_rows(values)
    predictions = model.predict(rows).tolist()
    probabilities: list[list[float] | None] = [None] * len(rows)
    if model.has_probabilities:
        # Rounded, the card has the same bytes on each processor; the self-test has a tolerance.
        probabilities = model.probabilities(rows).round(PROBABILITY_DECIMALS).tolist()

    return [
        ReferenceRow(features, prediction, probability)
        for features, prediction, probability in zip(
            model.signature.to_values(rows), predictions, probabilities, strict=True
        )
    ]

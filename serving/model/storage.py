"""Model files: save a model with its card, and load it after verification."""

import hashlib
import io
import logging
import os
import platform
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import sklearn
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted

from serving.model.arrays import Rows
from serving.model.card import FeatureValue, ModelCard, ReferenceRow
from serving.model.errors import ModelError, describe_error
from serving.model.model import Model
from serving.model.unpickling import restricted_loads

PICKLE_PROTOCOL = 4  # the default before Python 3.14, so that the bytes stay the same
PROBABILITY_DECIMALS = 12

log = logging.getLogger(__name__)


def save_model(
    path: Path, estimator: Any, *, reference: Rows | list[list[FeatureValue]], **card_fields: Any
) -> ModelCard:
    """Write `estimator` to `path` and its card beside it, both or neither, and return the card.

    `reference` holds the values of some rows, which are scored and stored for the self-test.
    `card_fields` are the other members of ModelCard. Raises ModelError if the card and the
    estimator disagree, InvalidInput if the estimator cannot score `reference`, OSError if a file
    cannot be written.
    """
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer, protocol=PICKLE_PROTOCOL)
    model_bytes = buffer.getvalue()

    card = ModelCard(
        sha256=hashlib.sha256(model_bytes).hexdigest(),
        estimator=" ".join(repr(estimator).split()),
        libraries=_library_versions(),
        reference=[],
        **card_fields,
    )
    model = Model(estimator, card.sha256, card)
    card = msgspec.structs.replace(card, reference=_reference_rows(model, reference))
    card_bytes = msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"

    write_files_atomically({path: model_bytes, path.with_suffix(".json"): card_bytes})
    return card


def load_model(path: Path, sha256: str = "") -> Model:
    """Return the model in `path`, verified before anything in it runs.

    The file is read once. The steps are: compare the digest with `sha256`, if given, and with the
    card; compare the version of scikit-learn; unpickle with an allow-list; run the self-test. A
    pickle without a card is loaded with a warning. Raises ModelError.
    """
    try:
        model_bytes = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; `python train.py` writes one") from error
    digest = hashlib.sha256(model_bytes).hexdigest()
    if sha256 and digest != sha256.lower():
        raise ModelError(
            f"{path}: SHA-256 mismatch: the file has {digest}, MODEL_SHA256 is {sha256}"
        )

    try:
        card = _load_card(path.with_suffix(".json"), digest)
        estimator = restricted_loads(model_bytes)
        check_is_fitted(estimator)
        model = Model(estimator, digest, card)
        model.self_test()
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except InconsistentVersionWarning as warning:
        message = _version_mismatch(warning.original_sklearn_version)
        raise ModelError(f"{path}: {message}") from warning
    except Exception as error:  # a broken pickle can raise anything
        raise ModelError(f"{path}: cannot be loaded as a model: {describe_error(error)}") from error

    if card is None:
        log.warning(
            "%s has no model card: no feature names, labels, drift reference or self-test", path
        )
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


def _load_card(path: Path, digest: str) -> ModelCard | None:
    try:
        card = msgspec.json.decode(path.read_bytes(), type=ModelCard)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model card {path.name} cannot be read: {describe_error(error)}"
        ) from error

    if card.sha256 != digest:
        raise ModelError(
            f"SHA-256 mismatch: the file has {digest}, model card {path.name} lists {card.sha256}"
        )
    card_version = card.libraries.get("scikit-learn")
    if card_version != sklearn.__version__:
        raise ModelError(_version_mismatch(card_version))
    return card


def _reference_rows(model: Model, values: Rows | list[list[FeatureValue]]) -> list[ReferenceRow]:
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


def _version_mismatch(version: str | None) -> str:
    # An estimator of another version may load, and predict something else without an error.
    installed = sklearn.__version__
    if version is None:
        return f"trained with an unknown scikit-learn version, {installed} is installed; retrain"
    return (
        f"trained with scikit-learn {version}, {installed} is installed; "
        f"retrain or install {version}"
    )


def _library_versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "joblib": joblib.__version__,
    }

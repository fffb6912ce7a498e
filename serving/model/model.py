"""The model as a value: save, load (verify, then unpickle), predict. Knows no Flask."""

import hashlib
import io
import logging
import os
import platform
import traceback
import warnings
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted

from serving.model.linear import as_linear_classifier
from serving.model.unpickling import restricted_loads

Floats = NDArray[np.float64]
Array = NDArray[Any]
Value = bool | int | float | str  # what a prediction is once it leaves numpy

# Beyond float32 there is no measurement, only overflow: trees refuse it, sums of products turn infinite.
FLOAT32_MAX = float(np.finfo(np.float32).max)

log = logging.getLogger(__name__)


class ModelError(Exception):
    """A model that must not be served; the text is one line that says why."""


class InvalidInput(ValueError):
    """Rows that the model cannot score; the text says what is wrong and where."""


class FeatureInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column of the training data: `shares[i]` of its rows lie between `edges[i]` and `edges[i + 1]`."""

    name: str
    unit: str | None
    minimum: float
    maximum: float
    edges: list[float]
    shares: list[float]


class ClassInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One class: the value that the estimator returns, its human name, its share of the training rows."""

    value: Value
    label: str
    share: float


class ReferenceRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row with the answer that the estimator gave on the day it was saved."""

    features: list[float]
    prediction: Any
    probability: list[float] | None


class ModelCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model card: everything that is said about a pickle, tied to it by its digest."""

    name: str
    sha256: str
    estimator: str
    libraries: dict[str, str]
    features: list[FeatureInfo]
    classes: list[ClassInfo]
    rows: int
    metrics: dict[str, Any]
    data: dict[str, str]
    reference: list[ReferenceRow]


class Model:
    """A fitted estimator with its model card, if it has one."""

    def __init__(self, estimator: Any, sha256: str, card: ModelCard | None) -> None:
        if not hasattr(estimator, "predict"):
            raise ModelError(f"{type(estimator).__name__} has no predict")
        if hasattr(estimator, "feature_names_in_"):
            # Rows are bare numbers here, in the order of the card; the names were checked where there were any.
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
        self.estimator = estimator
        self.sha256 = sha256
        self.card = card
        self.version = sha256[:12]
        self.features = [feature.name for feature in card.features] if card else []
        self.labels = {c.value: c.label for c in card.classes} if card else {}
        self.n_features: int = len(card.features) if card else estimator.n_features_in_
        # A multi-output classifier has a list of arrays here, and answers a list of probability tables.
        self.classes = getattr(estimator, "classes_", None)
        if (
            card
            and isinstance(self.classes, np.ndarray)
            and list(self.labels) != self.classes.tolist()
        ):
            raise ModelError(
                f"its card says classes {list(self.labels)}, the estimator {self.classes.tolist()}"
            )
        if getattr(estimator, "n_features_in_", self.n_features) != self.n_features:
            raise ModelError(
                f"its card says {self.n_features} features, the estimator {estimator.n_features_in_}"
            )
        self.linear = as_linear_classifier(estimator)
        self.has_probabilities = isinstance(self.classes, np.ndarray) and hasattr(
            estimator, "predict_proba"
        )

    def predict(self, rows: Floats) -> Array:
        """Return the predictions, of shape (rows,), for `rows`, of shape (rows, features) and finite.

        Raises InvalidInput where the estimator refuses the values or its answer is not finite.
        """
        if self.linear:
            return self.linear.predict(rows)
        answer: Array = self._call_estimator(self.estimator.predict, rows)
        return answer

    def probabilities(self, rows: Floats) -> Floats:
        """Return the class probabilities, of shape (rows, classes) in the order of `classes`.

        Raises InvalidInput as `predict` does.
        """
        if self.linear and self.linear.has_probabilities:
            return self.linear.probabilities(rows)
        answer: Floats = self._call_estimator(self.estimator.predict_proba, rows)
        return answer

    def self_test(self) -> None:
        """Raise ModelError unless the reference rows of the card are answered as the card says."""
        if self.card is None:
            return
        rows = np.array([reference.features for reference in self.card.reference])
        try:
            got = self.predict(rows)
            ok = _matches(got, [reference.prediction for reference in self.card.reference])
            if self.linear:
                ok = ok and bool(np.array_equal(got, self.estimator.predict(rows)))
            if self.has_probabilities:
                ok = ok and _matches(
                    self.probabilities(rows), [r.probability for r in self.card.reference]
                )
                ok = ok and _matches(
                    self.probabilities(rows), self.estimator.predict_proba(rows).tolist()
                )
        except Exception as error:
            raise ModelError(
                f"the model fails on its reference rows: {_one_line(error.__cause__ or error)}"
            ) from error
        if not ok:
            raise ModelError("the model does not answer its reference rows as its card says")

    @staticmethod
    def _call_estimator(method: Any, rows: Floats) -> Any:
        try:
            with np.errstate(
                all="ignore"
            ):  # an overflow is found below, once, and not by a warning
                answer = method(rows)
        except ValueError as error:
            # The self-test has shown that the estimator works, so it is these values that it refuses: beyond the
            # range of float32 in a tree, outside the domain of a transformer. Its words may hold them: no log does.
            where = traceback.extract_tb(error.__traceback__)[-1].name
            log.warning("the estimator refused a request: %s in %s", type(error).__name__, where)
            raise InvalidInput("The model cannot score these values") from error
        if answer.dtype.kind == "f" and not np.isfinite(answer).all():
            row = int(np.argwhere(~np.isfinite(answer))[0][0])
            raise InvalidInput(f"The model has no finite answer for row {row}")
        return answer


def save_model(path: Path, estimator: Any, *, reference: Floats, **facts: Any) -> ModelCard:
    """Write `estimator` to `path` and its card beside it, both or neither, and return the card.

    `reference`, of shape (rows, features), is scored here and stored for the self-test; `facts` are the other members
    of Card. Raises ModelError where the facts are not the estimator's, InvalidInput where it does not score them.
    """
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    pickled = buffer.getvalue()
    card = ModelCard(
        sha256=hashlib.sha256(pickled).hexdigest(),
        estimator=" ".join(repr(estimator).split()),
        libraries=_library_versions(),
        reference=[],
        **facts,
    )
    model = Model(estimator, card.sha256, card)
    probabilities = (
        model.probabilities(reference).tolist()
        if model.has_probabilities
        else [None] * len(reference)
    )
    answers = zip(reference.tolist(), model.predict(reference).tolist(), probabilities, strict=True)
    card = msgspec.structs.replace(card, reference=[ReferenceRow(*answer) for answer in answers])
    write_files_atomically(
        {
            path: pickled,
            path.with_suffix(".json"): msgspec.json.format(msgspec.json.encode(card), indent=2)
            + b"\n",
        }
    )
    return card


def load_model(path: Path, sha256: str = "") -> Model:
    """Return the model in `path`, verified before anything in it runs.

    The bytes are read once; then come their digest (against `sha256` if given, and the card), the version of
    scikit-learn, the unpickler with its allow-list, and the self-test. A pickle without a card is served, with a
    warning. Raises ModelError.
    """
    try:
        pickled = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; `python train.py` writes one") from error
    digest = hashlib.sha256(pickled).hexdigest()
    if sha256 and digest != sha256.lower():
        raise ModelError(f"{path}: its SHA-256 is {digest}, MODEL_SHA256 asks for {sha256}")
    try:
        card = _load_card(path.with_suffix(".json"), digest)
        estimator = restricted_loads(pickled)
        check_is_fitted(estimator)
        model = Model(estimator, digest, card)
        model.self_test()
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except InconsistentVersionWarning as warning:
        raise ModelError(
            f"{path}: {_version_mismatch(warning.original_sklearn_version)}"
        ) from warning
    except Exception as error:  # whatever a broken file makes of the pickle machine
        raise ModelError(f"{path}: not a model that can be served: {_one_line(error)}") from error
    if card is None:
        log.warning(
            "%s has no model card: feature names, labels, drift reference and self-test are missing",
            path,
        )
    return model


def write_files_atomically(contents: dict[Path, bytes]) -> None:
    """Write each file whole or leave them all as they were. Raises OSError."""
    # A full disk leaves the old files. A crash between two replacements leaves a pair whose digests differ, which
    # `load` refuses.
    temporaries = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in contents}
    try:
        for path, content in contents.items():
            with temporaries[path].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in temporaries.items():
            temporary.replace(path)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


def _load_card(path: Path, digest: str) -> ModelCard | None:
    try:
        card = msgspec.json.decode(path.read_bytes(), type=ModelCard)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"its card {path.name} cannot be read: {_one_line(error)}") from error
    if card.sha256 != digest:
        raise ModelError(f"its SHA-256 is {digest}, its card {path.name} says {card.sha256}")
    made_with = card.libraries.get("scikit-learn")
    if made_with != sklearn.__version__:
        raise ModelError(_version_mismatch(made_with))
    return card


def _version_mismatch(version: str | None) -> str:
    # Across versions an estimator may load, and quietly answer something else.
    return f"made with scikit-learn {version}, but this is {sklearn.__version__}; train it again, or install that one"


def _matches(got: Array, want: list[Any]) -> bool:
    if got.dtype.kind == "f":
        # Far below any difference that matters, far above what another BLAS or processor makes of the same sum.
        return bool(np.allclose(got, np.array(want, dtype=np.float64), rtol=1e-6, atol=1e-9))
    return bool(got.tolist() == want)


def _library_versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "joblib": joblib.__version__,
    }


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

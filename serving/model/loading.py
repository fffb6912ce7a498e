"""Model files: load a pickle or a plan file with its card, after verification."""

import hashlib
import logging
from pathlib import Path

import msgspec

from serving.model.card import ModelCard
from serving.model.errors import ModelError, describe_error
from serving.model.model import Model
from serving.model.plan_model import PlanModel
from serving.model.plans.plan_file import decode_plan

PLAN_SUFFIX = ".plan"

log = logging.getLogger(__name__)


def load_model(path: Path, sha256: str = "", *, use_plan: bool = True) -> Model:
    """Return the model in `path`, verified before anything in it runs.

    The file is read once. The steps are: compare the digest with `sha256`, if given, and with the
    card; of a pickle, compare the versions of the libraries and the source of own transformers,
    decompress up to a limit, unpickle with an allow-list; run the self-test. A pickle without a
    card is loaded with a warning. Unless `use_plan`, each prediction is the estimator's. Raises
    ModelError.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; {_remedy(path)}") from error
    digest = hashlib.sha256(content).hexdigest()

    is_plan = path.suffix == PLAN_SUFFIX
    try:
        if not is_plan:
            # Not before they are needed: with a plan file scikit-learn need not be installed.
            from serving.model.formats import check_format
            from serving.model.storage import unpickle_model

            check_format(content)
        if sha256 and digest != sha256.lower():
            raise ModelError(f"SHA-256 mismatch: the file has {digest}, MODEL_SHA256 is {sha256}")

        card = _load_card(path.with_suffix(".json"))
        if is_plan:
            return _plan_model(content, card, use_plan=use_plan)
        model = unpickle_model(content, digest, card, use_plan=use_plan)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # a broken pickle can raise anything
        raise ModelError(f"{path}: cannot be loaded as a model: {describe_error(error)}") from error

    if card is None:
        log.warning(
            "%s has no model card: no feature names, labels, drift reference or self-test", path
        )
    return model


def _remedy(path: Path) -> str:
    if path.suffix == PLAN_SUFFIX:
        return f"`python -m serving.export_plan` writes one from {path.with_suffix('.pkl').name}"
    return "`python train.py` writes one"


def _load_card(path: Path) -> ModelCard | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ModelCard)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model card {path.name} cannot be read: {describe_error(error)}"
        ) from error


def _plan_model(content: bytes, card: ModelCard | None, *, use_plan: bool) -> Model:
    if not use_plan:
        raise ModelError("PREDICTION_PLAN is off, and a plan file has nothing else")
    if card is None:
        raise ModelError("a plan file needs its model card beside it")
    model = PlanModel(decode_plan(content, card.sha256), card)
    model.self_test()
    return model

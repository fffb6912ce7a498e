"""Write the prediction plan of a model into a file that is served without scikit-learn.

`python -m serving.export_plan model.pkl` writes `model.plan` beside it, for the same model card.
The edge image is built with it.
"""

import argparse
import logging
import sys
from pathlib import Path

from serving.model.card import ModelCard
from serving.model.errors import ModelError
from serving.model.loading import PLAN_SUFFIX, load_model
from serving.model.model import Model
from serving.model.plan_model import PlanModel
from serving.model.plans.plan_file import decode_plan, encode_plan
from serving.model.storage import write_files_atomically


def main() -> None:
    """Write the file, or end with status 1 and one line."""
    logging.basicConfig(format="%(message)s")
    path = parse_path()
    try:
        model = load_model(path)
        if model.card is None:
            raise ModelError(f"{path}: it has no model card, and a plan file needs one")
        content = export_plan(model, model.card)
        plan_path = path.with_suffix(PLAN_SUFFIX)
        write_files_atomically({plan_path: content})
    except (ModelError, OSError) as error:
        sys.exit(str(error))
    print(f"{plan_path}: {len(content)} bytes; serve it with MODEL_PATH={plan_path}")  # noqa: T201


def parse_path() -> Path:
    """Return the path of the pickle from the command line, or end with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.export_plan",
        description="Write the prediction plan of a model into MODEL.plan beside it.",
    )
    parser.add_argument("model", type=Path, help="the pickle, with its model card beside it")
    return parser.parse_args().model  # type: ignore[no-any-return]


def export_plan(model: Model, card: ModelCard) -> bytes:
    """Return the content of the plan file, which is read back and tested.

    Raises ModelError if there is no plan, or if the estimator has more answers than the plan.
    """
    if model.plan is None:
        raise ModelError(f"{card.name} has no prediction plan: {model.plan_refusal}")
    if model.has_probabilities and not model.plan.has_probabilities:
        raise ModelError(f"the prediction plan of {card.name} has no class probabilities")

    content = encode_plan(model.plan, model.sha256)
    PlanModel(decode_plan(content, model.sha256), card).self_test()
    return content


if __name__ == "__main__":
    main()

"""A model file and its card, as a registry stores them."""

from dataclasses import dataclass
from pathlib import Path

from serving.model.card import ModelCard
from serving.model.loading import load_model
from serving.model.model import Model


class RegistryError(Exception):
    """An operation that the registry rejects; the text is one line."""


@dataclass(frozen=True)
class ModelFiles:
    """A verified model, its card, and the bytes of `model.pkl` and `model.json` by name."""

    model: Model
    card: ModelCard
    contents: dict[str, bytes]


def read_model_files(path: Path) -> ModelFiles:
    """Verify and read the model in `path` and its card. Raises RegistryError and ModelError."""
    model = load_model(path)
    if model.card is None:
        raise RegistryError(f"{path} has no model card, which a version needs")

    contents = {
        "model.pkl": path.read_bytes(),
        "model.json": path.with_suffix(".json").read_bytes(),
    }
    return ModelFiles(model, model.card, contents)

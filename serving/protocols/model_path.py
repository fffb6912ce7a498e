"""The model's name and version in the path of a request."""

from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter

from serving.api.http import current_model
from serving.model.model import Model

UNNAMED_MODEL = "model"  # the name of a model without a model card


class NameConverter(BaseConverter):
    """A name in a path, which ends at the colon of an action such as `:predict`.

    Without this a GET of an action would be an unknown model (404) and not a wrong method (405).
    """

    regex = "[^/:]+"


def model_name(model: Model) -> str:
    """Return the name of the model in paths and responses."""
    if model.card is None:
        return UNNAMED_MODEL
    return model.card.name


def check_model_and_version(name: str, version: str | None = None) -> None:
    """Raise NotFound unless this model, and this version if there is one, is served."""
    model = current_model()
    if name != model_name(model):
        raise NotFound
    if version is not None and version != model.version:
        raise NotFound

"""The model's name and version in the path of a request."""

from werkzeug.exceptions import NotFound

from serving.api.service import current_service


def check_model_and_version(name: str, version: str | None = None) -> None:
    """Raise NotFound unless this model, and this version if there is one, is served."""
    service = current_service()
    if name != service.model_name:
        raise NotFound(f"expected the model {service.model_name}")
    if version is not None and version != service.model.version:
        raise NotFound(f"expected the version {service.model.version}")

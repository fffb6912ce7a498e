"""The directory in which a platform puts a model: find the model file in it."""

from collections.abc import Mapping
from pathlib import Path

from serving.model.errors import ModelError

# SageMaker unpacks the model archive here, and KServe copies what STORAGE_URI names.
SAGEMAKER_DIRECTORY = Path("/opt/ml/model")
KSERVE_DIRECTORY = Path("/mnt/models")

# What Azure ML, Vertex AI and KServe call the place of the model.
PLACE_VARIABLES = ("AZUREML_MODEL_DIR", "AIP_STORAGE_URI", "STORAGE_URI")

MODEL_NAMES = ("model.pkl", "model.joblib")
MAX_LISTED_NAMES = 5


def find_platform_model(environ: Mapping[str, str]) -> Path | None:
    """Return the model file that a platform has put on this machine, or None if there is none.

    Raises ModelError for a place that is no local directory, and for a directory without a model.
    """
    for variable in PLACE_VARIABLES:
        place = environ.get(variable, "")
        if place:
            return _model_in(_directory_of(variable, place), source=variable)

    if _list_names(SAGEMAKER_DIRECTORY):
        return _model_in(SAGEMAKER_DIRECTORY, source="SageMaker")
    return None


def _directory_of(variable: str, place: str) -> Path:
    if Path(place).is_dir():
        return Path(place)
    if variable == "STORAGE_URI" and KSERVE_DIRECTORY.is_dir():
        return KSERVE_DIRECTORY
    raise ModelError(
        f"{variable}: {place!r} is not a local directory, and nothing is downloaded: "
        "set MODEL_PATH to the model in the image"
    )


def _model_in(directory: Path, source: str) -> Path:
    """Return the model file in `directory`."""
    names = _list_names(directory)
    found = [name for name in MODEL_NAMES if name in names]
    if len(found) == 1:
        return directory / found[0]

    if found:
        raise ModelError(
            f"{source}: {directory} has {' and '.join(found)}: remove one, or set MODEL_PATH"
        )
    listing = ", ".join(names[:MAX_LISTED_NAMES]) or "nothing"
    raise ModelError(
        f"{source}: {directory} has no {' or '.join(MODEL_NAMES)} but {listing}: "
        "put the model there under one of these names, or set MODEL_PATH to it"
    )


def _list_names(directory: Path) -> list[str]:
    """Return the sorted names in a directory, without hidden ones; a folder ends with a slash."""
    try:
        paths = sorted(directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ModelError(f"{directory}: {error.strerror}: set MODEL_PATH to the model") from error
    return [path.name + "/" * path.is_dir() for path in paths if not path.name.startswith(".")]

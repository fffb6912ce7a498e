"""The libraries and the source that a model was trained with, compared with those that serve it."""

import hashlib
import platform
import re
import sys
from collections.abc import Iterable
from importlib import import_module, metadata
from pathlib import Path

import joblib
import numpy as np
import sklearn

from serving.model.allow_list import OWN_MODULE
from serving.model.errors import ModelError
from serving.model.imports import OWN_FILE, distributions_of

# Another version of these three reads the same pickle, and the self-test compares predictions.
UNCHECKED_LIBRARIES = frozenset({"python", "numpy", "joblib"})

# A text in a pickle begins with its kind and, unless it is a line of protocol 0, its length. The
# number under which the pickle remembers it follows.
WRITTEN_VERSION = re.compile(
    rb"_sklearn_version(?:\x94|q.|r.{4}|\np[0-9]+\n)(?:\x8c.|U.|X.{4}|V)"
    rb"(?P<version>[0-9]+\.[0-9]+(?:\.[0-9]+)*(?:\.?(?:a|b|rc|dev|post)[0-9]+)*)"
    rb"[\x94qr\n]",
    re.DOTALL,
)

# Packages that are in every card, or are no library.
KNOWN_PACKAGES = frozenset({"numpy", "joblib", "sklearn", "serving"}) | sys.stdlib_module_names


def library_versions(modules: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, of three libraries, and of what contains other `modules`."""
    versions = {
        "python": platform.python_version(),
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "joblib": joblib.__version__,
    }

    other_packages = {module.partition(".")[0] for module in modules} - KNOWN_PACKAGES
    for package in sorted(other_packages):
        for distribution in distributions_of(package):
            versions[distribution] = metadata.version(distribution)
    return versions


def check_libraries(versions: dict[str, str]) -> None:
    """Raise ModelError for a library that is missing or has another version than in `versions`."""
    check_scikit_learn(versions.get("scikit-learn"))

    for library in sorted(versions.keys() - UNCHECKED_LIBRARIES - {"scikit-learn"}):
        version = versions[library]
        try:
            installed = metadata.version(library)
        except metadata.PackageNotFoundError as error:
            raise ModelError(
                f"needs {library} {version}, which is not installed: add it to the dependency "
                "group `model` in pyproject.toml and run `make lock`"
            ) from error
        if installed != version:
            raise ModelError(_mismatch(library, version, installed))


def check_scikit_learn(version: str | None) -> None:
    """Raise ModelError unless `version` is the installed version of scikit-learn."""
    # An estimator of another version may load, and predict something else without an error.
    installed = sklearn.__version__
    if version is None:
        raise ModelError(
            f"trained with an unknown scikit-learn version, {installed} is installed; retrain"
        )
    if version != installed:
        raise ModelError(_mismatch("scikit-learn", version, installed))


def check_written_version(pickle_bytes: bytes) -> None:
    """Raise ModelError if scikit-learn wrote another version into a pickle, if it wrote one.

    Nothing is unpickled, so that the version is found in a pickle that cannot be.
    """
    match = WRITTEN_VERSION.search(pickle_bytes)
    if match:
        check_scikit_learn(match["version"].decode())


def own_source_digest(modules: Iterable[str]) -> str | None:
    """Return the SHA-256 of the module for own transformers, if it is one of `modules`."""
    if OWN_MODULE not in modules:
        return None

    path = Path(str(import_module(OWN_MODULE).__file__))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_own_source(digest: str | None) -> None:
    """Raise ModelError if `digest` is of another source of the module for own transformers."""
    if digest is None:
        return
    if own_source_digest([OWN_MODULE]) != digest:
        raise ModelError(f"{OWN_FILE} is not the one that trained the model; retrain or restore it")


def _mismatch(library: str, version: str, installed: str) -> str:
    return (
        f"trained with {library} {version}, {installed} is installed; retrain or install {version}"
    )

"""Versions of a model in MLflow: register, download, list."""

import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from matplotlib.figure import Figure
from mlflow import MlflowClient
from sklearn.metrics import ConfusionMatrixDisplay

from serving.model.card import METRIC_NAMES, ModelCard
from serving.model.errors import ModelError
from serving.model.storage import write_files_atomically
from serving.registry.metrics import find_main_metric, list_numbers
from serving.registry.mlflow_model import log_model
from serving.registry.model_files import ModelFiles, RegistryError, read_model_files
from serving.registry.pyfunc import ARTIFACT_DIR

# The tag of a version that holds the SHA-256 of each file.
DIGEST_TAGS = {"model.pkl": "sha256", "model.json": "card_sha256"}
VERSION_URI = re.compile(r"models:/([^/@]+)(?:/([0-9]+)|@([^/@]+))")


@dataclass(frozen=True)
class DownloadedVersion:
    """A version of a registered model, with its verified files."""

    name: str
    number: str
    files: ModelFiles


def register_version(path: Path, name: str) -> str:
    """Log the model in `path` with the content of its card, and register it as a version of `name`.

    MLflow's own form of it is stored beside our files, so that pyfunc and MLflow's servers load it.
    Raises RegistryError, ModelError, MlflowException, OSError.
    """
    files = read_model_files(path)
    card = files.card

    mlflow.set_experiment(name)
    with mlflow.start_run(tags=card.data):
        mlflow.log_params(files.model.estimator.get_params())
        mlflow.log_metrics(list_numbers(card.metrics))
        if "confusion_matrix" in card.metrics.get("held_out", {}):
            mlflow.log_figure(confusion_figure(card), "confusion_matrix.png")
        model_uri = log_model(files, name)
        digests = {DIGEST_TAGS[file]: _sha256(content) for file, content in files.contents.items()}
        version = mlflow.register_model(model_uri, name, tags=digests)

    return f"registered {card.sha256[:12]} as version {version.version} of {name}"


def download_version(uri: str) -> DownloadedVersion:
    """Download and verify the version that `uri` names.

    `uri` is `models:/NAME/NUMBER` or `models:/NAME@ALIAS`. The digest of each file is compared with
    the tag of the version before `load_model` verifies the files. Raises RegistryError,
    MlflowException, OSError.
    """
    version = _find_version(uri)
    # By number from here on: an alias may move during the download.
    version_uri = f"models:/{version.name}/{version.version}"

    with tempfile.TemporaryDirectory() as directory:
        artifact_uri = f"{version_uri}/{ARTIFACT_DIR}"
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri, dst_path=directory))
        _check_digests(folder, version.tags, version_uri)
        try:
            files = read_model_files(folder / "model.pkl")
        except ModelError as error:
            message = str(error).removeprefix(f"{folder}/")
            raise RegistryError(f"{version_uri}: {message}") from error

    return DownloadedVersion(version.name, str(version.version), files)


def pull_version(uri: str, path: Path) -> str:
    """Write the version that `uri` names to `path` and its card beside it, both or neither.

    Raises as `download_version` does.
    """
    version = download_version(uri)
    contents = version.files.contents
    write_files_atomically(
        {path: contents["model.pkl"], path.with_suffix(".json"): contents["model.json"]}
    )
    digest = version.files.card.sha256[:12]
    return f"wrote {path}: version {version.number} of {version.name}, {digest}"


def format_versions(name: str) -> str:
    """Return a table of the versions of `name`, the newest first. Raises MlflowException."""
    client = MlflowClient()
    aliases = client.get_registered_model(name).aliases
    versions = client.search_model_versions(f"name='{name}'")
    versions = sorted(versions, key=lambda version: int(version.version), reverse=True)

    lines = ["version  digest        metric    held out  folds    aliases"]
    for version in versions:
        metrics: dict[str, float] = {}
        if version.run_id:
            metrics = client.get_run(version.run_id).data.metrics

        version_aliases = ", ".join(
            alias for alias, number in aliases.items() if str(number) == str(version.version)
        )
        digest = version.tags.get("sha256", "")[:12]
        line = f"{version.version:<7}  {digest:12}  {_format_scores(metrics)}  {version_aliases}"
        lines.append(line.rstrip())

    return "\n".join(lines)


def confusion_figure(card: ModelCard) -> Figure:
    """Return the confusion matrix of the held-out rows as a figure."""
    held_out = card.metrics["held_out"]
    labels = [class_info.label for class_info in card.classes]

    figure = Figure(figsize=(5, 4.5), layout="constrained")
    display = ConfusionMatrixDisplay(np.array(held_out["confusion_matrix"]), display_labels=labels)
    display.plot(ax=figure.add_subplot(), cmap="Blues", colorbar=False)
    display.ax_.set_title(f"{card.name} {card.sha256[:12]}: {held_out['rows']} held-out rows")
    return figure


def _format_scores(metrics: dict[str, float]) -> str:
    """Return the name of the main metric, and its value on the held-out rows and in the folds."""
    held_out = _of_group(metrics, "held_out")
    metric = find_main_metric(held_out)
    if metric is None:
        return f"{'-':8}  {'-':8}  {'-':7}"

    folds = _of_group(metrics, "cross_validation").get(metric, np.nan)
    return f"{METRIC_NAMES[metric]:8}  {held_out[metric]:<8.4f}  {folds:<7.4f}"


def _of_group(metrics: dict[str, float], group: str) -> dict[str, float]:
    """Return the metrics of a group of the card, from a run of MLflow."""
    prefix = f"{group}."
    return {
        name.removeprefix(prefix): value
        for name, value in metrics.items()
        if name.startswith(prefix)
    }


def _find_version(uri: str) -> Any:
    match = VERSION_URI.fullmatch(uri)
    if not match:
        raise RegistryError(f"expected models:/NAME/NUMBER or models:/NAME@ALIAS, got {uri!r}")

    name, number, alias = match.groups()
    client = MlflowClient()
    if alias:
        return client.get_model_version_by_alias(name, alias)
    return client.get_model_version(name, number)


def _check_digests(folder: Path, tags: dict[str, str], version_uri: str) -> None:
    for file, tag in DIGEST_TAGS.items():
        path = folder / file
        if not path.is_file():
            raise RegistryError(f"{version_uri} has no {file}; train.py --register stores one")
        digest = _sha256(path.read_bytes())
        if digest != tags.get(tag):
            raise RegistryError(
                f"{version_uri}: SHA-256 mismatch: {file} has {digest}, its tag is {tags.get(tag)}"
            )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

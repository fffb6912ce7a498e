"""Versions behind the file: `python -m serving.registry`. The only room that knows MLflow and SageMaker."""

import argparse
import hashlib
import io
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from serving.model.card import ModelCard
from serving.model.errors import ModelError
from serving.model.model import Model
from serving.model.storage import load_model, write_files_atomically

# MLflow reads these where it is imported. A store in the working directory, unless a server is named; and a server that
# is not there is given up after seconds, not after minutes.
for name, value in {
    "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}.items():
    os.environ.setdefault(name, value)

try:
    import boto3
    import mlflow.sklearn
    from botocore.exceptions import BotoCoreError, ClientError
    from matplotlib.figure import Figure
    from mlflow import MlflowClient, MlflowException
    from mlflow.models import infer_signature
    from sklearn.metrics import ConfusionMatrixDisplay
except ModuleNotFoundError as error:
    sys.exit(
        f"the registry needs {error.name}: make install-registry, then .venv-registry/bin/python"
    )

DEFAULT_MODEL_PATH = Path(__file__).parent.with_name("model.pkl")
# What a version holds of ours and the tags with their digests; beside it is MLflow's own form of the same estimator.
ARTIFACT_DIR, DIGEST_TAGS = "extra_files", {"model.pkl": "sha256", "model.json": "card_sha256"}
MODEL_URI = re.compile(r"models:/([^/@]+)(?:/([0-9]+)|@([^/@]+))")


class RegistryError(Exception):
    """What the registry cannot or will not do; the text is one line."""


def load_with_files(path: Path) -> tuple[Model, ModelCard, dict[str, bytes]]:
    """Return the model in `path`, its card, and the bytes of both by name. Raises RegistryError and ModelError."""
    model = load_model(path)
    if model.card is None:
        raise RegistryError(f"{path} has no model card, and nothing is known without one")
    return (
        model,
        model.card,
        {"model.pkl": path.read_bytes(), "model.json": path.with_suffix(".json").read_bytes()},
    )


def register_version(path: Path, name: str) -> str:
    """Log the model in `path` with what its card says, and make it a version of `name`.

    MLflow's own form of the estimator lies beside our files, so that its pyfunc and its servers load it as any other.
    Raises RegistryError, ModelError, MlflowException, OSError.
    """
    model, card, contents = load_with_files(path)
    rows = np.array([reference.features for reference in card.reference])
    libraries = card.libraries | {"skops": metadata.version("skops")}
    mlflow.set_experiment(name)
    with mlflow.start_run(tags=card.data), tempfile.TemporaryDirectory() as directory:
        mlflow.log_params(model.estimator.get_params())
        for group, found in card.metrics.items():
            named = (
                {f"{group}.{of}": n for of, n in found.items()}
                if isinstance(found, dict)
                else {group: found}
            )
            mlflow.log_metrics(
                {metric: n for metric, n in named.items() if isinstance(n, int | float)}
            )
        if "confusion_matrix" in card.metrics.get("held_out", {}):
            mlflow.log_figure(confusion_figure(card), "confusion_matrix.png")
        for file, content in contents.items():
            Path(directory, file).write_bytes(content)
        logged = mlflow.sklearn.log_model(
            model.estimator,
            name=name,
            signature=infer_signature(rows, model.predict(rows)),
            input_example=rows,
            pip_requirements=[
                f"{library}=={v}" for library, v in libraries.items() if library != "python"
            ],
            extra_files=[str(Path(directory, file)) for file in contents],
        )
        digests = {
            DIGEST_TAGS[file]: hashlib.sha256(content).hexdigest()
            for file, content in contents.items()
        }
        version = mlflow.register_model(logged.model_uri, name, tags=digests)
    return f"registered {card.sha256[:12]} as version {version.version} of {name}"


def confusion_figure(card: ModelCard) -> Figure:
    """Return the confusion matrix of the held-out rows as a picture, with the classes' labels."""
    held, labels = card.metrics["held_out"], [c.label for c in card.classes]
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    shown = ConfusionMatrixDisplay(np.array(held["confusion_matrix"]), display_labels=labels)
    shown.plot(ax=figure.add_subplot(), cmap="Blues", colorbar=False)
    shown.ax_.set_title(f"{card.name} {card.sha256[:12]}: {held['rows']} rows held out")
    return figure


def download_version(uri: str) -> tuple[Any, ModelCard, dict[str, bytes]]:
    """Return what the registry says of the version that `uri` names, its card, and the bytes of its files by name.

    `uri` is `models:/NAME/NUMBER` or `models:/NAME@ALIAS`. Before anything in it runs, the digest of each file is
    compared with the version's tag, and then comes what `load` asks. Raises RegistryError, MlflowException, OSError.
    """
    named = MODEL_URI.fullmatch(uri)
    if not named:
        raise RegistryError(f"expected models:/NAME/NUMBER or models:/NAME@ALIAS, got {uri!r}")
    client, (name, number, alias) = MlflowClient(), named.groups()
    version = (
        client.get_model_version_by_alias(name, alias)
        if alias
        else client.get_model_version(name, number)
    )
    place = f"models:/{name}/{version.version}"  # from here on by its number: an alias may move meanwhile
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(
            mlflow.artifacts.download_artifacts(f"{place}/{ARTIFACT_DIR}", dst_path=directory)
        )
        for file, tag in DIGEST_TAGS.items():
            if not (folder / file).is_file():
                raise RegistryError(f"{place} has no {file}; those that train.py registers do")
            digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
            if digest != version.tags.get(tag):
                raise RegistryError(
                    f"{place}: the SHA-256 of {file} is {digest}, its tag says {version.tags.get(tag)}"
                )
        try:
            return version, *load_with_files(folder / "model.pkl")[1:]
        except ModelError as error:
            raise RegistryError(f"{place}: {str(error).removeprefix(f'{folder}/')}") from error


def pull_version(uri: str, path: Path) -> str:
    """Write the version that `uri` names to `path` and its card beside it, both or neither. Raises as `fetch` does."""
    version, card, files = download_version(uri)
    write_files_atomically(
        {path: files["model.pkl"], path.with_suffix(".json"): files["model.json"]}
    )
    return f"wrote {path}: version {version.version} of {version.name}, {card.sha256[:12]}"


def move_alias(uri: str, alias: str, force: bool) -> str:
    """Move `alias` to the version that `uri` names, unless that is worse than the one that has it now.

    Worse is less accurate on the same held-out rows. Raises as `fetch` does.
    """
    (version, card, _), client = download_version(uri), MlflowClient()
    holder = client.get_registered_model(version.name).aliases.get(alias)
    if holder is not None and (
        fault := regression_reason(card, download_version(f"models:/{version.name}/{holder}")[1])
    ):
        if not force:
            raise RegistryError(
                f"refused: {fault}; {alias} stays at version {holder}, --force moves it all the same"
            )
        print(f"FORCED: {fault}", file=sys.stderr)
    client.set_registered_model_alias(version.name, alias, version.version)
    return f"{alias} of {version.name} is version {version.version}" + (
        f", it was {holder}" if holder else ""
    )


def regression_reason(card: ModelCard, champion: ModelCard) -> str | None:
    """Return why the model of `card` must not follow that of `champion`, or None."""
    rows = {some.data.get("held_out_sha256") for some in (card, champion)}
    got, least = (some.metrics.get("held_out", {}).get("accuracy") for some in (card, champion))
    if len(rows) > 1 or None in (*rows, got, least):
        return "the two were not measured on the same held-out rows"
    return (
        f"its accuracy on the held-out rows is {got:.4f}, the other's {least:.4f}"
        if got < least
        else None
    )


def format_versions(name: str) -> str:
    """Return a line for each version of `name`, the newest first. Raises MlflowException."""
    client = MlflowClient()
    aliases = client.get_registered_model(name).aliases
    lines = ["version  digest        held out  folds   aliases"]
    for version in sorted(
        client.search_model_versions(f"name='{name}'"), key=lambda one: -int(one.version)
    ):
        metrics = client.get_run(version.run_id).data.metrics if version.run_id else {}
        held, folds = (
            metrics.get(f"{group}.accuracy", np.nan) for group in ("held_out", "cross_validation")
        )
        here = ", ".join(
            alias for alias, number in aliases.items() if str(number) == str(version.version)
        )
        digest = version.tags.get("sha256", "")[:12]
        lines.append(
            f"{version.version:<7}  {digest:12}  {held:<8.4f}  {folds:<6.4f}  {here}".rstrip()
        )
    return "\n".join(lines)


def push_to_sagemaker(path: Path, bucket: str, image: str) -> str:
    """Put the model in `path` into S3 and into SageMaker's registry, for somebody there to approve.

    `image` is what will serve it. Raises RegistryError, ModelError, BotoCoreError, ClientError.
    """
    model, card, files = load_with_files(path)
    s3, sagemaker = boto3.client("s3"), boto3.client("sagemaker")
    archive, folds = io.BytesIO(), card.metrics.get("cross_validation", {})
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for file, content in files.items():
            about = tarfile.TarInfo(file)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    quality = (
        card.metrics
    )  # in Amazon's words where it has them, so that its console can show and compare it
    if "accuracy" in folds:
        accuracy = {"value": folds["accuracy"], "standard_deviation": folds["std"]}
        quality = {"multiclass_classification_metrics": {"accuracy": accuracy}}
    folder = f"{card.name}/{model.version}"
    for key, content in (
        ("model.tar.gz", archive.getvalue()),
        ("metrics.json", msgspec.json.encode(quality)),
    ):
        s3.put_object(Bucket=bucket, Key=f"{folder}/{key}", Body=content)
    try:
        sagemaker.describe_model_package_group(ModelPackageGroupName=card.name)
    except ClientError:  # if it is not that there is none, creating it says what it is
        sagemaker.create_model_package_group(ModelPackageGroupName=card.name)
    types = ["application/json", "text/csv"]
    container = {
        "Image": image,
        "ModelDataUrl": f"s3://{bucket}/{folder}/model.tar.gz",
        # There SageMaker unpacks it; another file is not served.
        "Environment": {"MODEL_PATH": "/opt/ml/model/model.pkl", "MODEL_SHA256": model.sha256},
    }
    statistics = {
        "ContentType": "application/json",
        "S3Uri": f"s3://{bucket}/{folder}/metrics.json",
    }
    made = sagemaker.create_model_package(
        ModelPackageGroupName=card.name,
        ModelPackageDescription=f"version {model.version}: {card.estimator}",
        ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification={
            "Containers": [container],
            "SupportedContentTypes": types,
            "SupportedResponseMIMETypes": types,
        },
        ModelMetrics={"ModelQuality": {"Statistics": statistics}},
        CustomerMetadataProperties={"sha256": model.sha256},
    )
    return f"{made['ModelPackageArn']} is to be approved"


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what `arguments` say and print what was done, or end with status 1 and one line."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.registry", description="Versions behind the file."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    uri = "models:/NAME/NUMBER or models:/NAME@ALIAS"
    for command, does, what, about in (
        (
            "register",
            lambda o: register_version(o.model, o.what),
            "NAME",
            "make a model file a version of NAME",
        ),
        ("list", lambda o: format_versions(o.what), "NAME", "list the versions of NAME"),
        (
            "promote",
            lambda o: move_alias(o.what, o.alias, o.force),
            uri,
            "move an alias, unless to a worse version",
        ),
        ("pull", lambda o: pull_version(o.what, o.model), uri, "write a version to a model file"),
        (
            "push",
            lambda o: push_to_sagemaker(o.model, o.what, o.image),
            "BUCKET",
            "put a model file into SageMaker's registry",
        ),
    ):
        one = commands.add_parser(command, help=about, description=about)
        one.set_defaults(does=does)
        one.add_argument("what", metavar=what)
        if command in ("register", "pull", "push"):
            one.add_argument(
                "--model",
                type=Path,
                default=DEFAULT_MODEL_PATH,
                metavar="PATH",
                help="default: %(default)s",
            )
        if command == "push":
            one.add_argument(
                "--image", required=True, help="what will serve it, in Amazon's registry of images"
            )
        if command == "promote":
            one.add_argument("--alias", required=True)
            one.add_argument("--force", action="store_true", help="whatever the comparison says")
    options = parser.parse_args(arguments)
    try:
        print(options.does(options))
    except (
        RegistryError,
        ModelError,
        MlflowException,
        BotoCoreError,
        ClientError,
        OSError,
    ) as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()

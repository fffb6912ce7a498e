"""Promotion: move an alias in MLflow to a version that is not less accurate."""

import sys

from mlflow import MlflowClient

from serving.model.card import ModelCard
from serving.registry.model_files import RegistryError
from serving.registry.versions import DownloadedVersion, download_version


def move_alias(uri: str, alias: str, *, force: bool) -> str:
    """Move `alias` to the version that `uri` names, unless that version is less accurate.

    Accuracy is compared on the same held-out rows with the version that has the alias now.
    `force` turns a refusal into a warning. Raises as `download_version` does.
    """
    candidate = download_version(uri)
    client = MlflowClient()
    current_version = client.get_registered_model(candidate.name).aliases.get(alias)
    if current_version is not None:
        _check_candidate(candidate, alias, current_version, force)

    client.set_registered_model_alias(candidate.name, alias, candidate.number)

    message = f"{alias} of {candidate.name} is version {candidate.number}"
    if current_version is not None:
        message += f", previously {current_version}"
    return message


def refusal_reason(card: ModelCard, champion: ModelCard) -> str | None:
    """Return why the model of `card` must not replace that of `champion`, or None."""
    held_out_rows = card.data.get("held_out_sha256")
    champion_rows = champion.data.get("held_out_sha256")
    accuracy = card.metrics.get("held_out", {}).get("accuracy")
    champion_accuracy = champion.metrics.get("held_out", {}).get("accuracy")

    if held_out_rows is None or held_out_rows != champion_rows:
        return "the two versions were not measured on the same held-out rows"
    if accuracy is None or champion_accuracy is None:
        return "one of the two versions has no held-out accuracy"
    if accuracy < champion_accuracy:
        return (
            f"held-out accuracy {accuracy:.4f} is below "
            f"{champion_accuracy:.4f} of the current version"
        )
    return None


def _check_candidate(
    candidate: DownloadedVersion, alias: str, current_version: str, force: bool
) -> None:
    """Raise RegistryError if the candidate is worse than the current version; warn if forced."""
    current = download_version(f"models:/{candidate.name}/{current_version}")
    reason = refusal_reason(candidate.files.card, current.files.card)
    if reason is None:
        return

    if not force:
        raise RegistryError(
            f"refused: {reason}; {alias} stays at version {current_version}; use --force to move it"
        )
    print(f"FORCED: {reason}", file=sys.stderr)

"""Promotion: move an alias in MLflow to a version that is not worse."""

import sys

from mlflow import MlflowClient

from serving.model.card import METRIC_NAMES, ModelCard, values_match
from serving.registry.metrics import MAIN_METRICS, find_main_metric
from serving.registry.model_files import RegistryError
from serving.registry.versions import DownloadedVersion, download_version


def move_alias(uri: str, alias: str, *, force: bool) -> str:
    """Move `alias` to the version that `uri` names, unless that version is worse.

    Accuracy or R2 is compared on the same held-out rows with the version that has the alias now.
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
    scores = card.metrics.get("held_out", {})
    champion_scores = champion.metrics.get("held_out", {})
    metric = find_main_metric(scores)
    if metric is None or find_main_metric(champion_scores) is None:
        names = " or ".join(METRIC_NAMES[main_metric] for main_metric in MAIN_METRICS)
        return f"one of the two versions has no held-out {names}"

    name = METRIC_NAMES[metric]
    if metric not in champion_scores:
        return f"the current version has no held-out {name}"
    held_out_rows = card.data.get("held_out_sha256")
    if held_out_rows is None or held_out_rows != champion.data.get("held_out_sha256"):
        return "the two versions were not measured on the same held-out rows"

    score = scores[metric]
    champion_score = champion_scores[metric]
    # The same training on another processor may differ by rounding.
    if score < champion_score and not values_match(score, champion_score):
        return f"held-out {name} {score:.4f} is below {champion_score:.4f} of the current version"
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

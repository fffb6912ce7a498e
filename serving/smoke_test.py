"""Compare a running service with the model card in this directory.

`python -m serving.smoke_test URL` runs in the cluster after each sync, with the image that was
rolled out. It shows that the Service leads to ready pods, and that they serve this version.
"""

import argparse
import os
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import msgspec

from serving.config import ConfigurationError, Settings
from serving.model.card import ModelCard, values_match
from serving.model.errors import one_line

TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Check:
    """One request, a GET or a POST of `body`, and the members of the expected response."""

    label: str
    path: str
    body: dict[str, Any] | None
    expected: dict[str, Any]


def main() -> None:
    """Print one line, or print each failure and end with status 1."""
    url = parse_url()
    try:
        card_path = Settings.from_env(os.environ).model_path.with_suffix(".json")
    except ConfigurationError as error:
        sys.exit(str(error))
    try:
        card = msgspec.json.decode(card_path.read_bytes(), type=ModelCard)
    except (OSError, msgspec.DecodeError) as error:
        sys.exit(f"model card {card_path} cannot be read: {one_line(error)}")

    try:
        failures = find_failures(url, card)
    except (OSError, HTTPException, msgspec.DecodeError) as error:
        failures = [f"{url}: {one_line(error)}"]
    if failures:
        sys.exit("\n".join(failures))
    print(f"{url}: version {card.sha256[:12]} passed the smoke test")  # noqa: T201


def parse_url() -> str:
    """Return the address of the service from the command line, or end with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.smoke_test",
        description="Compare a running service with the model card in this directory.",
    )
    parser.add_argument("url", metavar="URL", help="the service, as http://HOST:PORT")
    url: str = parser.parse_args().url
    if not _is_service_url(url):
        parser.error(f"expected a URL like http://localhost:5000, got {url!r}")
    return url.rstrip("/")


def _is_service_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port != 0  # a port that is no number raises ValueError
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port_is_valid


def find_failures(url: str, card: ModelCard) -> list[str]:
    """Return one line for each response of the service at `url` that contradicts `card`.

    Raises OSError, HTTPException or msgspec.DecodeError if there is no JSON response.
    """
    version = card.sha256[:12]
    failures = []
    for check in build_checks(card):
        failure = run_check(url, version, check)
        if failure:
            failures.append(failure)

    status, _, response = send_request(url + "/predict", {"features": []})
    if status != 400 or not isinstance(response, dict) or list(response) != ["error"]:
        failures.append(f"no rows: expected 400 and an error, got {status}: {response}")
    return failures


def build_checks(card: ModelCard) -> list[Check]:
    """Return the requests whose responses the card determines."""
    names = [feature.name for feature in card.features]
    rows = []
    named_rows = []
    predictions = []
    probabilities = []
    for reference in card.reference:
        rows.append(reference.features)
        named_rows.append(dict(zip(names, reference.features, strict=True)))
        predictions.append(reference.prediction)
        probabilities.append(reference.probability)

    array_request: dict[str, Any] = {"features": rows, "outputs": []}
    array_response: dict[str, Any] = {"prediction": predictions}
    if probabilities[0] is not None:
        array_request["outputs"] = ["probability"]
        array_response["probability"] = probabilities

    return [
        Check("readiness", "/readyz", None, {"status": "ready"}),
        Check("rows as arrays", "/predict", array_request, array_response),
        Check("rows by name", "/predict", {"features": named_rows}, {"prediction": predictions}),
    ]


def run_check(url: str, version: str, check: Check) -> str | None:
    """Return the difference between the response and what is expected, or None."""
    status, served_version, response = send_request(url + check.path, check.body)
    same_members = isinstance(response, dict) and response.keys() == check.expected.keys()
    if status != 200 or served_version != version or not same_members:
        return (
            f"{check.label}: expected 200 from version {version}, "
            f"got {status} from {served_version}: {response}"
        )

    for name, value in check.expected.items():
        if not values_match(response[name], value):
            return f"{check.label}: expected {check.expected}, got {response}"
    return None


def send_request(url: str, body: Any = None) -> tuple[int, str | None, Any]:
    """Send a GET, or a POST of `body`; return status, model version and decoded response.

    Raises OSError, HTTPException or msgspec.DecodeError.
    """
    headers = {"Content-Type": "application/json"}
    api_keys = Settings.from_env(os.environ).api_keys
    if api_keys:
        headers["Authorization"] = f"Bearer {api_keys[0]}"
    data = None if body is None else msgspec.json.encode(body)

    request = urllib.request.Request(url, data, headers)  # noqa: S310
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        response = error
    with response:
        content = msgspec.json.decode(response.read())
        return response.status, response.headers["X-Model-Version"], content


if __name__ == "__main__":
    main()

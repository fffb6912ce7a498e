"""Ask a running service for what its model card, which lies here too, promises: `python -m serving.smoke_test URL`.

Run in the cluster after each sync, with the image that was just rolled out, it proves the release and not only the
rollout: the Service leads to pods that answer, and what answers is this version.
"""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import numpy as np


def send_request(url: str, body: Any = None) -> tuple[int, str | None, Any]:
    """Return status, model version and decoded answer of a GET, or of a POST of `body`. Raises OSError."""
    key = os.environ.get("API_KEYS", "").split(",")[0].strip()
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {key}"} if key else {}
    )
    data = None if body is None else msgspec.json.encode(body)
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10)  # noqa: S310
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers["X-Model-Version"], msgspec.json.decode(answer.read())


def find_failures(url: str, card: dict[str, Any]) -> list[str]:
    """Return what the service at `url` answers otherwise than `card` says. Raises OSError."""
    version, reference = card["sha256"][:12], card["reference"]
    rows = [row["features"] for row in reference]
    named = [
        dict(zip([feature["name"] for feature in card["features"]], row, strict=True))
        for row in rows
    ]
    expected = {"prediction": [row["prediction"] for row in reference]}
    outputs = ["probability"] if reference[0]["probability"] else []
    full = expected | {output: [row[output] for row in reference] for output in outputs}
    faults = []
    for what, path, body, good in (
        ("readiness", "/readyz", None, {"status": "ready"}),
        ("rows as arrays", "/predict", {"features": rows, "outputs": outputs}, full),
        ("rows by name", "/predict", {"features": named}, expected),
    ):
        status, answered, members = send_request(url + path, body)
        if (status, answered, members.keys()) != (200, version, good.keys()):
            faults.append(
                f"{what}: expected 200 from version {version}, got {status} from {answered}: {members}"
            )
        elif not all(values_match(members[name], value) for name, value in good.items()):
            faults.append(f"{what}: expected {good}, got {members}")
    status, _, members = send_request(url + "/predict", {"features": []})
    if (status, list(members)) != (400, ["error"]):
        faults.append(f"no rows: expected 400 and an error, got {status}: {members}")
    return faults


def values_match(found: Any, expected: Any) -> bool:
    """Return whether two answers are one, up to what another processor makes of the same sum."""
    try:
        return bool(np.allclose(found, expected, rtol=1e-6, atol=1e-9))
    except (TypeError, ValueError):  # not numbers, or of another shape
        return bool(found == expected)


def main() -> None:
    """Print each fault and end with status 1, or print one line."""
    model = os.environ.get("MODEL_PATH") or Path(__file__).parent.with_name("model.pkl")
    card = msgspec.json.decode(Path(model).with_suffix(".json").read_bytes())
    try:
        faults = find_failures(sys.argv[1], card)
    except OSError as error:
        faults = [f"{sys.argv[1]}: {error}"]
    if faults:
        sys.exit("\n".join(faults))
    print(f"{sys.argv[1]} answers as version {card['sha256'][:12]} should")  # noqa: T201


if __name__ == "__main__":
    main()

"""The steps of the demo: drift, an A/B test that becomes a canary, a reload and back."""

import time
from pathlib import Path
from typing import Any

from demo.rows import RealRows
from demo.services import Service, call
from demo.split import WeightedSplit
from serving.training.dataset import Dataset

ROWS_PER_STEP = 300
ROWS_PER_REQUEST = 5
CANARY_SHARES = (0.1, 0.5, 1.0)


class Demo:
    """The rows and the pace; `names` are those of the two versions."""

    def __init__(self, dataset: Dataset, seconds: float, names: dict[str, str]) -> None:
        self.rows = RealRows(dataset)
        self.seconds = seconds  # of each step
        self.names = names

    def send(
        self, url: str, *, shifted: bool = False, with_feedback: bool = False
    ) -> dict[str, list[bool]]:
        """Predict rows, send their true values, and return by version which were right."""
        correct: dict[str, list[bool]] = {}
        n_requests = ROWS_PER_STEP // ROWS_PER_REQUEST
        started_at = time.monotonic()
        for index in range(n_requests):
            sample = self.rows.draw(ROWS_PER_REQUEST, shifted=shifted)
            answer, version = call(f"{url}/predict", {"features": sample.rows})
            predictions = answer["prediction"]
            if with_feedback:
                call(f"{url}/feedback", {"prediction": predictions, "actual": sample.actual})
            hits = correct.setdefault(self.names[version], [])
            for prediction, actual in zip(predictions, sample.actual, strict=True):
                hits.append(prediction == actual)

            due_at = started_at + self.seconds * (index + 1) / n_requests
            time.sleep(max(0.0, due_at - time.monotonic()))
        return correct


def show_drift(demo: Demo, service: Service) -> None:
    """Send rows like those of the training, then shifted ones."""
    counts_feedback = call(f"{service.url}/drift")[0]["feedback"] is not None

    say("1. Rows like those of the training, with their true values.")
    say(f"   Look at {service.url}/#now: the verdict becomes quiet.")
    demo.send(service.url, with_feedback=counts_feedback)
    report_drift(service.url)

    say("2. The same rows, shifted: the verdict becomes drifting, and the predictions get worse.")
    demo.send(service.url, shifted=True, with_feedback=counts_feedback)
    report_drift(service.url)


def show_canary(demo: Demo, split: WeightedSplit) -> None:
    """Send rows to both versions by weight: an A/B test, then a canary that gets all of them."""
    say(f"3. A and B behind one address, {split.url}, as behind a gateway. B gets a tenth of the")
    say("   requests, as in an A/B test; then more and more, as a canary does.")
    for share in CANARY_SHARES:
        split.second_share = share
        correct = demo.send(split.url)
        parts = [f"{name} scored {len(hits)} rows" for name, hits in sorted(correct.items())]
        say(f"   {share:.0%} of the requests to B: {', '.join(parts)}")


def show_reload(demo: Demo, service: Service, first_path: Path, second_path: Path) -> None:
    """Replace the files of the model, and go back, while the service answers."""
    first, second = demo.names
    say(f"4. The files of B replace those of A at {service.url}, and the service loads them.")
    say("   Look at the top of the page: it offers the new version. No request is lost.")
    service.load(second_path, second)
    say(f"   version {second} is served")
    demo.send(service.url)

    say("5. Back to A, in the same way: a rollback.")
    service.load(first_path, first)
    say(f"   version {first} is served")
    demo.send(service.url)


def report_drift(url: str) -> None:
    """Print the verdict and the quality that `/drift` reports."""
    drift = call(f"{url}/drift")[0]
    say(f"   verdict: {drift['verdict']}; {describe_feedback(drift['feedback'])}")


def describe_feedback(feedback: dict[str, Any] | None) -> str:
    """Return the quality that feedback has shown."""
    if feedback is None:
        return "this model takes no feedback"
    if "accuracy" in feedback:
        return f"accuracy: {feedback['accuracy']:.1%} of {feedback['rows']} rows"
    error = feedback["mean_absolute_error"]
    return f"mean absolute error: {error:.4g} over {feedback['rows']} rows"


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)

"""Series of the service's metrics, as promtool takes them: what the alerts are tested with."""

import numpy as np

from alert_rules import MINUTES, series
from serving.monitoring.drift import chi2_bound, smoothed_shares


def pod_series(name, per_minute, **labels):
    return series(name, per_minute, container="ml-model", pod="p", **labels)


def gauge(name, value, **labels):
    return pod_series(name, 0, **labels) | {"values": f"{value}+0x{MINUTES}"}


def in_container(name, found):
    """Return series as those of another container."""
    return [
        item | {"series": item["series"].replace('container="ml-model"', f'container="{name}"')}
        for item in found
    ]


def stream_series(scored, rejected=0, failed=0, lag=0, up=(1,), n_consumers=1, broker="redis"):
    """Return the series of consumers that together answer so many messages per minute."""
    found = []
    for index in range(n_consumers):
        labels = {"container": "ml-model-stream", "pod": f"p{index}"}
        for outcome, count in (("scored", scored), ("rejected", rejected), ("failed", failed)):
            per_minute = count / n_consumers
            found.append(series("stream_messages_total", per_minute, outcome=outcome, **labels))
        values = {
            "stream_lag": (lag, {"broker": broker}),
            "stream_broker_up": (up[index % len(up)], {}),
        }
        for name, (value, more) in values.items():
            constant = {"values": f"{value}+0x{MINUTES}"}
            found.append(series(name, 0, **labels, **more) | constant)
    return found


def request_series(good, bad=0, slow=0, route="/predict"):
    found = [
        pod_series("http_requests_total", n, method="POST", route=route, status=s)
        for s, n in ((200, good), (500, bad))
    ]
    buckets = {"0.1": good - slow, "0.25": good - slow, "1.0": good, "+Inf": good}
    return found + [
        pod_series("http_request_duration_seconds_bucket", n, route=route, le=le)
        for le, n in buckets.items()
    ]


def version_series(*roles):
    return [
        series(
            "model_info",
            0,
            start=1,
            container="ml-model",
            pod=f"p{i}",
            role=role,
            model_version=version,
        )
        for i, (role, version) in enumerate(roles)
    ]


REFERENCE = np.array([0, 30, 30, 30, 30, 30, 0])
BOUND = chi2_bound(7, 2)


def drift_series(live, classes=(1, 1), reference=REFERENCE):
    """Return the series of one feature and of two classes, each with so many rows per minute."""
    bins = ["below", *range(len(live) - 2), "above"]
    cells = [{"model_version": "v", "feature": "f", "bin": label} for label in bins]
    found = [
        pod_series("feature_rows_total", n, **labels) for labels, n in zip(cells, live, strict=True)
    ]
    found += [
        gauge("feature_reference_share", share, **labels)
        for labels, share in zip(cells, smoothed_shares(reference), strict=True)
    ]
    found += [gauge("feature_drift_bound", BOUND, model_version="v", feature="f")]
    found += [
        pod_series("predictions_total", n, model_version="v", **{"class": i})
        for i, n in enumerate(classes)
    ]
    found += [
        gauge("class_reference_share", 0.5, model_version="v", **{"class": i}) for i in range(2)
    ]
    found += [gauge("class_drift_bound", chi2_bound(2, 2), model_version="v")]
    return [*found, gauge("model_reference_rows", reference.sum(), model_version="v")]


def regressor_drift_series(live, reference=REFERENCE):
    """Return the series of the predictions of a regressor, with so many rows per minute by bin."""
    bins = ["below", *range(len(live) - 2), "above"]
    cells = [{"model_version": "v", "bin": label} for label in bins]
    found = [
        pod_series("prediction_rows_total", n, **labels)
        for labels, n in zip(cells, live, strict=True)
    ]
    found += [
        gauge("prediction_reference_share", share, **labels)
        for labels, share in zip(cells, smoothed_shares(reference), strict=True)
    ]
    found += [gauge("prediction_drift_bound", BOUND, model_version="v")]
    return [*found, gauge("model_reference_rows", reference.sum(), model_version="v")]


def error_series(rows, mean_error, reference=2):
    """Return the series of a regressor's feedback, with so many rows per minute."""
    return [
        gauge("model_mean_absolute_error_reference", reference, model_version="v"),
        pod_series("feedback_absolute_error_count", rows, model_version="v"),
        pod_series("feedback_absolute_error_sum", rows * mean_error, model_version="v"),
    ]


def feedback_series(right, wrong, reference=0.96):
    found = [gauge("model_accuracy_reference", reference, model_version="v")]
    for predicted, actual, n in (
        (0, 0, right / 2),
        (1, 1, right / 2),
        (0, 1, wrong / 2),
        (1, 0, wrong / 2),
    ):
        found.append(
            pod_series("feedback_total", n, model_version="v", predicted=predicted, actual=actual)
        )
    return found

"""Metrics with their samples, as prometheus_client encodes them."""

from collections.abc import Iterable

from prometheus_client import Metric

Sample = tuple[dict[str, str], float]  # labels and value


def make_metric(kind: str, name: str, help_text: str, samples: Iterable[Sample]) -> Metric:
    """Return a metric with its samples."""
    metric = Metric(name, help_text, kind)
    sample_name = name
    if kind == "counter":
        sample_name = f"{name}_total"
    for labels, value in samples:
        metric.add_sample(sample_name, labels, float(value))
    return metric

"""Services with models of many kinds and sizes, for the tests of the monitoring."""

import numpy as np

from app import create_app
from helpers import in_process
from serving.model.card import ClassInfo, FeatureInfo
from serving.model.storage import save_model
from serving.training.dataset import Dataset
from serving.training.training import train_model, write_model


def train_app(directory, X, y, build_estimator, **dataset_fields):
    """Return a service with a model that was trained on these rows."""
    path = directory / "model.pkl"
    dataset = Dataset(X=X, y=y, **dataset_fields)
    write_model(path, train_model("test", dataset, build_estimator))
    return create_app(MODEL_PATH=str(path))


def save_numeric_model(path, estimator, X, shares=(), n_categories=0, task=None):
    """Write a fitted estimator of numbers with a card; `shares` are those of its classes.

    With `n_categories` the first feature is a category with so many integers.
    """
    edges = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    features = [
        FeatureInfo(name=f"x{i}", minimum=0, maximum=1, edges=edges, shares=[0.2] * 5)
        for i in range(X.shape[1])
    ]
    if n_categories:
        features[0] = FeatureInfo(
            name="x0",
            type="category",
            categories=list(range(n_categories)),
            shares=[1 / n_categories] * n_categories,
        )

    classes = []
    if isinstance(getattr(estimator, "classes_", None), np.ndarray):
        values = estimator.classes_.tolist()
        for value, share in zip(values, shares or [1 / len(values)] * len(values), strict=True):
            classes.append(ClassInfo(value, f"class {value}", share))

    save_model(
        path,
        estimator,
        name="test",
        features=features,
        classes=classes,
        rows=len(X),
        metrics={},
        data={},
        reference=X[:3],
        task=task,
    )


def caller(app):
    """Return a function of method, path, body and headers that answers as `app` does."""
    return lambda *request: in_process(app, *request)

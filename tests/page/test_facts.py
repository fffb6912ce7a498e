"""What the page computes: bars, decimals, presets, coefficients."""

import numpy as np
import pytest
from msgspec.structs import replace
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from fixture_models import model_file
from helpers import MODEL_FILE, NAMES
from serving.model.card import FeatureInfo
from serving.model.loading import load_model
from serving.monitoring.limits import MAX_PAIR_CLASSES
from serving.page.bars import CHART_HEIGHT, CHART_WIDTH, histogram
from serving.page.coefficients import MAX_ROWS, read_coefficients
from serving.page.facts import held_out_confusion
from serving.page.inputs import count_decimals, list_presets

X, y = load_iris(return_X_y=True)


def test_areas_are_the_shares():
    """The area of each bar is in proportion to its share, and the bars fill the width."""
    bars = histogram([0, 1, 3, 4], [0.25, 0.5, 0.25])
    areas = np.array([bar.width * bar.height for bar in bars])
    assert np.allclose(areas / areas.sum(), [0.25, 0.5, 0.25])
    assert sum(bar.width for bar in bars) == CHART_WIDTH
    assert all(np.isclose(bar.y + bar.height, CHART_HEIGHT) for bar in bars)
    assert len(histogram([3, 3], [1])) == 1


@pytest.mark.parametrize(
    ("minimum", "maximum", "decimals"), [(0, 5000, 0), (0, 1, 2), (4.3, 7.9, 2), (0, 2e-4, 6)]
)
def test_slider_has_hundred_steps(minimum, maximum, decimals):
    """A slider has decimals for at least a hundred steps."""
    feature = FeatureInfo(name="x", minimum=minimum, maximum=maximum)
    assert count_decimals(feature) == decimals
    assert (maximum - minimum) * 10**decimals >= 100


def test_presets_are_reference_rows():
    """Each reference row is a preset with its label, and says that values are missing."""
    model = load_model(MODEL_FILE)
    presets = list_presets(model)
    assert [preset.label for preset in presets] == ["setosa", "versicolor", "virginica"]
    assert [preset.row for preset in presets] == [row.features for row in model.card.reference]
    labels = [preset.label for preset in list_presets(load_model(model_file("penguins")))]
    assert any(label.endswith(", values missing") for label in labels)


def test_coefficients_are_the_estimators():
    """The table has the coefficients by feature and class."""
    model = load_model(MODEL_FILE)
    table = read_coefficients(model)
    assert (table.title, table.columns) == ("Coefficients", ["setosa", "versicolor", "virginica"])
    assert [name for name, _ in table.rows] == NAMES
    assert np.array_equal([values for _, values in table.rows], model.estimator.coef_.T)
    assert table.largest == np.abs(model.estimator.coef_).max()


def test_confusion_matrix_fits_the_page():
    """The matrix of the held-out rows is the card's, up to a number of classes."""
    card = load_model(MODEL_FILE).card
    assert held_out_confusion(card) == card.metrics["held_out"]["confusion_matrix"]

    many = MAX_PAIR_CLASSES + 1
    metrics = {"held_out": {"confusion_matrix": [[0] * many] * many}}
    assert held_out_confusion(replace(card, metrics=metrics)) is None


class FakeModel:
    """What read_coefficients reads of a model."""

    def __init__(self, estimator, n_features=4):
        self.estimator = estimator
        self.n_features = n_features
        self.features = []
        self.labels = {0: "no", 1: "yes"}


def test_two_classes_have_one_column():
    """Of two classes the column is that of the second; importances have a name of their own."""
    two = y > 0
    table = read_coefficients(FakeModel(LogisticRegression(max_iter=1000).fit(X, two)))
    assert table.columns == ["yes"]
    forest = RandomForestClassifier(5, random_state=0).fit(X, two)
    table = read_coefficients(FakeModel(forest))
    assert (table.title, table.columns) == ("Importances", ["importance"])
    assert [values[0] for _, values in table.rows] == forest.feature_importances_.tolist()


def test_pipeline_names_its_inputs():
    """The inputs of the last step have the names that the pipeline gives, if it does."""
    table = read_coefficients(load_model(model_file("penguins")))
    names = [name for name, _ in table.rows]
    assert "bill_length_mm" in names and "island_Biscoe" in names

    nameless = make_pipeline(FunctionTransformer(np.log1p), LogisticRegression(max_iter=1000)).fit(
        X, y
    )
    assert [name for name, _ in read_coefficients(FakeModel(nameless)).rows] == [
        f"input {index}" for index in range(4)
    ]
    same = make_column_transformer((StandardScaler(), [0]), (FunctionTransformer(), [0]))
    assert read_coefficients(
        FakeModel(make_pipeline(same, LogisticRegression(max_iter=1000)).fit(X, y))
    )


def test_large_tables_are_cut():
    """Of many inputs the largest are shown, and the others counted; some models have none."""
    wide = np.hstack([X * factor for factor in range(1, 21)])
    estimator = LogisticRegression(max_iter=5000).fit(wide, y)
    table = read_coefficients(FakeModel(estimator, wide.shape[1]))
    assert (len(table.rows), table.n_omitted) == (MAX_ROWS, 80 - MAX_ROWS)
    sizes = np.sort(np.abs(estimator.coef_).max(axis=0))[::-1]
    assert [max(map(abs, values)) for _, values in table.rows] == sizes[:MAX_ROWS].tolist()
    assert read_coefficients(FakeModel(KNeighborsClassifier().fit(X, y))) is None

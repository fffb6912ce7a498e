"""Drift of features of each type: categories, booleans, binary numbers, texts, missing values."""

import msgspec
import numpy as np
import pytest
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from sklearn.tree import DecisionTreeClassifier

from app import create_app
from helpers import JSON, predict, scrape
from serving.api.service import service_of
from trained_models import caller, train_app

N_TRAINING_ROWS = 344
N_ROWS = 1326
NAMES = ["sex number", "sex boolean", "sex category", "island", "mass", "rainfall"]


def draw_rows(seed, n_rows):
    """Return rows of two sexes, three islands, a mass that may be missing and mostly no rain."""
    rng = np.random.default_rng(seed)
    rows = []
    for sex in rng.integers(0, 2, size=n_rows).tolist():
        mass = None
        if rng.uniform() > 0.05:
            mass = float(rng.normal(4000 + 500 * sex, 300))
        rain = 0.0
        if rng.uniform() > 0.8:
            rain = float(rng.exponential())
        island = str(rng.choice(["Biscoe", "Dream", "Torgersen"], p=[0.5, 0.3, 0.2]))
        rows.append([sex, bool(sex), ["female", "male"][sex], island, mass, rain])
    return rows


def build_estimator():
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return make_pipeline(encoder, DecisionTreeClassifier(max_depth=3))


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """Return a service whose model was trained on rows of each type."""
    rows = draw_rows(0, N_TRAINING_ROWS)
    target = np.array([row[1] for row in rows])
    X = np.array(rows, dtype=object)
    directory = tmp_path_factory.mktemp("types")
    app = train_app(directory, X, target, build_estimator, feature_names=NAMES)
    types = [feature.type for feature in service_of(app).model.signature.features]
    assert types == ["integer", "boolean", "category", "category", "number", "number"]
    return app


def drifting_features(app, rows):
    """Return the names of the features that `rows` drift in, in a service that had no row."""
    call = caller(create_app(service_of(app).settings))
    assert predict(call, features=rows).status == 200
    report = call("GET", "/drift").json
    assert report["rows"] == len(rows)
    return {item["name"] for item in report["features"] if item["verdict"] == "drifting"}, report


def test_same_distribution_is_quiet(app):
    """Rows of the distribution of training are quiet in all columns."""
    names, report = drifting_features(app, draw_rows(1, N_ROWS))
    assert (names, report["verdict"]) == (set(), "quiet")


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("sex", [0, 1])
def test_one_sex_is_drifting(app, column, sex):
    """1,326 rows of one of two sexes are drifting, as a number, a boolean or a category."""
    rows = draw_rows(2, N_ROWS)
    for row in rows:
        row[column] = [sex, bool(sex), ["female", "male"][sex]][column]
    names, report = drifting_features(app, rows)
    assert (names, report["verdict"]) == ({NAMES[column]}, "drifting")


def test_new_category_is_drifting(app):
    """A category that training had not, in one row of ten, is drifting, and counted as unseen."""
    rows = draw_rows(3, N_ROWS)
    for row in rows[::10]:
        row[3] = "Anvers"
    names, report = drifting_features(app, rows)
    assert names == {"island"}
    island = report["features"][3]
    assert island["bins"] == ["Biscoe", "Dream", "Torgersen", "unseen"]
    assert island["live"][-1] == pytest.approx(len(rows[::10]) / N_ROWS)
    assert island["reference"][-1] == 0


def test_more_missing_values_are_drifting(app):
    """A jump of missing values from 5 % to a quarter is drifting."""
    rows = draw_rows(4, N_ROWS)
    for row in rows[::5]:
        row[4] = None
    names, report = drifting_features(app, rows)
    assert names == {"mass"}
    mass = report["features"][4]
    assert mass["bins"][-1] == "missing"
    assert mass["live"][-1] > 0.2 and mass["reference"][-1] < 0.1


def test_fewer_zeros_are_drifting(app):
    """The zeros of a column that is mostly zero are told from its other values."""
    rows = draw_rows(5, N_ROWS)
    rng = np.random.default_rng(6)
    for row in rows:
        if row[5] == 0 and rng.uniform() > 0.6:
            row[5] = float(rng.exponential())
    names, _ = drifting_features(app, rows)
    assert names == {"rainfall"}


def test_bins_of_each_type_are_series(app):
    """Unseen and missing are bins in the metrics, of one row and of many rows."""
    call = caller(app)
    version = service_of(app).model.version
    row = [0, True, "male", "Anvers", None, 0.0]
    before = scrape(call)
    predict(call, features=row)
    predict(call, features=[row, row])
    samples = scrape(call)
    grown = {
        (feature, label)
        for name, label, feature, _ in (key for key in samples if key[0] == "feature_rows_total")
        if samples[name, label, feature, version] - before[name, label, feature, version] == 3
    }
    assert grown == {
        ("sex number", "0"),
        ("sex boolean", "true"),
        ("sex category", "male"),
        ("island", "unseen"),
        ("mass", "missing"),
        ("rainfall", "0"),
    }


@pytest.fixture(scope="module")
def text_app(tmp_path_factory):
    """Return a service with a classifier of texts of one to forty words."""
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(400):
        words = rng.choice(["good", "bad", "fine", "late", "early"], size=rng.integers(1, 40))
        texts.append(" ".join(words))
    # Each text is one of its own, so that the column is text and not a category.
    texts = [f"{text} {i}" for i, text in enumerate(texts)]
    target = np.array([text.count("good") > text.count("bad") for text in texts])
    build = lambda: make_pipeline(HashingVectorizer(n_features=64), LogisticRegression())  # noqa: E731
    return train_app(tmp_path_factory.mktemp("texts"), texts, target, build), texts


def test_length_of_texts_can_drift(text_app):
    """Texts are compared by their lengths: cut texts are drifting, the training's are quiet."""
    app, texts = text_app
    names, _ = drifting_features(app, [[text] for text in texts])
    assert names == set()
    names, _ = drifting_features(app, [[text[:20]] for text in texts])
    assert names == {"text"}


def test_labels_of_bins_are_distinct(tmp_path):
    """Categories called `unseen` and `missing` are told from the bins of these names."""
    rows = np.array([["unseen", 0], ["missing", 1], [None, 1]] * 40, dtype=object)
    app = train_app(tmp_path, rows[:, :1], rows[:, 1].astype(int), build_estimator)
    call = caller(app)
    body = msgspec.json.encode({"features": [["unseen"], ["missing"], [None], ["new"]]})
    assert call("POST", "/predict", body, JSON).status == 200
    counts = {
        labels[1]: n for labels, n in scrape(call).items() if labels[0] == "feature_rows_total"
    }
    assert counts == {"missing": 1, "unseen": 1, "(unseen)": 1, "(missing)": 1}

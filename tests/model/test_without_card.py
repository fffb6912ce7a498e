"""Models without a card: one that cannot score a row of its own shape is refused at start."""

import subprocess
import sys

import joblib
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.special import logit, wofz
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.datasets import load_iris
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from app import create_app
from helpers import JSON, ROOT, environment, in_process
from serving.model.errors import ModelError
from serving.model.estimator_model import EstimatorModel
from serving.model.loading import load_model

X, y = load_iris(return_X_y=True)
TWO_LABELS = np.c_[y > 0, y > 1].astype(int)

REMEDY = "train it with `train.py`, which writes a model card"

ASKED = "without a model card it is asked with arrays of numbers, and cannot score one of shape"


def multilabel():
    return OneVsRestClassifier(LogisticRegression(max_iter=500))


def always_two():
    return DummyRegressor(strategy="constant", constant=2.0)


def select_by_name():
    """Return a pipeline that was fitted on a DataFrame and selects its columns by name."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    columns = make_column_transformer((StandardScaler(), ["a", "b"]))
    return make_pipeline(columns, LogisticRegression()).fit(frame, y)


def transform_target(regressor, function, inverse):
    """Return a regressor whose predictions go through `inverse`."""
    return TransformedTargetRegressor(
        regressor, func=function, inverse_func=inverse, check_inverse=False
    )


def write(tmp_path, estimator):
    path = tmp_path / "model.pkl"
    joblib.dump(estimator, path)
    return path


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (
            select_by_name,
            f"{ASKED} (1, 4): ValueError: "
            f"Specifying the columns using strings is only supported for dataframes.: {REMEDY}",
        ),
        (
            lambda: multilabel().fit(X, csr_matrix(TWO_LABELS)),
            f"{ASKED} (1, 4): ValueError: the predictions for a row have the shape (): {REMEDY}",
        ),
        (
            lambda: make_pipeline(CountVectorizer(), LogisticRegression()).fit(
                ["good day", "old house"], [0, 1]
            ),
            f"Pipeline does not say how many features it has: {REMEDY}",
        ),
        (
            lambda: make_pipeline(OrdinalEncoder(), Ridge()).fit(np.array([["a"], ["b"]]), [0, 1]),
            f"{ASKED} (1, 1): ",
        ),
        (
            lambda: transform_target(always_two(), np.tanh, np.arctanh).fit(X, y),
            f"{ASKED} (1, 4): ValueError: the prediction is not finite: {REMEDY}",
        ),
        (
            lambda: transform_target(always_two(), np.abs, wofz).fit(X, y),
            f"{ASKED} (1, 4): TypeError: Encoding objects of type complex is unsupported: {REMEDY}",
        ),
    ],
    ids=["columns by name", "sparse labels", "texts", "words", "not finite", "complex"],
)
def test_model_that_cannot_score_is_refused(tmp_path, build, reason):
    """A model that would reject or fail every request is refused in one line."""
    path = write(tmp_path, build())
    with pytest.raises(ModelError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {reason}") and message.endswith(REMEDY)
    assert "\n" not in message


class TwoPredictions:
    """Predicts twice for each row."""

    n_features_in_ = 4

    def predict(self, rows):
        return np.zeros(2 * len(rows))


def test_model_with_other_number_of_predictions_is_refused():
    """The predictions for one row are one."""
    with pytest.raises(ModelError, match=r"the predictions for a row have the shape \(2,\)"):
        EstimatorModel(TwoPredictions(), "0" * 64, None).self_test()


def test_process_ends_in_one_line(tmp_path):
    """The refusal is the only line of the process."""
    path = write(tmp_path, multilabel().fit(X, csr_matrix(TWO_LABELS)))
    process = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=environment(MODEL_PATH=str(path)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 1
    [line] = process.stderr.splitlines()
    assert line.startswith(f"{path}: {ASKED} (1, 4): ")


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(FunctionTransformer(np.log), Ridge()).fit(X, y),
        make_pipeline(FunctionTransformer(logit), Ridge()).fit(X / 10, y),
        transform_target(LinearRegression(fit_intercept=False), np.exp, np.log).fit(
            X, np.log(X.sum(axis=1))
        ),
        IsolationForest(n_estimators=3).fit(X),
    ],
    ids=["logarithm", "logit", "logarithm of the target", "outlier detector"],
)
def test_model_that_rejects_zeros_is_served(tmp_path, caplog, estimator):
    """Zeros are outside the domain of some models, and the trial writes no line of its own."""
    path = write(tmp_path, estimator)
    model = load_model(path)
    assert not model.has_several_outputs
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    row = X[:1] / 10
    np.testing.assert_allclose(model.predict(row), estimator.predict(row))
    assert len(model.predict(model.example_rows())) == 1


@pytest.mark.parametrize(
    "estimator",
    [
        LinearRegression().fit(X, TWO_LABELS),
        DecisionTreeClassifier().fit(X, TWO_LABELS),
        KNeighborsClassifier().fit(X, TWO_LABELS),
        multilabel().fit(X, TWO_LABELS),
    ],
    ids=["regressor", "tree", "neighbors", "one versus rest"],
)
def test_several_outputs_are_served(tmp_path, estimator):
    """The trial finds several outputs, and a request gets a list for each row."""
    app = create_app(MODEL_PATH=str(write(tmp_path, estimator)))
    assert load_model(tmp_path / "model.pkl").has_several_outputs
    response = in_process(app, "POST", "/predict", b'{"features":[5.1,3.5,1.4,0.2]}', JSON)
    assert response.status == 200
    expected = estimator.predict([[5.1, 3.5, 1.4, 0.2]])
    np.testing.assert_allclose(response.json["prediction"], expected)

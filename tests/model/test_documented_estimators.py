"""What the docstrings of scikit-learn fit, and what its user guide puts into estimators."""

import doctest
import warnings
from functools import partial

import numpy as np
import pytest
import scipy.special
import scipy.stats
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer, strip_tags
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, make_scorer
from sklearn.metrics.pairwise import laplacian_kernel
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
    scale,
)
from sklearn.svm import SVC
from sklearn.utils import all_estimators
from threadpoolctl import threadpool_limits

from pickles import joblib_bytes
from serving.model.unpickling import restricted_loads

# Numbers, words and truth values, each with missing ones.
MIXED = np.array(
    [[1.0, "a", True, 3], [2.0, "b", False, 4], [np.nan, None, None, 3], [4.0, "a", True, 5]] * 10,
    dtype=object,
)
NUMBERS = np.random.default_rng(0).uniform(0.1, 0.9, size=(40, 2))
TEXTS = np.array(["a fine day", "<b>rain</b>", "fine rain", "a day"] * 10)
y = np.array([0, 1, 0, 1] * 10)

# Variables in docstrings that are refused, and why.
REFUSED = {
    "OneHotEncoder.custom_fnames_enc": "cannot be pickled: a function of the example",
    "SelectFromModel.half_selector": "cannot be pickled: a function of the example",
}


def is_fitted(value):
    return isinstance(value, BaseEstimator) and not isinstance(value, type)


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    """Return what the examples of all estimators leave in variables, by class and variable."""
    finder = doctest.DocTestFinder(recurse=False)
    found = {}
    with (
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
        threadpool_limits(1),  # more threads are slower on data of this size
    ):
        warnings.simplefilter("ignore")
        patch.chdir(tmp_path_factory.mktemp("examples"))  # some of them write a cache

        for name, estimator in all_estimators():
            if "fetch_" in (estimator.__doc__ or ""):
                continue  # downloads its data
            for example in finder.find(estimator, name):
                doctest.DocTestRunner().run(example, out=lambda text: None, clear_globs=False)
                for variable, value in example.globs.items():
                    if is_fitted(value) and variable != "_":
                        found[f"{name}.{variable}"] = value
    return found


def test_documented_estimators_are_loaded(documented):
    """What the docstrings fit is loaded with the same attributes, except for REFUSED."""
    assert len(documented) > 200

    failures = set()
    for name, estimator in documented.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # some of them are deprecated
                loaded = restricted_loads(joblib_bytes(estimator)).value
        except Exception as error:
            failures.add(name)
            assert name in REFUSED, f"{name}: {error}"
            continue
        assert type(loaded) is type(estimator)
        assert vars(loaded).keys() == vars(estimator).keys()
    assert failures == REFUSED.keys()


def columns(encoder, words=(1, 2)):
    """Return a pipeline that encodes the columns of MIXED by their kinds."""
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    parts = [
        ("words", encoder, list(words)),
        ("numbers", numbers, [0]),
        ("rest", "passthrough", [3]),
    ]
    return make_pipeline(ColumnTransformer(parts), LogisticRegression())


def search(**distributions):
    return RandomizedSearchCV(SVC(), distributions, n_iter=2, cv=2, random_state=0)


ADJUSTED_SCORE = make_scorer(balanced_accuracy_score, adjusted=True)

ON_MIXED = {
    "OneHotEncoder": columns(OneHotEncoder(handle_unknown="ignore")),
    "OneHotEncoder of a type": columns(OneHotEncoder(dtype=np.float32, min_frequency=2)),
    "OneHotEncoder of bool": columns(OneHotEncoder(dtype=bool, drop="first")),
    "OrdinalEncoder": columns(OrdinalEncoder(encoded_missing_value=-1, dtype=int)),
    "TargetEncoder": columns(make_pipeline(OrdinalEncoder(), TargetEncoder(cv=2))),
    "SimpleImputer": columns(
        make_pipeline(
            SimpleImputer(missing_values=None, strategy="constant", fill_value="?"),
            OneHotEncoder(dtype=np.int8),
        ),
        words=[1],
    ),
    "HistGradientBoosting": make_pipeline(
        OrdinalEncoder(encoded_missing_value=np.nan),
        HistGradientBoostingClassifier(categorical_features=[1, 2], max_iter=3),
    ),
}

ON_NUMBERS = {
    "search in uniform": search(C=scipy.stats.uniform(1, 2), kernel=["rbf", "linear"]),
    "search in loguniform": search(C=scipy.stats.loguniform(0.1, 10)),
    "search in randint": search(degree=scipy.stats.randint(1, 4)),
    "search for a score with a parameter": GridSearchCV(
        SVC(), {"C": [1, 2]}, scoring=ADJUSTED_SCORE, cv=StratifiedKFold(2)
    ),
    "search for two scores": GridSearchCV(
        SVC(), {"C": [1]}, scoring=["accuracy", "roc_auc"], refit="accuracy", cv=2
    ),
    "ufunc of numpy": make_pipeline(FunctionTransformer(np.log1p, np.expm1), SVC()),
    "ufunc of scipy": make_pipeline(FunctionTransformer(scipy.special.logit), SVC()),
    "function of numpy": make_pipeline(
        FunctionTransformer(np.clip, kw_args={"a_min": 0.2, "a_max": 0.8}), SVC()
    ),
    "partial": make_pipeline(FunctionTransformer(partial(np.nan_to_num, nan=0.5)), SVC()),
    "function of scikit-learn": make_pipeline(FunctionTransformer(scale), SVC()),
    "kernel": SVC(kernel=laplacian_kernel),
    "splines and bins": make_pipeline(
        make_union(SplineTransformer(), KBinsDiscretizer(3)), LogisticRegression()
    ),
    "calibration": CalibratedClassifierCV(KNeighborsClassifier(algorithm="ball_tree"), cv=2),
    "isotonic calibration": CalibratedClassifierCV(SVC(), method="isotonic", cv=2),
    "stacking": StackingClassifier(
        [("forest", RandomForestClassifier(3)), ("neighbors", KNeighborsClassifier())], cv=2
    ),
    "Gaussian process": GaussianProcessClassifier(1.0 * RBF() + WhiteKernel()),
    "isolation forest": IsolationForest(n_estimators=3, random_state=np.random.RandomState(0)),
}

ON_TEXTS = {
    "TfidfVectorizer": make_pipeline(TfidfVectorizer(preprocessor=strip_tags), SVC()),
    "TfidfVectorizer of a type": make_pipeline(TfidfVectorizer(dtype=np.float32), SVC()),
}

CASES = [
    pytest.param(estimator, rows, id=name)
    for rows, estimators in ((MIXED, ON_MIXED), (NUMBERS, ON_NUMBERS), (TEXTS, ON_TEXTS))
    for name, estimator in estimators.items()
]


@pytest.mark.parametrize("classes", [[0, 1], ["no", "yes"], [False, True]], ids=str)
@pytest.mark.parametrize(("estimator", "rows"), CASES)
def test_estimator_predicts_the_same(estimator, rows, classes):
    """Pipelines with strings, missing values, functions and distributions are loaded."""
    fitted = estimator.fit(rows, np.array(classes)[y])
    loaded = restricted_loads(joblib_bytes(fitted)).value
    np.testing.assert_array_equal(loaded.predict(rows), fitted.predict(rows), strict=True)

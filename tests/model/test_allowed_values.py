"""The values that people give to estimators as parameters: each is loaded as it was saved."""

from collections import defaultdict

import numpy as np
import pytest
import scipy.sparse
import scipy.stats
from sklearn.feature_selection import chi2, f_classif, mutual_info_regression
from sklearn.gaussian_process import kernels
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.metrics.pairwise import PAIRWISE_DISTANCE_FUNCTIONS, PAIRWISE_KERNEL_FUNCTIONS
from sklearn.model_selection import RepeatedStratifiedKFold, TimeSeriesSplit
from sklearn.preprocessing import minmax_scale

from pickles import joblib_bytes
from serving.model.unpickling import restricted_loads

DISTRIBUTIONS = sorted(
    name
    for name, value in vars(scipy.stats).items()
    if isinstance(value, scipy.stats.rv_continuous | scipy.stats.rv_discrete)
    and name != "levy_stable"  # is defined elsewhere
)

MATRIX = np.eye(3)

FUNCTIONS = {
    *PAIRWISE_DISTANCE_FUNCTIONS.values(),
    *PAIRWISE_KERNEL_FUNCTIONS.values(),
    *(chi2, f_classif, mutual_info_regression),
    *(minmax_scale, np.log1p, np.mean, np.nan_to_num, scipy.special.expit),
    *(bool, float, int, object, str, np.float64, np.int8, np.number, np.ndarray),
} - {None}

VALUES = [
    range(3),
    slice(1, 3),
    complex(1, 2),
    {1, 2},
    frozenset({1}),
    bytearray(b"a"),
    b"a",
    defaultdict(list, {"a": [1]}),
    np.str_("a"),
    np.float16(1),
    np.datetime64("2020-01-01"),
    kernels.RBF() + kernels.WhiteKernel() ** 2,
]


def name_of(function):
    return function.__name__


def load(value):
    return restricted_loads(joblib_bytes(value)).value


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_value_is_loaded(value):
    """Containers, scalars and kernels are equal after they were saved."""
    loaded = load(value)
    assert type(loaded) is type(value)
    assert loaded == value


@pytest.mark.parametrize("function", sorted(FUNCTIONS, key=name_of), ids=name_of)
def test_function_is_loaded(function):
    """Metrics, kernels, scores and types are the same object."""
    assert load(function) is function


@pytest.mark.parametrize("name", get_scorer_names())
def test_scorer_is_loaded(name):
    """Every scorer that has a name is loaded."""
    assert repr(load(get_scorer(name))) == repr(get_scorer(name))


def test_distributions_are_loaded():
    """Every distribution of scipy.stats has the same median after it was saved."""
    assert len(DISTRIBUTIONS) > 100
    for name in DISTRIBUTIONS:
        distribution = getattr(scipy.stats, name)
        loaded = load(distribution)
        assert type(loaded) is type(distribution)
        assert loaded.shapes == distribution.shapes
    assert load(scipy.stats.randint(2, 7)).median() == 4
    assert load(scipy.stats.loguniform(1, 100)).median() == pytest.approx(10)


@pytest.mark.parametrize(
    "container", ["bsr_array", "coo_array", "csc_matrix", "csr_array", "dia_array", "lil_matrix"]
)
def test_sparse_container_is_loaded(container):
    """A sparse container has the same elements."""
    loaded = load(getattr(scipy.sparse, container)(MATRIX))
    np.testing.assert_array_equal(loaded.toarray(), MATRIX)


@pytest.mark.parametrize(
    "random_state",
    [
        np.random.RandomState(0),
        np.random.default_rng(0),
        np.random.Generator(np.random.Philox(0)),
        np.random.Generator(np.random.MT19937(0)),
    ],
    ids=str,
)
def test_random_state_continues(random_state):
    """A random state gives the numbers that it would have given."""
    loaded = load(random_state)
    assert loaded.uniform(size=3).tolist() == random_state.uniform(size=3).tolist()


@pytest.mark.parametrize(
    "splitter", [RepeatedStratifiedKFold(n_splits=2, random_state=0), TimeSeriesSplit(2)], ids=repr
)
def test_splitter_is_loaded(splitter):
    """The folds of a search are the same."""
    assert repr(load(splitter)) == repr(splitter)

"""Pickles that use what is on the allow-list to write, import, execute or change something."""

import pickle
import sys
from functools import partial
from operator import attrgetter

import numpy as np
import pytest
import scipy.stats
import sklearn
from numpy.random import _pickle as random_pickle
from sklearn._loss._loss import CyHalfBinomialLoss
from sklearn.cluster._birch import _CFNode
from sklearn.datasets import load_iris
from sklearn.ensemble import StackingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import _scorer
from sklearn.multioutput import ClassifierChain
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.deprecation import deprecated
from sklearn.utils.parallel import Parallel

from helpers import Call
from pickles import Instance, Result, joblib_bytes, operations
from serving.model import transformers
from serving.model.errors import ModelError
from serving.model.unpickling import restricted_loads

X, y = load_iris(return_X_y=True)
LARGE_CALLS = [(np.exp, (np.zeros(1000),), {})] * 2
GENERATOR_CONSTRUCTOR = random_pickle.__dict__["__generator_ctor"]


def fitted_classifier():
    return LogisticRegression(max_iter=500).fit(X, y)


def caching_pipeline(folder):
    """Return a pipeline whose `fit` writes to `folder`."""
    steps = [("scale", StandardScaler()), ("classify", fitted_classifier())]
    return Pipeline(steps, memory=str(folder))


def parallel(folder):
    """Return a Parallel that starts processes, and gives them its arguments in `folder`."""
    return Result(Parallel, 2, "loky", "list", 0, None, "all", 1, str(folder), 1)


CALLS = {
    "a scorer": lambda folder: Call(
        Result(_scorer._Scorer, np.add, 1, {}, "fit"), caching_pipeline(folder), X, y
    ),
    "a function of scorers": lambda folder: Call(
        _scorer._cached_call, None, caching_pipeline(folder), "fit", X
    ),
    "Parallel": lambda folder: Call(parallel(folder), LARGE_CALLS),
    "a random state": lambda folder: Call(GENERATOR_CONSTRUCTOR, LARGE_CALLS, parallel(folder)),
    "a class": lambda folder: Call(LogisticRegression),
    "a decorator": lambda folder: Call(Result(deprecated, ""), LogisticRegression),
}

WRAPS = {
    "bare": lambda call: call,
    "in an array of objects": lambda call: np.array([call], dtype=object),
    "in an array of arrays": lambda call: np.array([np.array([call, 1]), 1], dtype=object),
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("build_call", CALLS.values(), ids=CALLS)
def test_call_is_refused(tmp_path, build_call, wrap):
    """Only constructors are called: not what a class, a scorer or numpy's own function calls."""
    constructor = LogisticRegression.__init__
    with pytest.raises(ModelError, match=r"^it (calls|imports|creates|makes) "):
        restricted_loads(joblib_bytes(wrap(build_call(tmp_path))))
    assert not list(tmp_path.iterdir())
    assert LogisticRegression.__init__ is constructor


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(partial(partial), id="partial"),
        pytest.param(partial(partial, np.exp), id="partial of partial"),
        pytest.param(partial(LogisticRegression), id="class"),
        pytest.param(partial(partial(np.exp).func.reduce), id="method"),
        pytest.param(partial(np.save, "file"), id="function that writes"),
        pytest.param(partial(np.apply_along_axis, np.exp), id="function that calls"),
        pytest.param(partial(_scorer._Scorer(np.add, 1, {}, "predict")), id="scorer"),
        pytest.param(partial(fitted_classifier), id="function of a test"),
    ],
)
def test_partial_of_other_functions_is_refused(function):
    """A partial is of a function on the allow-list; of nothing else, however deep."""
    with pytest.raises(ModelError, match=r"^it (imports|makes a partial of|calls) "):
        restricted_loads(joblib_bytes(FunctionTransformer(function)))


def test_partial_keeps_its_function():
    """The state of a partial cannot put another function in its place."""
    assert restricted_loads(joblib_bytes(partial(np.add, 1))).value(2) == 3
    change = operations(partial(np.add, 1), (LogisticRegression, (), {}, {}), pickle.BUILD)
    with pytest.raises(ModelError, match="it changes the function of a partial"):
        restricted_loads(change)


@pytest.mark.parametrize(
    "target", [LogisticRegression, np.exp, np.mean], ids=attrgetter("__name__")
)
def test_shared_object_is_not_changed(target):
    """A pickle cannot set attributes of a class or a function, which the process shares."""
    predict = LogisticRegression.predict
    change = operations(target, (None, {"predict": np.exp}), pickle.BUILD)
    with pytest.raises(ModelError, match=r"it changes .*, which the whole process shares"):
        restricted_loads(change)
    assert LogisticRegression.predict is predict


@pytest.mark.parametrize("name", ["predict", "fit", "__setstate__", "__class__"])
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: (None, state)])
def test_method_is_not_replaced(name, wrap):
    """A pickle cannot put something else in the place of a method of an instance."""
    content = joblib_bytes(Instance(LogisticRegression, wrap({name: np.exp})))
    with pytest.raises(ModelError, match=f"it replaces the method {name} of LogisticRegression"):
        restricted_loads(content)


@pytest.mark.parametrize("cls", [_CFNode, RBF])
def test_special_method_is_not_added(cls):
    """A class without `__setstate__` gets none: the next operation would call it."""
    content = joblib_bytes(Instance(cls, {"__setstate__": np.exp}))
    with pytest.raises(ModelError, match=f"it replaces the method __setstate__ of {cls.__name__}"):
        restricted_loads(content)


@pytest.mark.parametrize("name", ["__generator_ctor", "__randomstate_ctor"])
def test_random_state_calls_nothing(monkeypatch, name):
    """The second argument of numpy's own function, which it calls, is not called."""
    calls = []

    def record(*arguments):
        calls.append(arguments)
        return np.random.MT19937()

    monkeypatch.setattr(record, "__module__", transformers.__name__)
    monkeypatch.setattr(record, "__qualname__", "record")
    monkeypatch.setattr(transformers, "record", record, raising=False)
    constructor = random_pickle.__dict__[name]
    value = restricted_loads(joblib_bytes(Call(constructor, "MT19937", record))).value
    assert isinstance(value, np.random.Generator | np.random.RandomState)
    assert not calls


def test_bit_generator_is_of_numpy():
    """A random state is not made of any other class, which numpy's own function calls."""
    constructor = random_pickle.__dict__["__bit_generator_ctor"]
    with pytest.raises(ModelError, match="a random state has no bit generator of numpy"):
        restricted_loads(joblib_bytes(Call(constructor, CyHalfBinomialLoss)))


@pytest.mark.parametrize("state", [[("predict", np.exp)], StandardScaler(), ({}, {}, {})], ids=repr)
def test_state_is_a_dict(state):
    """The state of an instance is a dict; nothing that only behaves like one."""
    with pytest.raises(ModelError, match="the state of LogisticRegression is not a dict"):
        restricted_loads(joblib_bytes(Instance(LogisticRegression, state)))


@pytest.mark.parametrize(
    ("attribute", "rest", "expected"),
    [
        ("append", (1, pickle.APPEND), "list"),
        ("extend", (pickle.MARK, 1, pickle.APPENDS), "list"),
        ("add", (pickle.MARK, 1, pickle.ADDITEMS), "set"),
        ("x", (1, 2, pickle.SETITEM), "dict"),
        ("x", (pickle.MARK, 1, 2, pickle.SETITEMS), "dict"),
    ],
)
def test_items_are_added_to_collections(attribute, rest, expected):
    """An attribute with the name of a list's method is not called."""
    state = {attribute: np.exp, "_sklearn_version": sklearn.__version__}
    instance = Instance(LogisticRegression, state)
    with pytest.raises(ModelError, match=rf"it uses .*LogisticRegression as {expected}"):
        restricted_loads(operations(instance, *rest))


@pytest.mark.parametrize(
    "program",
    [
        b"isklearn.linear_model._logistic\nLogisticRegression\n",
        b"csklearn.linear_model._logistic\nLogisticRegression\no",
        b"csklearn.linear_model._logistic\nLogisticRegression\n)}\x92",
        b"Pname\n",
    ],
    ids=["INST", "OBJ", "NEWOBJ_EX", "PERSID"],
)
def test_old_operations_are_refused(program):
    """The operations that create instances in another way are refused."""
    with pytest.raises(ModelError, match="an operation that the pickle of an estimator"):
        restricted_loads(operations(pickle.MARK, program))


def test_distribution_does_not_execute_its_state(tmp_path):
    """The text that scipy executes for a distribution is scipy's own."""
    marker = tmp_path / "marker"
    frozen = scipy.stats.uniform(0, 2)
    frozen.dist._parse_arg_template += f"\nopen({str(marker)!r}, 'w')\n"
    loaded = restricted_loads(joblib_bytes(frozen)).value
    assert loaded.ppf(0.5) == 1
    assert not marker.exists()


@pytest.mark.parametrize("name", ["norm", "no such name", "test", None, ["uniform"]])
def test_distribution_has_a_name_of_scipy(name):
    """A distribution that scipy.stats does not have under its name is refused."""
    content = joblib_bytes(Instance(type(scipy.stats.uniform), {"name": name}))
    with pytest.raises(ModelError, match=r"uniform_gen is not a distribution of scipy\.stats"):
        restricted_loads(content)


@pytest.mark.parametrize(
    "estimator",
    [
        Instance(_scorer._Scorer, {"_response_method": "fit"}),
        Instance(_scorer._Scorer, {"_response_method": ("predict", "save_model")}),
        Instance(StackingClassifier, {"stack_method_": ["predict", "fit"]}),
        Instance(StackingClassifier, {"stack_method_": np.array(["fit"])}),
        Instance(ClassifierChain, {"chain_method_": "fit"}),
    ],
    ids=lambda estimator: f"{estimator.cls.__name__} {estimator.state}",
)
def test_method_to_be_called_only_predicts(estimator):
    """An attribute that names a method to be called names one that predicts."""
    with pytest.raises(ModelError, match=r"_method_? of .* may be one of auto, decision_function"):
        restricted_loads(joblib_bytes(estimator))


def test_memory_is_refused(tmp_path):
    """A pipeline that would write files is refused with advice."""
    message = r"Pipeline has a memory, which writes files: .* `set_params\(memory=None\)`"
    with pytest.raises(ModelError, match=message):
        restricted_loads(joblib_bytes(caching_pipeline(tmp_path)))


def test_reading_named_files_is_refused():
    """A vectorizer that opens the file that a request names is refused."""
    with pytest.raises(ModelError, match="CountVectorizer opens the files that its rows name"):
        restricted_loads(joblib_bytes(CountVectorizer(input="filename")))


@pytest.mark.parametrize(
    "module",
    [
        "antigravity",
        "sklearn.conftest",
        "sklearn.datasets._openml",
        "sklearn.externals.array_api_compat.cupy",
        "sklearn.linear_model.tests.test_ransac",
        "sklearn.utils._mocking",
        "scipy.sparse.csgraph._validation",
        "serving.smoke_test",
    ],
)
def test_other_modules_are_not_imported(module):
    """A module without a name on the allow-list is not even imported, which would execute it."""
    was_imported = module in sys.modules
    with pytest.raises(ModelError, match="which is not on the allow-list"):
        restricted_loads(operations(b"c" + module.encode() + b"\nBaseEstimator\n"))
    assert (module in sys.modules) == was_imported

"""Pickles that other versions of numpy and scikit-learn wrote."""

import pickle
import re
import zlib

import numpy as np
import pytest
import sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from helpers import Call
from pickles import operations
from serving.model.errors import ModelError
from serving.model.loading import load_model
from serving.model.unpickling import restricted_loads

X, y = load_iris(return_X_y=True)


def fitted(**members):
    estimator = LogisticRegression(max_iter=500).fit(X, y)
    vars(estimator).update(members)
    return estimator


def old_version(content):
    """Return a pickle with a version of scikit-learn that has the same length."""
    version = re.sub("[0-9]", "0", sklearn.__version__)
    return content.replace(sklearn.__version__.encode(), version.encode())


def test_pickle_of_numpy_1_is_loaded(tmp_path):
    """The names that numpy 1 writes into an estimator are those of numpy 2."""
    words = np.array(["no", "maybe", "yes"], dtype=object)[y]
    estimator = fitted(scalar=np.float64(2), extra=words)
    # Protocol 3 writes names as lines.
    content = pickle.dumps(estimator, 3)
    assert content.count(b"cnumpy._core.") > 1
    path = tmp_path / "model.pkl"
    path.write_bytes(content.replace(b"cnumpy._core.", b"cnumpy.core."))

    model = load_model(path)

    np.testing.assert_array_equal(model.predict(X), estimator.predict(X))
    assert model.estimator.extra.tolist() == words.tolist()


def test_functions_of_numpy_1_are_loaded():
    """Numpy 1 writes the module that defines a function."""
    function = make_pipeline(FunctionTransformer(np.log1p))
    content = pickle.dumps(function, 3)
    assert content.count(b"cnumpy\nlog1p\n") == 1
    content = content.replace(b"cnumpy\nlog1p\n", b"cnumpy.core._multiarray_umath\nlog1p\n")
    assert restricted_loads(content).value[0].func is np.log1p


@pytest.mark.parametrize(
    ("constructor", "name", "generator"),
    [
        (b"__randomstate_ctor", "MT19937", np.random.RandomState),
        (b"__generator_ctor", "PCG64", np.random.Generator),
    ],
    ids=["RandomState", "Generator"],
)
def test_random_state_of_numpy_1_is_loaded(constructor, name, generator):
    """Numpy 1 writes the name of a bit generator, and the function that makes one."""
    module = b"cnumpy.random._pickle\n"
    call = [module + constructor + b"\n", name, module + b"__bit_generator_ctor\n"]
    value = restricted_loads(operations(*call, pickle.TUPLE2 + pickle.REDUCE)).value
    assert type(value) is generator


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (b"numpy.core.multiarray", b"fromfile"),
        (b"numpy.core.numeric", b"load"),
        (b"numpy.core._multiarray_umath", b"fromfile"),
        (b"numpy.core._multiarray_umath", b"frompyfunc"),
    ],
)
def test_other_names_of_numpy_1_are_refused(module, name):
    """What is not on the allow-list stays refused under the name that the pickle has."""
    message = f"it imports {module.decode()}.{name.decode()}, which is not on the allow-list"
    with pytest.raises(ModelError, match=message):
        restricted_loads(operations(b"c" + module + b"\n" + name + b"\n"))


def test_unknown_bit_generator_is_refused():
    """A name that is no bit generator is refused."""
    module = b"cnumpy.random._pickle\n"
    call = [module + b"__bit_generator_ctor\n", "Other", pickle.TUPLE1 + pickle.REDUCE]
    with pytest.raises(ModelError, match="a random state has no bit generator of numpy"):
        restricted_loads(operations(*call))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps([Call(str.upper, "a"), fitted()], 4),
        pickle.dumps(fitted(), 4).replace(b"_logistic", b"_moved_on"),
        pickle.dumps(fitted(), 0),
        pickle.dumps(fitted(), 1),
        pickle.dumps(fitted(), 2),
        pickle.dumps(fitted(), 3).replace(b"sklearn.", b"sklearm."),
        pickle.dumps([fitted(), 1], 4)[:-5],
    ],
    ids=[
        "refused call",
        "moved module",
        "protocol 0",
        "protocol 1",
        "protocol 2",
        "other package",
        "cut off",
    ],
)
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
def test_other_scikit_learn_is_named_first(tmp_path, content, compress):
    """Whatever else is off about it, a pickle of another scikit-learn is named as one."""
    path = tmp_path / "model.pkl"
    path.write_bytes(old_version(content))
    if compress:
        path.write_bytes(zlib.compress(old_version(content)))
    version = re.sub("[0-9]", "0", sklearn.__version__)
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert str(caught.value) == (
        f"{path}: trained with scikit-learn {version}, {sklearn.__version__} is installed; "
        f"retrain or install {version}"
    )


def test_version_that_is_cut_off_is_not_named(tmp_path):
    """A file that ends within the version is cut off, and not of a version 1."""
    content = pickle.dumps(fitted(), 4)
    end = content.rindex(sklearn.__version__.encode()) + len(sklearn.__version__) - 1
    path = tmp_path / "model.pkl"
    path.write_bytes(content[:end])
    with pytest.raises(ModelError, match="it is cut off or damaged"):
        load_model(path)

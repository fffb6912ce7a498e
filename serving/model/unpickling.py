"""An unpickler that can import what a scikit-learn estimator is made of, and nothing else.

A pickle is a program; what it can do is call what it can import. This list narrows that to classes and arithmetic. It
does not make a stranger's file safe to serve: the digest (`MODEL_SHA256`, the model card) says whose file it is.
"""

import io
import warnings
from pickle import UnpicklingError
from typing import Any

import numpy as np
from joblib.numpy_pickle import NumpyUnpickler
from sklearn.exceptions import InconsistentVersionWarning

# Whoever serves another library's estimator adds its package here.
ALLOWED_CLASS_PREFIXES = ("sklearn.", "scipy.sparse.", "scipy.interpolate.", "numpy.random.")
ALLOWED_FUNCTION_PREFIXES = (
    "sklearn.feature_selection.",
    "sklearn.metrics.",
)  # scores and kernels, kept by selectors and searches
ALLOWED_CONSTRUCTOR_PREFIXES = (
    "newObj",
    "__pyx_unpickle_",
)  # how Cython's classes in scikit-learn are put together again
ALLOWED_NAMES = {  # how arrays, scalars, random states and column ranges are
    ("builtins", "slice"),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("joblib.numpy_pickle", "NumpyArrayWrapper"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.ma", "MaskedArray"),
    ("numpy.ma.core", "_mareconstruct"),
    ("scipy._lib.array_api_compat.numpy._aliases", "asarray"),
    ("numpy.random._pickle", "__bit_generator_ctor"),
    ("numpy.random._pickle", "__generator_ctor"),
    ("numpy.random._pickle", "__randomstate_ctor"),
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"),
}


class _RestrictedUnpickler(NumpyUnpickler):  # type: ignore[misc]  # joblib is untyped
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ALLOWED_NAMES:
            return super().find_class(module, name)
        if module == "numpy" and isinstance(getattr(np, name, None), np.ufunc):
            return getattr(np, name)
        # A dotted name walks attributes, out of the module that was named; so does a name imported from elsewhere.
        if module.startswith(ALLOWED_CLASS_PREFIXES) and "." not in name:
            found = super().find_class(module, name)
            home = f"{getattr(found, '__module__', '')}."
            if isinstance(found, type):
                allowed = home.startswith(ALLOWED_CLASS_PREFIXES)
            else:
                allowed = home.startswith(ALLOWED_FUNCTION_PREFIXES) or name.startswith(
                    ALLOWED_CONSTRUCTOR_PREFIXES
                )
            if allowed:
                return found
        raise UnpicklingError(f"it imports {module}.{name}, which is not on the allow-list")


def restricted_loads(pickled: bytes) -> Any:
    """Return the object in `pickled`, the bytes of an uncompressed pickle by joblib.

    Raises UnpicklingError for anything off the list, InconsistentVersionWarning for an estimator of another
    scikit-learn, and whatever else a broken file makes of the pickle machine.
    """
    if pickled[:1] != b"\x80":
        raise UnpicklingError("not an uncompressed pickle")
    with warnings.catch_warnings():
        warnings.simplefilter("error", InconsistentVersionWarning)
        return _RestrictedUnpickler("", io.BytesIO(pickled), ensure_native_byte_order=True).load()

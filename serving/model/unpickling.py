"""An unpickler that imports only what a scikit-learn estimator consists of.

A pickle is a program that can call whatever it can import. The allow-list narrows that to classes
and arithmetic. It does not make an unknown file safe to serve: only the digest (`MODEL_SHA256`, the
model card) says whose file it is.
"""

import io
import warnings
from pickle import UnpicklingError
from typing import Any

import numpy as np
from joblib.numpy_pickle import NumpyUnpickler
from sklearn.exceptions import InconsistentVersionWarning

# To serve an estimator of another library, add its package here.
ALLOWED_CLASS_PREFIXES = ("sklearn.", "scipy.sparse.", "scipy.interpolate.", "numpy.random.")

# Scores and kernels, which selectors and searches keep.
ALLOWED_FUNCTION_PREFIXES = ("sklearn.feature_selection.", "sklearn.metrics.")

# The functions that rebuild the Cython classes of scikit-learn.
ALLOWED_CONSTRUCTOR_PREFIXES = ("newObj", "__pyx_unpickle_")

# The parts of arrays, scalars, random states and column ranges.
ALLOWED_NAMES = {
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
        """Import a name on the allow-list. Raises UnpicklingError for any other name."""
        if (module, name) in ALLOWED_NAMES:
            return super().find_class(module, name)
        if module == "numpy" and isinstance(getattr(np, name, None), np.ufunc):
            return getattr(np, name)

        # A dotted name reads attributes, which leads out of the module.
        if module.startswith(ALLOWED_CLASS_PREFIXES) and "." not in name:
            candidate = super().find_class(module, name)
            if _is_allowed(candidate, name):
                return candidate
        raise UnpicklingError(f"it imports {module}.{name}, which is not on the allow-list")


def restricted_loads(model_bytes: bytes) -> Any:
    """Return the object in `model_bytes`, an uncompressed pickle by joblib.

    Raises UnpicklingError for a name that is not allowed, InconsistentVersionWarning for an
    estimator of another scikit-learn, and any other exception for a broken pickle.
    """
    if model_bytes[:1] != b"\x80":
        raise UnpicklingError("not an uncompressed pickle")

    with warnings.catch_warnings():
        warnings.simplefilter("error", InconsistentVersionWarning)
        file = io.BytesIO(model_bytes)
        return _RestrictedUnpickler("", file, ensure_native_byte_order=True).load()


def _is_allowed(candidate: Any, name: str) -> bool:
    """Return whether an object from an allowed package is defined in one too, and is harmless.

    A module also exports what it has imported from elsewhere.
    """
    defining_module = f"{getattr(candidate, '__module__', '')}."
    if isinstance(candidate, type):
        return defining_module.startswith(ALLOWED_CLASS_PREFIXES)
    if name.startswith(ALLOWED_CONSTRUCTOR_PREFIXES):
        return True
    return defining_module.startswith(ALLOWED_FUNCTION_PREFIXES)

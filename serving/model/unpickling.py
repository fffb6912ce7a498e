"""An unpickler that calls only what rebuilds the parts of an estimator.

A pickle is a program: it imports names, calls them, and sets attributes. Each of the three is
restricted here. That does not make an unknown file safe to serve: only the digest (`MODEL_SHA256`,
the model card) says whose file it is.
"""

import io
import pickle
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler
from scipy.stats import rv_continuous, rv_discrete
from sklearn.exceptions import InconsistentVersionWarning

from serving.model.allow_list import Use
from serving.model.errors import ModelError
from serving.model.imports import current_module, import_name
from serving.model.libraries import check_scikit_learn, check_written_version
from serving.model.rebuilding import REPLACEMENTS, check_state, distribution_state, dtype_state

# The last arguments of numpy.dtype in a pickle: not aligned, and a new one.
NEW_DTYPE = (False, True)


@dataclass(frozen=True)
class Unpickled:
    """The object in a pickle, and the modules that the pickle imports."""

    value: Any
    modules: frozenset[str]


def restricted_loads(model_bytes: bytes) -> Unpickled:
    """Return the object in `model_bytes`, an uncompressed pickle by joblib.

    Raises ModelError for what is not allowed, for a file that is cut off, and for an estimator of
    another scikit-learn, which goes before everything else; any other exception for a broken
    pickle.
    """
    if model_bytes[:1] != b"\x80":
        raise pickle.UnpicklingError("not an uncompressed pickle")

    file = _File(model_bytes)
    names = _ImportedNames()
    with warnings.catch_warnings():
        warnings.simplefilter("error", InconsistentVersionWarning)
        try:
            value = _RestrictedUnpickler(file, names).load()
        except InconsistentVersionWarning as warning:
            check_scikit_learn(warning.original_sklearn_version)
            raise
        except Exception as error:
            check_written_version(model_bytes)
            if file.is_exhausted and not isinstance(error, ModelError):
                raise ModelError("it is cut off or damaged: copy or train it again") from error
            raise
    return Unpickled(value, frozenset(names.modules))


class _File(io.BytesIO):
    """A file that remembers whether more was read than it has."""

    is_exhausted = False

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes."""
        content = super().read(size)
        if size is not None and len(content) < size:
            self.is_exhausted = True
        return content


@dataclass(frozen=True)
class InstancesOf:
    """Stands for a class in a pickle, which may create instances and do nothing else with it."""

    instance_class: type

    def __call__(self, *arguments: Any, **named: Any) -> None:
        """Raise ModelError, where an estimator calls the class."""
        raise ModelError(f"an estimator calls the class {_text(self.instance_class)}")


class _ImportedNames:
    """What a pickle has imported so far, and what it may do with each."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        # By identity: some objects have no hash. They are kept, so that no other gets their id.
        self.uses: dict[int, tuple[Any, Use]] = {}

    def add(self, module: str, value: Any, use: Use) -> None:
        self.modules.add(module)
        self.uses[id(value)] = (value, use)

    def use_of(self, value: Any) -> Use | None:
        _, use = self.uses.get(id(value), (None, None))
        return use


class _RestrictedUnpickler(NumpyUnpickler):  # type: ignore[misc]  # joblib is untyped
    dispatch = NumpyUnpickler.dispatch.copy()

    def __init__(self, file: io.BytesIO, names: _ImportedNames) -> None:
        super().__init__("", file, ensure_native_byte_order=True)
        self.names = names

    def find_class(self, module: str, name: str) -> Any:
        """Import a name on the allow-list. Raises ModelError for any other name."""
        module = current_module(module, name)
        if (module, name) in _REPLACEMENTS:
            value, use = _REPLACEMENTS[module, name]
        else:
            value, use = import_name(module, name)

        if use is Use.CLASS:
            value = InstancesOf(value)
        self.names.add(module, value, use)
        return value

    def load_reduce(self) -> None:
        """Call a constructor."""
        *_, function, arguments = self.stack
        if self.names.use_of(function) is not Use.CONSTRUCTOR:
            raise ModelError(f"it calls {_text(function)}, which is not a constructor")
        if function is partial and not self._is_function(*arguments):
            raise ModelError(f"it makes a partial of {_text(*arguments)}, which is not a function")
        if function is np.dtype and arguments[1:] != NEW_DTYPE:
            raise ModelError("it takes a dtype that the whole process shares")
        super().load_reduce()

    def load_newobj(self) -> None:
        """Create an instance of a class without calling `__init__`."""
        *_, cls, _ = self.stack
        if self.names.use_of(cls) is not Use.CLASS:
            raise ModelError(f"it creates an instance of {_text(cls)}, which is not a class for it")
        self.stack[-2] = cls.instance_class
        super().load_newobj()

    def load_build(self) -> None:
        """Set the state of an instance; an array takes the place of its wrapper."""
        *_, instance, state = self.stack
        if self.names.use_of(instance):
            raise ModelError(f"it changes {_text(instance)}, which the whole process shares")
        if isinstance(instance, rv_continuous | rv_discrete):
            self.stack[-1] = distribution_state(instance, state)
        elif isinstance(instance, np.dtype):
            self.stack[-1] = dtype_state(instance, state)
        else:
            check_state(instance, state)
        super().load_build()

    def load_append(self) -> None:
        """Append to a list."""
        _check_type(self.stack[-2], list)
        super().load_append()

    def load_appends(self) -> None:
        """Extend a list."""
        _check_type(self.metastack[-1][-1], list)
        super().load_appends()

    def load_additems(self) -> None:
        """Add to a set."""
        _check_type(self.metastack[-1][-1], set)
        super().load_additems()

    def load_setitem(self) -> None:
        """Set an item of a dict."""
        _check_type(self.stack[-3], dict)
        super().load_setitem()

    def load_setitems(self) -> None:
        """Set items of a dict."""
        _check_type(self.metastack[-1][-1], dict)
        super().load_setitems()

    def refuse_operation(self) -> None:
        """Refuse an operation that the pickles of estimators do not contain."""
        raise ModelError("it has an operation that the pickle of an estimator does not need")

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.APPEND[0]] = load_append
    dispatch[pickle.APPENDS[0]] = load_appends
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    for operation in (pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.PERSID, pickle.BINPERSID):
        dispatch[operation[0]] = refuse_operation

    def _is_function(self, value: Any) -> bool:
        return self.names.use_of(value) is Use.REFERENCE and not isinstance(value, type)


class _ArrayWrapper(NumpyArrayWrapper):  # type: ignore[misc]  # joblib is untyped
    """Stands for an array, whose bytes follow in the file."""

    def read_array(self, unpickler: _RestrictedUnpickler, ensure_native_byte_order: bool) -> Any:
        """Read the array. Objects are a pickle of their own, with the same restrictions."""
        _check_type(self.dtype, np.dtype)
        if self.dtype.hasobject:
            return _RestrictedUnpickler(unpickler.file_handle, unpickler.names).load()
        return super().read_array(unpickler, ensure_native_byte_order)


_REPLACEMENTS = REPLACEMENTS | {
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): (_ArrayWrapper, Use.CLASS)
}


def _check_type(value: Any, expected: type) -> None:
    if not isinstance(value, expected):
        raise ModelError(f"it uses {_text(value)} as {expected.__name__}")


def _text(value: Any) -> str:
    """Return the name of a function or class, or of the class of an instance."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"

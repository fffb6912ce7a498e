"""Import a name on the allow-list, or say why it is refused and what to do."""

import importlib
import re
import sys
from importlib import metadata
from types import FunctionType
from typing import Any

import numpy as np
from scipy.sparse import sparray, spmatrix
from scipy.stats import rv_continuous, rv_discrete
from sklearn.base import BaseEstimator

from serving.model import allow_list
from serving.model.allow_list import OTHER_LIBRARIES, OWN_MODULE, Use
from serving.model.errors import ModelError, describe_error

OWN_FILE = OWN_MODULE.replace(".", "/") + ".py"

NAMES = allow_list.CONSTRUCTORS | allow_list.CLASSES | allow_list.TYPES | allow_list.FUNCTIONS

MODULES = (
    {module for module, _ in NAMES}
    | allow_list.CLASS_MODULES
    | allow_list.COMPILED_MODULES
    | allow_list.DISTRIBUTION_MODULES
    | allow_list.SPARSE_MODULES
    | allow_list.UFUNC_MODULES
    | {OWN_MODULE}
)


def current_module(module: str, name: str) -> str:
    """Return where numpy 2 has an allowed name that a pickle imports from numpy 1."""
    renamed = re.sub(r"^numpy\.core\.", "numpy._core.", module)
    if (renamed, name) in NAMES:
        return renamed
    if renamed == "numpy._core._multiarray_umath" and isinstance(vars(np).get(name), np.ufunc):
        return "numpy"
    return module


def import_name(module: str, name: str) -> tuple[Any, Use]:
    """Return the object that a pickle imports, and what the pickle may do with it.

    Raises ModelError if the name is not on the allow-list or cannot be imported.
    """
    if _is_allowed_module(module):
        # A dotted name, which leads out of the module, is not split, so that it is not found.
        value = getattr(_import_module(module), name, None)
        use = _use_of(value, module, name)
        if use:
            return value, use

    raise ModelError(
        f"it imports {module}.{name}, which is not on the allow-list: {_advice(module, name)}"
    )


def distributions_of(module: str) -> list[str]:
    """Return the installed distributions that contain the top-level package of `module`."""
    top_level = module.partition(".")[0]
    return sorted(set(metadata.packages_distributions().get(top_level, [])))


def _is_allowed_module(module: str) -> bool:
    """Return whether a module may be imported, which executes it."""
    if module in MODULES or module in OTHER_LIBRARIES:
        return True

    parts = module.split(".")
    if parts[0] != "sklearn" or len(parts) < 2 or "tests" in parts:
        return False
    return parts[1] in allow_list.ESTIMATOR_PACKAGES or parts[1] == "metrics"


def _import_module(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # a library can raise anything, such as OSError without libgomp
        top_level = module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name == top_level:
            raise ModelError(
                f"needs {top_level}, which is not installed: add it to the dependency group "
                "`model` in pyproject.toml and run `make lock`"
            ) from error
        raise ModelError(f"{module} cannot be imported: {describe_error(error)}") from error


def _use_of(value: Any, module: str, name: str) -> Use | None:
    """Return what a pickle may do with an object that it imports; None is nothing."""
    if (module, name) in allow_list.CONSTRUCTORS:
        return Use.CONSTRUCTOR
    if (module, name) in allow_list.CLASSES:
        return Use.CLASS
    if (module, name) in allow_list.TYPES | allow_list.FUNCTIONS:
        return Use.REFERENCE

    if isinstance(value, type):
        return _use_of_class(value, module)
    return _use_of_function(value, module, name)


def _use_of_class(value: type, module: str) -> Use | None:
    # A module also exports what it has imported from elsewhere.
    if value.__module__ != module:
        return None
    if module in allow_list.COMPILED_MODULES:
        return Use.CONSTRUCTOR
    if issubclass(value, np.generic):
        return Use.REFERENCE

    is_allowed = (
        module in allow_list.CLASS_MODULES
        or module == OWN_MODULE
        or value.__name__ in OTHER_LIBRARIES.get(module, ())
        or (module.startswith("sklearn.") and issubclass(value, BaseEstimator))
        or (module in allow_list.SPARSE_MODULES and issubclass(value, sparray | spmatrix))
        or (
            module in allow_list.DISTRIBUTION_MODULES
            and issubclass(value, rv_continuous | rv_discrete)
        )
    )
    return Use.CLASS if is_allowed else None


def _use_of_function(value: Any, module: str, name: str) -> Use | None:
    if module in allow_list.COMPILED_MODULES and name.startswith(allow_list.COMPILED_PREFIXES):
        return Use.CONSTRUCTOR
    if module in allow_list.UFUNC_MODULES and isinstance(value, np.ufunc):
        return Use.REFERENCE
    if module == "numpy" and name in allow_list.NUMPY_FUNCTIONS:
        return Use.REFERENCE

    # A module also exports what it has imported from elsewhere.
    if not isinstance(value, FunctionType) or value.__module__ != module:
        return None
    if module == OWN_MODULE or _is_public_function(value, name):
        return Use.REFERENCE
    return None


def _is_public_function(value: FunctionType, name: str) -> bool:
    """Return whether one of the packages with harmless functions exports `value`."""
    if name.startswith("_") or name in allow_list.EXCLUDED_FUNCTIONS:
        return False

    for package in allow_list.FUNCTION_PACKAGES:
        if getattr(importlib.import_module(package), name, None) is value:
            return True
    return False


def _advice(module: str, name: str) -> str:
    top_level = module.partition(".")[0]
    if (module, name) == ("builtins", "getattr"):
        return f"a method of an object cannot be saved; call it in a function in {OWN_FILE}"
    if module == "joblib.memory":
        return "a memory writes files; set it to None after fitting, `set_params(memory=None)`"
    if (module, name) == ("_codecs", "encode"):
        return "protocols below 3 need it; write it with `joblib.dump(estimator, path)`"
    if top_level == "pandas":
        return "make a list of it before it is given to the estimator, such as `list(X.columns)`"

    is_installed = top_level in sys.stdlib_module_names or distributions_of(module)
    if top_level == "__main__" or not is_installed:
        return f"define {name} in {OWN_FILE}, and import it from there"
    return "serving/model/allow_list.py says what may be added"

"""What a pickle may set on an object, and stand-ins for functions that would call an argument."""

from functools import partial
from typing import Any

import numpy as np
import scipy.stats
from numpy.random import (
    MT19937,
    PCG64,
    PCG64DXSM,
    SFC64,
    BitGenerator,
    Generator,
    Philox,
    RandomState,
)
from scipy.stats import rv_discrete

from serving.model.allow_list import COMPILED_MODULES, METHOD_ATTRIBUTES, METHODS, Use
from serving.model.errors import ModelError, describe_error
from serving.model.imports import import_name

BIT_GENERATORS = {cls.__name__: cls for cls in (MT19937, PCG64, PCG64DXSM, Philox, SFC64)}

# The flag of a dtype that only says how it was made, and the others. numpy 1 has a signed byte.
ALIGNED_STRUCT = 0x80
OTHER_FLAGS = 0x7F


def check_state(instance: Any, state: Any) -> None:
    """Raise ModelError if `state` changes more than the attributes of an instance."""
    if isinstance(instance, partial):
        if state[0] is not instance.func:
            raise ModelError("it changes the function of a partial")
        return
    # Compiled classes and arrays read their state themselves.
    is_compiled = type(instance).__module__ in COMPILED_MODULES or isinstance(instance, np.ndarray)
    if is_compiled or isinstance(instance, _Vectorized) or not hasattr(instance, "__dict__"):
        return

    states = state if type(state) is tuple and len(state) == 2 else (state,)
    for attributes in states:
        if attributes is None:
            continue
        if type(attributes) is not dict:
            raise ModelError(f"the state of {type(instance).__name__} is not a dict")
        for name, value in attributes.items():
            _check_attribute(type(instance), name, value)


def _check_attribute(cls: type, name: Any, value: Any) -> None:
    if type(name) is not str:
        raise ModelError(f"an attribute of {cls.__name__} has no name")
    is_special = name.startswith("__") and name.endswith("__")
    if is_special or callable(getattr(cls, name, None)):
        raise ModelError(f"it replaces the method {name} of {cls.__name__}")

    if name == "memory" and value is not None:
        raise ModelError(
            f"{cls.__name__} has a memory, which writes files: "
            "set it to None after fitting, `set_params(memory=None)`"
        )
    if name == "input" and value == "filename":
        raise ModelError(f"{cls.__name__} opens the files that its rows name")
    if name in METHOD_ATTRIBUTES and not _names_methods(value):
        raise ModelError(f"{name} of {cls.__name__} may be one of {', '.join(sorted(METHODS))}")


def _names_methods(value: Any) -> bool:
    """Return whether every method that `value` names only predicts."""
    if value is None:
        return True

    names = [value] if type(value) is str else value
    if type(names) not in (list, tuple):
        return False
    return all(type(name) is str and name in METHODS for name in names)


def dtype_state(dtype: np.dtype[Any], state: Any) -> Any:
    """Return the state of the dtype that `state` describes, as numpy makes it.

    The state in the pickle is not used: numpy does not check it. Its flags say whether bytes are
    pointers, and one of another form ends the process. Raises ModelError.
    """
    try:
        _, order, subdtype, names, fields, itemsize, _, flags, *metadata = state
        if names is not None:
            description: Any = {
                "names": list(names),
                "formats": [fields[name][0] for name in names],
                "offsets": [fields[name][1] for name in names],
                "itemsize": itemsize,
            }
            made = np.dtype(description, align=bool(flags & ALIGNED_STRUCT))
        elif subdtype is not None:
            made = np.dtype(subdtype)
        elif dtype.kind in "mM":
            _, (unit, count, *_) = metadata[0]
            step = unit.decode() if count == 1 else f"{count}{unit.decode()}"
            made = np.dtype(f"{dtype.kind}8[{step}]").newbyteorder(order)
        else:
            made = dtype.newbyteorder(order)
        has_flags = not (flags ^ made.flags) & OTHER_FLAGS
        is_same = has_flags and made.kind == dtype.kind and itemsize in (-1, made.itemsize)
    except Exception as error:  # a broken state can raise anything
        raise ModelError(f"it has an impossible dtype: {describe_error(error)}") from error

    if not is_same:
        raise ModelError("it has an impossible dtype: it is not as numpy makes it")
    return made.__reduce__()[2]


def distribution_state(distribution: Any, state: Any) -> Any:
    """Return the state of the distribution that scipy.stats has under the name in `state`.

    The state in the pickle is not used: scipy executes a text in it. Raises ModelError if there is
    no such distribution.
    """
    name = state.get("name") if type(state) is dict else None
    public = getattr(scipy.stats, name, None) if type(name) is str else None
    if type(public) is not type(distribution):
        raise ModelError(f"{type(distribution).__name__} is not a distribution of scipy.stats")
    return public.__getstate__()


def _bit_generator(bit_generator: Any) -> Any:
    # numpy's own function calls any class. In a pickle of numpy 1 there is a name.
    if type(bit_generator) is str:
        bit_generator = BIT_GENERATORS.get(bit_generator)
    if isinstance(bit_generator, type) and issubclass(bit_generator, BitGenerator):
        return bit_generator()
    raise ModelError("a random state has no bit generator of numpy")


# numpy's own functions call their second argument, which numpy 1 writes after a name.
def _generator(bit_generator: Any, _: Any = None) -> Generator:
    if type(bit_generator) is str:
        bit_generator = _bit_generator(bit_generator)
    return Generator(bit_generator)


def _random_state(bit_generator: Any, _: Any = None) -> RandomState:
    if type(bit_generator) is str:
        bit_generator = _bit_generator(bit_generator)
    return RandomState(bit_generator)


def _distribution_method(distribution: Any, name: str) -> None:
    # A discrete distribution has its own methods in its state, which `distribution_state` ignores.
    if not isinstance(distribution, rv_discrete):
        import_name("builtins", "getattr")


class _Vectorized:
    """Stands for numpy.vectorize in the state of a discrete distribution."""

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""

    def __call__(self, *arguments: Any) -> None:
        """Raise ModelError, where an estimator uses numpy.vectorize itself."""
        import_name("numpy", "vectorize")


REPLACEMENTS: dict[tuple[str, str], tuple[Any, Use]] = {
    ("builtins", "getattr"): (_distribution_method, Use.CONSTRUCTOR),
    ("numpy", "vectorize"): (_Vectorized, Use.CLASS),
    ("numpy.random._pickle", "__bit_generator_ctor"): (_bit_generator, Use.CONSTRUCTOR),
    ("numpy.random._pickle", "__generator_ctor"): (_generator, Use.CONSTRUCTOR),
    ("numpy.random._pickle", "__randomstate_ctor"): (_random_state, Use.CONSTRUCTOR),
}

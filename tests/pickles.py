"""Objects that pickle as a chosen program: a call, an instance with a state, raw operations."""

import copyreg
import io
import pickle

import joblib

from helpers import Call


class Result(Call):
    """The result of a call, which is called itself in its turn."""

    def __call__(self):
        """Pickle accepts only what can be called as a function."""


class Instance:
    """Pickles as an instance of `cls` with `state`, without a call of `__init__`."""

    def __init__(self, cls, state):
        self.cls = cls
        self.state = state

    @property
    def __class__(self):
        return self.cls

    def __reduce_ex__(self, protocol):
        return copyreg.__newobj__, (self.cls,), self.state

    def __call__(self):
        """Pickle accepts only what can be called as a function."""


def joblib_bytes(value):
    """Return the bytes of a file that joblib writes."""
    buffer = io.BytesIO()
    joblib.dump(value, buffer, protocol=4)
    return buffer.getvalue()


def operations(*parts):
    """Return a pickle of `parts`, one after the other: bytes are operations, others are pushed."""
    buffer = io.BytesIO()
    pickler = pickle._Pickler(buffer, 4)
    buffer.write(pickle.PROTO + b"\x04")
    for part in parts:
        if isinstance(part, bytes):
            buffer.write(part)
        else:
            pickler.save(part)
    buffer.write(pickle.STOP)
    return buffer.getvalue()

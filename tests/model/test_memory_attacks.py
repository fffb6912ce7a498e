"""Pickles that describe memory in another way than numpy does."""

import numpy as np
import pytest

from pickles import operations
from serving.model.errors import ModelError
from serving.model.unpickling import restricted_loads


class DType:
    """Pickles as a call of numpy.dtype, with a state."""

    def __init__(self, arguments, state):
        self.arguments = arguments
        self.state = state

    def __reduce__(self):
        return np.dtype, self.arguments, self.state


NUMBER = np.dtype("i8")


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("O8", (3, "|", None, None, None, -1, -1, 0)),
        ("U5", (3, "<", None, None, None, 3, 4, 8)),
        ("V16", (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 16, 1, 0)),
        ("V16", (3, "|", None, ("a",), {"a": (NUMBER, 4096)}, 16, 1, 0)),
        ("V16", (3, "|", None, ("a",), {"a": (NUMBER, -8)}, 16, 1, 0)),
        ("V16", (3, "|", (np.dtype("O"), (2,)), None, None, 16, 1, 0)),
        # With these two numpy ends the process.
        ("M8", (3, "<", None, None, None, -1, -1, 0)),
        ("i8", (3, "<", None, -1, -1, 0)),
    ],
    ids=[
        "pointers",
        "size",
        "pointers in a field",
        "offset",
        "negative offset",
        "pointers in rows",
        "time without a unit",
        "another form",
    ],
)
def test_impossible_dtype_is_refused(text, state):
    """Bytes of the file do not become pointers, and fields stay within their row."""
    with pytest.raises(ModelError, match="it has an impossible dtype"):
        restricted_loads(operations(DType((text, False, True), state)))


@pytest.mark.parametrize("arguments", [("f8",), ("f8", False, False), ("f8", True, True)])
def test_shared_dtype_is_not_changed(arguments):
    """A pickle cannot change the byte order of the numbers of the whole process."""
    change = DType(arguments, (3, ">", None, None, None, -1, -1, 0))
    with pytest.raises(ModelError, match="it takes a dtype that the whole process shares"):
        restricted_loads(operations(change))
    assert np.dtype("f8").isnative


@pytest.mark.parametrize(
    "dtype",
    [
        "f8",
        ">i4",
        "U5",
        "S3",
        "M8[ns]",
        "O",
        "V7",
        [("a", "f8"), ("b", "O"), ("c", "U3", (2,))],
        np.dtype([("a", "i1"), ("b", "f8")], align=True),
    ],
    ids=str,
)
def test_dtypes_of_numpy_are_loaded(dtype):
    """Every dtype that numpy pickles is loaded as it was."""
    assert restricted_loads(operations(np.dtype(dtype))).value == np.dtype(dtype)


def test_aligned_dtype_of_numpy_1_is_loaded():
    """The flags in a pickle of numpy 1 are a signed byte, negative for an aligned dtype."""
    aligned = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    _, arguments, (*state, flags) = aligned.__reduce__()
    loaded = restricted_loads(operations(DType(arguments, (*state, flags - 256)))).value
    assert loaded == aligned
    assert loaded.isalignedstruct

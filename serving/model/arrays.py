"""The types of arrays that the packages pass to each other."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]

# Rows of a model, of shape (rows, features): float64, or Python values (see signature.py).
Rows = NDArray[Any]

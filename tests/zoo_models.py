"""The models of tests/zoo.py, each trained when it is first used, once a run."""

import atexit
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from serving.training.training import train_model, write_model
from zoo import ZOO


@cache
def zoo_model(name: str) -> tuple[Any, Path]:
    """Return a trained model, and the path of its file, which has its card beside it."""
    directory = Path(tempfile.mkdtemp(prefix="zoo-model-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)

    load_data, build = ZOO[name]
    # More threads than processors wait for each other, and small fits take seconds.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether a fit converges is no matter here
        model = train_model("zoo", load_data(), build)
        write_model(directory / "model.pkl", model)
    return model, directory / "model.pkl"

"""Transformers of one's own, as docs/your-model.md describes them, in a copy of the program."""

import hashlib
import os
import re
import subprocess
import sys

import msgspec
import pytest

from documentation import section
from helpers import MODEL_FILE, ROOT
from pickles import operations
from serving.model import transformers
from serving.model.errors import ModelError
from serving.model.unpickling import restricted_loads

DOCUMENT = section("your-model.md", "Transformers of your own")
SOURCE, IMPORTS = re.findall("```python\n(.*?)```", DOCUMENT, re.DOTALL)

PROGRAM = f"""
import sys
from pathlib import Path

sys.path.insert(0, {str(ROOT / "tests")!r})
from helpers import card_fields
from serving.model.storage import save_model
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

{IMPORTS}

X, y = load_iris(return_X_y=True)
fitted = build_estimator().fit(X, y)
save_model(Path("model.pkl"), fitted, reference=X[::50], **card_fields(fitted))
"""

LOAD = """
from pathlib import Path

import numpy as np
from serving.model.errors import ModelError
from serving.model.loading import load_model

try:
    print(load_model(Path("model.pkl")).predict(np.array([[5.1, 3.5, 1.4, 0.2]])))
except ModelError as error:
    print(error)
"""


def run(program, directory):
    """Run a program in a directory, with its `serving`, and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout


def test_documented_transformers_are_served(checkout):
    """The documented module is trained, served, and rejected after it was changed."""
    path = checkout / "serving/model/transformers.py"
    path.write_text(SOURCE)
    run(PROGRAM, checkout)
    card = msgspec.json.decode((checkout / "model.json").read_bytes())
    assert card["transformers_sha256"] == hashlib.sha256(SOURCE.encode()).hexdigest()
    assert run(LOAD, checkout) == "[0]\n"

    path.write_text(SOURCE.replace("0.01", "0.02"))
    assert run(LOAD, checkout) == (
        "model.pkl: serving/model/transformers.py is not the one that trained the model; "
        "retrain or restore it\n"
    )


def test_card_of_other_models_has_no_digest():
    """A model that imports nothing of one's own does not depend on the module."""
    assert "transformers_sha256" not in msgspec.json.decode(
        MODEL_FILE.with_suffix(".json").read_bytes()
    )


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("serving.model.storage", "write_files_atomically"),
        ("serving.model.transformers", "system"),
        ("serving.model.transformers", "Path"),
        ("serving.model.transformers", "os.system"),
        ("serving.model.transformers", "alias"),
        ("train", "main"),
    ],
)
def test_other_code_of_ones_own_is_refused(monkeypatch, module, name):
    """Only what the module itself defines is allowed: not what it imports, nor other modules."""
    monkeypatch.setattr(transformers, "system", os.system, raising=False)
    monkeypatch.setattr(transformers, "Path", type(ROOT), raising=False)
    monkeypatch.setattr(transformers, "alias", subprocess.run, raising=False)
    content = operations(b"c" + module.encode() + b"\n" + name.encode() + b"\n")
    with pytest.raises(ModelError, match=f"it imports {module}.{name}, which is not on the"):
        restricted_loads(content)

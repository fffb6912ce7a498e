"""A copy of the files that people edit to deploy."""

import shutil

import pytest

from helpers import ROOT


@pytest.fixture
def deployment_copy(tmp_path):
    """Return a folder with a copy of what people edit to deploy, and of the Makefile."""
    for name in ("Makefile", "k8s", ".github", "Dockerfile", "pyproject.toml"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name)
        else:
            shutil.copy(ROOT / name, tmp_path / name)

    return tmp_path

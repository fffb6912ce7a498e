"""The directories in which platforms put a model: its file is served, or the process ends."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import MODEL_FILE, ROOT, environment
from serving.config import ConfigurationError, Settings
from serving.model import directories

VARIABLES = ["AZUREML_MODEL_DIR", "AIP_STORAGE_URI", "STORAGE_URI"]


@pytest.fixture
def sagemaker(tmp_path, monkeypatch):
    """Return a directory that stands for /opt/ml/model."""
    monkeypatch.setattr(directories, "SAGEMAKER_DIRECTORY", tmp_path / "model")
    return tmp_path / "model"


def write(directory, *names):
    """Write files and, for a name with a slash at its end, folders."""
    directory.mkdir(exist_ok=True)
    for name in names:
        if name.endswith("/"):
            (directory / name).mkdir()
            (directory / name / "model.pkl").write_bytes(b"")
        else:
            (directory / name).write_bytes(b"")


def refusal(environ):
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env(environ)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_directories_are_those_of_the_platforms():
    """The directories are where SageMaker and KServe document them."""
    assert Path("/opt/ml/model") == directories.SAGEMAKER_DIRECTORY
    assert Path("/mnt/models") == directories.KSERVE_DIRECTORY


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib"])
def test_model_of_sagemaker_precedes_default(sagemaker, name):
    """The model that SageMaker unpacks goes before the one in the image, and after MODEL_PATH."""
    write(sagemaker, name, "model.json", "code/")
    assert Settings.from_env({}).model_path == sagemaker / name
    assert Settings.from_env({"MODEL_PATH": "other.pkl"}).model_path == Path("other.pkl")


def test_no_model_of_sagemaker_is_no_error(sagemaker):
    """Without files of SageMaker the model in the image is served."""
    assert Settings.from_env({}).model_path == ROOT / "model.pkl"
    write(sagemaker, ".hidden")
    assert Settings.from_env({}).model_path == ROOT / "model.pkl"


@pytest.mark.parametrize(
    ("names", "listing"),
    [
        (["iris.pkl"], "iris.pkl"),
        (["1/"], "1/"),
        (["model.pkl/"], "model.pkl/"),
        (list("gfedcba"), "a, b, c, d, e"),
    ],
)
def test_other_files_of_sagemaker_are_refused(sagemaker, names, listing):
    """With other files than a model the one in the image is not served in its place."""
    write(sagemaker, *names)
    assert refusal({}) == (
        f"SageMaker: {sagemaker} has no model.pkl or model.joblib but {listing}: "
        "put the model there under one of these names, or set MODEL_PATH to it"
    )


def test_two_models_are_refused(sagemaker):
    """Of two models none is chosen."""
    write(sagemaker, "model.joblib", "model.pkl")
    assert refusal({}) == (
        f"SageMaker: {sagemaker} has model.pkl and model.joblib: remove one, or set MODEL_PATH"
    )


def test_directory_that_is_a_file_is_refused(sagemaker):
    """What cannot be listed is refused in one line."""
    sagemaker.write_bytes(b"")
    assert refusal({}) == f"{sagemaker}: Not a directory: set MODEL_PATH to the model"


@pytest.mark.parametrize("variable", VARIABLES)
def test_local_directory_of_platform_is_used(tmp_path, variable):
    """A variable that names a local directory is followed."""
    write(tmp_path, "model.joblib")
    assert Settings.from_env({variable: str(tmp_path)}).model_path == tmp_path / "model.joblib"


@pytest.mark.parametrize("variable", VARIABLES)
def test_empty_directory_of_platform_is_refused(tmp_path, variable):
    """A directory that a variable names and that is empty is not replaced by the image's model."""
    assert refusal({variable: str(tmp_path)}) == (
        f"{variable}: {tmp_path} has no model.pkl or model.joblib but nothing: "
        "put the model there under one of these names, or set MODEL_PATH to it"
    )


@pytest.mark.parametrize("variable", VARIABLES)
def test_address_of_platform_is_refused(variable):
    """An address is named as not supported, unless MODEL_PATH says what is served."""
    address = "gs://bucket/model"
    assert refusal({variable: address}) == (
        f"{variable}: '{address}' is not a local directory, and nothing is downloaded: "
        "set MODEL_PATH to the model in the image"
    )
    settings = Settings.from_env({variable: address, "MODEL_PATH": "model.pkl"})
    assert settings.model_path == Path("model.pkl")
    assert Settings.from_env({variable: ""}).model_path == ROOT / "model.pkl"


def test_address_of_kserve_was_copied(tmp_path, monkeypatch):
    """What KServe has copied from an address is served."""
    monkeypatch.setattr(directories, "KSERVE_DIRECTORY", tmp_path)
    write(tmp_path, "model.joblib")
    settings = Settings.from_env({"STORAGE_URI": "s3://bucket/model"})
    assert settings.model_path == tmp_path / "model.joblib"


@pytest.mark.parametrize("command", [["app.py"], ["-m", "gunicorn", "app:app"]])
def test_process_ends_in_one_line(tmp_path, command):
    """A directory without a model ends the process with status 1 and one line."""
    shutil.copy(MODEL_FILE, tmp_path / "iris.pkl")
    variables = environment(MODEL_PATH="", AZUREML_MODEL_DIR=str(tmp_path))
    process = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 1
    [line] = process.stderr.splitlines()
    assert line.startswith(f"AZUREML_MODEL_DIR: {tmp_path} has no model.pkl or model.joblib but ")

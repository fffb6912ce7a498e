"""A version as MLflow's tools see it: a signature, an example, and two flavors beside our files.

The flavor `python_function` loads our files with a copy of our loader. The flavor `sklearn` is the
estimator in the format of skops, which MLflow loads alone.
"""

import sys
import tempfile
from importlib import metadata
from pathlib import Path
from shutil import copytree, ignore_patterns

import mlflow.pyfunc
import numpy as np
import pandas as pd
import skops.io
from mlflow.models import Model as MlflowModel
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, DataType, Schema

import serving.model
from serving.model.card import FeatureInfo, values_match
from serving.model.errors import ModelError, describe_error
from serving.model.imports import import_name
from serving.model.signature import has_integer_categories
from serving.registry import pyfunc
from serving.registry.model_files import ModelFiles

SKOPS_FILE = "model.skops"

DATA_TYPES = {
    "number": DataType.double,
    "integer": DataType.long,
    "boolean": DataType.boolean,
    "category": DataType.string,
    "text": DataType.string,
}


def log_model(files: ModelFiles, name: str) -> str:
    """Log the model in the active run of MLflow, and return its address."""
    model_info = MlflowModel.log(
        artifact_path=None, name=name, flavor=sys.modules[__name__], files=files
    )
    return str(model_info.model_uri)


def save_model(path: str, mlflow_model: MlflowModel, files: ModelFiles) -> None:
    """Write a version to `path`, which does not exist. MLflow calls this."""
    libraries = files.card.libraries | {
        name: metadata.version(name) for name in ("msgspec", "pandas", "scipy", "skops")
    }
    requirements = [f"{name}=={version}" for name, version in libraries.items() if name != "python"]

    with tempfile.TemporaryDirectory() as directory:
        mlflow.pyfunc.save_model(
            path,
            loader_module=pyfunc.__name__,
            code_paths=[str(copy_loader(Path(directory)))],
            mlflow_model=mlflow_model,
            signature=describe_signature(files),
            input_example=example_rows(files),
            pip_requirements=requirements,
        )

    artifacts = Path(path, pyfunc.ARTIFACT_DIR)
    artifacts.mkdir()
    for name, content in files.contents.items():
        (artifacts / name).write_bytes(content)
    add_sklearn_flavor(Path(path), mlflow_model, files)


def copy_loader(directory: Path) -> Path:
    """Copy the modules that load a model file to `directory`, and return their package."""
    package = directory / "serving"
    model_package = Path(str(serving.model.__file__)).parent
    copytree(model_package, package / "model", ignore=ignore_patterns("__pycache__"))

    registry = package / "registry"
    registry.mkdir()
    for source in (model_package.parent / "__init__.py", Path(str(pyfunc.__file__))):
        target = package / source.relative_to(model_package.parent)
        target.write_bytes(source.read_bytes())
    return package


def describe_signature(files: ModelFiles) -> ModelSignature:
    """Return the types of the features, and what is predicted for them.

    The features of an estimator that takes arrays have no names here: MLflow rejects an array
    where the signature has names, and passes on a DataFrame with its names in either case.
    """
    inputs = [describe_column(feature) for feature in files.card.features]
    if files.card.input == "array":
        inputs = [ColSpec(column.type) for column in inputs]

    predictions = [reference.prediction for reference in files.card.reference]
    outputs = infer_signature(model_output=np.array(predictions)).outputs
    return ModelSignature(Schema(inputs), outputs)


def describe_column(feature: FeatureInfo) -> ColSpec:
    """Return the name and the type of a column; it is optional if the feature may be missing."""
    data_type = DATA_TYPES[feature.type]
    if has_integer_categories(feature):
        data_type = DataType.long
    if feature.nullable and data_type == DataType.long:
        data_type = DataType.double  # MLflow has no missing integer
    return ColSpec(data_type, feature.name, required=not feature.nullable)


def example_rows(files: ModelFiles) -> pd.DataFrame:
    """Return the reference rows of the card, by name."""
    values = [reference.features for reference in files.card.reference]
    return pd.DataFrame(values, columns=files.model.features)


def add_sklearn_flavor(path: Path, mlflow_model: MlflowModel, files: ModelFiles) -> None:
    """Add the estimator in the format of skops, or print why skops cannot store it."""
    try:
        content = skops.io.dumps(files.model.estimator)
        trusted_types = find_trusted_types(content)
        check_skops(content, trusted_types, files)
    except Exception as error:  # skops can raise anything for what it does not know
        reason = describe_error(error)
        print(f"without MLflow's flavor sklearn, which skops stores: {reason}", file=sys.stderr)
        return

    (path / SKOPS_FILE).write_bytes(content)
    mlflow_model.add_flavor(
        "sklearn",
        pickled_model=SKOPS_FILE,
        sklearn_version=metadata.version("scikit-learn"),
        serialization_format="skops",
        skops_trusted_types=trusted_types,
        code=mlflow_model.flavors["python_function"]["code"],
    )
    mlflow_model.save(path / "MLmodel")


def find_trusted_types(content: bytes) -> list[str]:
    """Return the types in a file of skops that skops does not know, and our allow-list has.

    Raises ModelError for a type that is not on the allow-list.
    """
    names: list[str] = skops.io.get_untrusted_types(data=content)
    for name in names:
        module, _, attribute = name.rpartition(".")
        import_name(module, attribute)
    return names


def check_skops(content: bytes, trusted_types: list[str], files: ModelFiles) -> None:
    """Raise ModelError unless the estimator in a file of skops predicts the reference rows."""
    references = files.card.reference
    signature = files.model.signature
    rows = signature.to_rows([reference.features for reference in references])

    estimator = skops.io.loads(content, trusted=trusted_types)
    predictions = np.asarray(estimator.predict(signature.to_input(rows))).tolist()
    if not values_match(predictions, [reference.prediction for reference in references]):
        raise ModelError("its estimator has other predictions")

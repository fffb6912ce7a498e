"""Versions in a real MLflow server: registered, promoted, pulled and served."""

import json
import re

import msgspec
from sklearn.datasets import load_iris

from helpers import JSON, ROOT
from registries import FILE_NAMES, digest, read_files, run_python

X = load_iris().data

DESCRIBE_VERSION = """
import json, sys
import mlflow
client = mlflow.MlflowClient()
version = client.get_model_version(*sys.argv[1:])
run = client.get_run(version.run_id)
uri = f"models:/{version.name}/{version.version}"
signature = mlflow.models.get_model_info(uri).signature
print(json.dumps({
    "tags": version.tags,
    "parameters": run.data.params,
    "metrics": run.data.metrics,
    "run_tags": run.data.tags,
    "inputs": signature.inputs.to_dict(),
    "outputs": signature.outputs.to_dict(),
    "example": mlflow.artifacts.load_dict(f"{uri}/input_example.json"),
    "files": [file.path for file in client.list_artifacts(version.run_id)],
}))
"""

PREDICT_WITH_PYFUNC = """
import sys
import mlflow
from sklearn.datasets import load_iris
print(mlflow.pyfunc.load_model(sys.argv[1]).predict(load_iris().data).tolist())
"""


def predict_with_pyfunc(url, uri):
    """Return the predictions of MLflow's own pyfunc for every row."""
    status, output, errors = run_python(
        ROOT, "-c", PREDICT_WITH_PYFUNC, uri, MLFLOW_TRACKING_URI=url
    )
    assert status == 0, errors
    return json.loads(output)


def test_version_describes_the_model(registered, trained):
    """A version holds parameters, metrics, digests, signature, example and confusion matrix."""
    status, output, errors = run_python(
        ROOT, "-c", DESCRIBE_VERSION, "iris", "1", MLFLOW_TRACKING_URI=registered
    )
    assert status == 0, errors
    version = json.loads(output)
    card = msgspec.json.decode((trained[0] / "model.json").read_bytes())

    assert version["tags"] == {
        "sha256": digest(trained[0] / "model.pkl"),
        "card_sha256": digest(trained[0] / "model.json"),
    }
    assert version["parameters"]["max_iter"] == "200"
    for group in ("held_out", "cross_validation"):
        accuracy = version["metrics"][f"{group}.accuracy"]
        assert accuracy == card["metrics"][group]["accuracy"]
    assert version["run_tags"].items() >= card["data"].items()

    float_rows = {"dtype": "float64", "shape": [-1, 4]}
    integers = {"dtype": "int64", "shape": [-1]}
    assert version["inputs"] == [{"type": "tensor", "tensor-spec": float_rows}]
    assert version["outputs"] == [{"type": "tensor", "tensor-spec": integers}]
    assert version["example"] == [row["features"] for row in card["reference"]]
    assert version["files"] == ["confusion_matrix.png"]


def test_champion_is_promoted_served_and_rolled_back(
    registered, trained, checkout, serve, run_registry, assert_refused
):
    """An alias moves to a version that is not worse, or by force; each version can be served."""

    def run(*arguments):
        status, output, errors = run_registry(checkout, *arguments, MLFLOW_TRACKING_URI=registered)
        assert status == 0, errors
        return output, errors

    output, _ = run("promote", "models:/iris/1", "--alias", "champion")
    assert output == "champion of iris is version 1\n"
    assert_refused(
        checkout,
        "promote",
        "models:/iris/2",
        "--alias",
        "champion",
        contains="refused: held-out accuracy 0.8667 is below 1.0000 of the current version; "
        "champion stays at version 1; use --force to move it",
        MLFLOW_TRACKING_URI=registered,
    )

    output, _ = run("pull", "models:/iris@champion")
    version = digest(trained[0] / "model.pkl")[:12]
    assert output == f"wrote {checkout / 'model.pkl'}: version 1 of iris, {version}\n"
    for name in FILE_NAMES:
        assert read_files(checkout)[name] == (trained[0] / name).read_bytes()

    predictions = {}
    for number, directory in enumerate(trained, 1):
        run("pull", f"models:/iris/{number}")
        service = serve(checkout)
        payload = msgspec.json.encode({"features": X.tolist()})
        response = service.call("POST", "/predict", payload, JSON)
        assert response.headers["X-Model-Version"] == digest(directory / "model.pkl")[:12]
        predictions[number] = response.json["prediction"]
        assert predictions[number] == predict_with_pyfunc(registered, f"models:/iris/{number}")
    assert predictions[1] != predictions[2]

    output, errors = run("promote", "models:/iris/2", "--alias", "champion", "--force")
    assert output == "champion of iris is version 2, previously 1\n"
    assert errors == "FORCED: held-out accuracy 0.8667 is below 1.0000 of the current version\n"
    output, errors = run("promote", "models:/iris/1", "--alias", "champion")
    assert (output, errors) == ("champion of iris is version 1, previously 2\n", "")
    run("pull", "models:/iris@champion")
    assert digest(checkout / "model.pkl") == digest(trained[0] / "model.pkl")

    output, _ = run("list", "iris")
    rows = [line.split() for line in output.splitlines()[1:]]
    versions = [digest(directory / "model.pkl")[:12] for directory in trained]
    assert rows == [
        ["2", versions[1], "0.8667", "0.8600"],
        ["1", versions[0], "1.0000", "0.9600", "champion"],
    ]


def test_other_held_out_rows_are_not_compared(registered, checkout, run_registry, assert_refused):
    """Accuracies that were measured on other rows, or on unknown ones, are not compared."""
    server = {"MLFLOW_TRACKING_URI": registered}
    card = (checkout / "model.json").read_text()
    card_of_other_rows = re.sub('"held_out_sha256": "..', '"held_out_sha256": "00', card)
    card_of_unknown_rows = re.sub(r',\s*"held_out_sha256": "[0-9a-f]+"', "", card)
    for number, text in enumerate((card_of_other_rows, card_of_unknown_rows), 1):
        assert text != card
        (checkout / "model.json").write_text(text)
        command = ("-m", "serving.registry", "register", "other")
        status, output, errors = run_python(checkout, *command, **server)
        assert status == 0, errors
        assert output.endswith(f" as version {number} of other\n")

    reason = "the two versions were not measured on the same held-out rows"
    promote_first = ("promote", "models:/other/1", "--alias", "champion")
    promote_second = ("promote", "models:/other/2", "--alias", "champion")
    assert run_registry(checkout, *promote_first, **server)[0] == 0
    refusal = f"refused: {reason}; champion stays at version 1"
    assert_refused(checkout, *promote_second, contains=refusal, **server)
    status, _, errors = run_registry(checkout, *promote_second, "--force", **server)
    assert (status, errors) == (0, f"FORCED: {reason}\n")


def test_model_without_accuracy_is_a_version(registered, regression, run_registry, assert_refused):
    """A model without an accuracy is registered, listed and pulled, and compared with none."""
    server = {"MLFLOW_TRACKING_URI": registered}
    model_path = regression / "model.pkl"
    for number in (1, 2):
        command = ("-m", "serving.registry", "register", "lengths", "--model", model_path)
        status, output, errors = run_python(ROOT, *command, **server)
        assert status == 0, errors
        assert output.endswith(f" as version {number} of lengths\n")

    promote_first = ("promote", "models:/lengths/1", "--alias", "champion")
    promote_second = ("promote", "models:/lengths/2", "--alias", "champion")
    assert run_registry(regression, *promote_first, **server)[0] == 0
    reason = "refused: the two versions were not measured on the same held-out rows"
    assert_refused(regression, *promote_second, contains=reason, **server)
    assert run_registry(regression, "pull", "models:/lengths/2", **server)[0] == 0

    _, output, _ = run_registry(regression, "list", "lengths", **server)
    version = digest(model_path)[:12]
    assert output.splitlines()[1:] == [
        f"2        {version}  nan       nan",
        f"1        {version}  nan       nan     champion",
    ]

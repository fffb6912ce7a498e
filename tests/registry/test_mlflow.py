"""Versions in a real MLflow server: registered, promoted, pulled and served."""

import re

import mlflow
import msgspec
from sklearn.datasets import load_iris

from helpers import JSON, NAMES
from registries import FILE_NAMES, digest, read_files, register

X = load_iris().data


def test_version_describes_the_model(registered, trained, monkeypatch):
    """A version holds parameters, metrics, digests, signature, example and confusion matrix."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registered)
    client = mlflow.MlflowClient()
    version = client.get_model_version("iris", "1")
    run = client.get_run(version.run_id)
    card = msgspec.json.decode((trained[0] / "model.json").read_bytes())

    assert version.tags == {
        "sha256": digest(trained[0] / "model.pkl"),
        "card_sha256": digest(trained[0] / "model.json"),
    }
    assert run.data.params["max_iter"] == "200"
    for group in ("held_out", "cross_validation"):
        accuracy = run.data.metrics[f"{group}.accuracy"]
        assert accuracy == card["metrics"][group]["accuracy"]
    assert run.data.tags.items() >= card["data"].items()
    assert [file.path for file in client.list_artifacts(version.run_id)] == ["confusion_matrix.png"]

    # An array has no names, so the columns have none; those of the example have.
    model = mlflow.models.get_model_info("models:/iris/1")
    assert model.signature.inputs.to_dict() == [{"type": "double", "required": True}] * 4
    integers = {"dtype": "int64", "shape": (-1,)}
    assert model.signature.outputs.to_dict() == [{"type": "tensor", "tensor-spec": integers}]
    assert mlflow.artifacts.load_dict("models:/iris/1/input_example.json") == {
        "columns": NAMES,
        "data": [row["features"] for row in card["reference"]],
    }


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
        pyfunc_model = mlflow.pyfunc.load_model(f"models:/iris/{number}")
        assert predictions[number] == pyfunc_model.predict(X).tolist()
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
        ["2", versions[1], "accuracy", "0.8667", "0.8600"],
        ["1", versions[0], "accuracy", "1.0000", "0.9600", "champion"],
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
        output = register(registered, checkout / "model.pkl", "other")
        assert output.endswith(f" as version {number} of other\n")

    reason = "the two versions were not measured on the same held-out rows"
    promote_first = ("promote", "models:/other/1", "--alias", "champion")
    promote_second = ("promote", "models:/other/2", "--alias", "champion")
    assert run_registry(checkout, *promote_first, **server)[0] == 0
    refusal = f"refused: {reason}; champion stays at version 1"
    assert_refused(checkout, *promote_second, contains=refusal, **server)
    status, _, errors = run_registry(checkout, *promote_second, "--force", **server)
    assert (status, errors) == (0, f"FORCED: {reason}\n")

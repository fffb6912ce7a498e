"""The registries, put to use: a real MLflow server, and SageMaker's as moto has it. Run by `make test-registry`."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import boto3
import joblib
import msgspec
import pytest
from mlflow import MlflowClient
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression

from helpers import JSON, PROGRAM, ROOT, Call, environment, facts, free_port, wait_until
from serving.model.storage import save_model
from serving.registry.commands import main

X = load_iris().data
FILES = ("model.pkl", "model.json")
WORSE = ("max_iter=200", "max_iter=200, C=0.01")  # of LogisticRegression, in train.py
BIN = Path(sys.executable).parent


def run(directory, *command, **names):
    """Run a program of the checkout in `directory`; return its status, what it printed, and what it said of faults."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=directory,
        env=environment(**names),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def registry(monkeypatch, capsys):
    """Return a function that does as `python -m serving.registry`, with the model file in a directory."""

    def do(directory, command, *words, **names):
        for name, value in names.items():
            monkeypatch.setenv(name, value)
        model = (
            ["--model", str(directory / "model.pkl")]
            if command in ("register", "pull", "push")
            else []
        )
        try:
            main([command, *words, *model])
            status = 0
        except SystemExit as end:
            assert isinstance(end.code, str)
            sys.stderr.write(f"{end.code}\n")
            status = 1
        said, fault = capsys.readouterr()
        return status, said, fault

    return do


@pytest.fixture(scope="module")
def background():
    """Return a function that starts a server and waits until it answers; each is stopped at the end."""
    started = []

    def start(command, url, cwd):
        # Its workers are its children: in a session of its own, all of them end with it.
        with (cwd / "server.log").open("w") as log:
            started.append(
                subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log, start_new_session=True)
            )
        wait_until(lambda: urllib.request.urlopen(url, timeout=5).status == 200, 90)

    yield start
    for process in started:
        os.killpg(process.pid, 15)
        process.wait(30)


@pytest.fixture(scope="module")
def server(background, tmp_path_factory):
    """Return the address of a real MLflow server, with SQLite and local artifacts, and the directory of those."""
    directory, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [
        BIN / "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += [
        "--backend-store-uri",
        "sqlite:///mlflow.db",
        "--artifacts-destination",
        directory / "artifacts",
    ]
    background(command, f"http://127.0.0.1:{port}/health", directory)
    return f"http://127.0.0.1:{port}", directory / "artifacts"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return two checkouts: in the first the model as it is, in the second a worse one."""
    checkouts = []
    for name in ("good", "worse"):
        directory = tmp_path_factory.mktemp(name)
        for file in (*PROGRAM, "train.py"):
            (shutil.copytree if (ROOT / file).is_dir() else shutil.copy)(
                ROOT / file, directory / file
            )
        checkouts.append(directory)
    script = checkouts[1] / "train.py"
    script.write_text(script.read_text().replace(*WORSE))
    return checkouts


@pytest.fixture(scope="module")
def registered(server, trained):
    """Return the server's address once version 1 of iris is the good model and version 2 the worse one."""
    url, _ = server
    for number, directory in enumerate(trained, 1):
        status, said, _ = run(
            directory,
            "train.py",
            "--register",
            "iris",
            "--min-accuracy",
            "0.5",
            MLFLOW_TRACKING_URI=url,
        )
        assert status == 0
        version = digest(directory / "model.pkl")[:12]
        assert said.splitlines()[-1] == f"registered {version} as version {number} of iris"
    return url


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def deployed(tmp_path):
    """Return a checkout of a service that runs somewhere, with a model file that nobody may spoil."""
    directory = tmp_path / "deployed"
    directory.mkdir()
    for name in PROGRAM:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, directory / name)
    return directory


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.fixture
def assert_refused(registry):
    """Return a function that asserts that a command ends with one line, and has left every file as it was."""

    def check(directory, *words, contains, **names):
        before = contents(directory)
        status, said, fault = registry(directory, *words, **names)
        assert (status, said) == (1, "")
        [line] = fault.splitlines()
        assert contains in line
        assert contents(directory) == before

    return check


def pyfunc(url, uri):
    """Return what MLflow's own pyfunc of a version predicts for every row."""
    program = (
        "import mlflow, sys; from sklearn.datasets import load_iris; "
        "print(mlflow.pyfunc.load_model(sys.argv[1]).predict(load_iris().data).tolist())"
    )
    status, said, _ = run(ROOT, "-c", program, uri, MLFLOW_TRACKING_URI=url)
    assert status == 0
    return json.loads(said)


def test_a_version_says_all_that_is_known_of_it(registered, trained):
    status, said, fault = run(ROOT, "-c", ASK, "iris", "1", MLFLOW_TRACKING_URI=registered)
    assert status == 0, fault
    found = json.loads(said)
    card = msgspec.json.decode((trained[0] / "model.json").read_bytes())
    assert found["tags"] == {
        "sha256": digest(trained[0] / "model.pkl"),
        "card_sha256": digest(trained[0] / "model.json"),
    }
    assert found["parameters"]["max_iter"] == "200"
    assert found["metrics"]["held_out.accuracy"] == card["metrics"]["held_out"]["accuracy"]
    assert (
        found["metrics"]["cross_validation.accuracy"]
        == card["metrics"]["cross_validation"]["accuracy"]
    )
    assert found["run_tags"].items() >= card["data"].items()
    assert found["inputs"] == [
        {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}
    ]
    assert found["outputs"] == [
        {"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}
    ]
    assert found["example"] == [row["features"] for row in card["reference"]]
    assert found["picture"] == "confusion_matrix.png"


ASK = """
import json, sys
import mlflow
client = mlflow.MlflowClient()
version = client.get_model_version(*sys.argv[1:])
run = client.get_run(version.run_id)
info = mlflow.models.get_model_info(f"models:/{version.name}/{version.version}")
example = mlflow.artifacts.load_dict(f"models:/{version.name}/{version.version}/input_example.json")
[picture] = [one.path for one in client.list_artifacts(version.run_id)]
print(json.dumps({
    "tags": version.tags, "parameters": run.data.params, "metrics": run.data.metrics, "run_tags": run.data.tags,
    "inputs": info.signature.inputs.to_dict(), "outputs": info.signature.outputs.to_dict(), "example": example,
    "picture": picture,
}))
"""


def test_from_two_versions_to_a_served_champion_and_back(
    registered, trained, deployed, serve, registry, assert_refused
):
    def do(*words):
        status, said, fault = registry(deployed, *words, MLFLOW_TRACKING_URI=registered)
        assert status == 0, fault
        return said, fault

    assert (
        do("promote", "models:/iris/1", "--alias", "champion")[0]
        == "champion of iris is version 1\n"
    )
    refused = "refused: held-out accuracy 0.8667 is below 1.0000 of the current version; champion stays at version 1"
    assert_refused(
        deployed,
        "promote",
        "models:/iris/2",
        "--alias",
        "champion",
        contains=refused,
        MLFLOW_TRACKING_URI=registered,
    )
    assert do("pull", "models:/iris@champion")[0].endswith(
        ": version 1 of iris, " + digest(trained[0] / "model.pkl")[:12] + "\n"
    )
    assert (
        contents(deployed).items()
        >= {name: (trained[0] / name).read_bytes() for name in FILES}.items()
    )

    answers = {}
    for number, directory in enumerate(trained, 1):
        do("pull", f"models:/iris/{number}")
        service = serve(deployed)
        answer = service.call(
            "POST", "/predict", msgspec.json.encode({"features": X.tolist()}), JSON
        )
        assert answer.headers["X-Model-Version"] == digest(directory / "model.pkl")[:12]
        answers[number] = answer.json["prediction"]
        assert answers[number] == pyfunc(registered, f"models:/iris/{number}")
    assert answers[1] != answers[2]

    said, fault = do("promote", "models:/iris/2", "--alias", "champion", "--force")
    assert fault == "FORCED: held-out accuracy 0.8667 is below 1.0000 of the current version\n"
    assert said == "champion of iris is version 2, previously 1\n"
    assert do("promote", "models:/iris/1", "--alias", "champion") == (
        "champion of iris is version 1, previously 2\n",
        "",
    )
    do("pull", "models:/iris@champion")
    assert digest(deployed / "model.pkl") == digest(trained[0] / "model.pkl")
    lines = [line.split() for line in do("list", "iris")[0].splitlines()[1:]]
    versions = [digest(directory / "model.pkl")[:12] for directory in trained]
    assert lines == [
        ["2", versions[1], "0.8667", "0.8600"],
        ["1", versions[0], "1.0000", "0.9600", "champion"],
    ]


def test_what_is_not_there_is_said_in_one_line_and_the_old_files_stay(
    registered, deployed, assert_refused
):
    for words, text in (
        (["pull", "models:/iris@nobody"], "alias nobody not found"),
        (["pull", "models:/iris/77"], "Model Version (name=iris, version=77) not found"),
        (["pull", "models:/roses@champion"], "Registered Model with name=roses not found"),
        (["pull", "iris"], "expected models:/NAME/NUMBER or models:/NAME@ALIAS, got 'iris'"),
        (["promote", "models:/iris/77", "--alias", "champion"], "not found"),
        (["list", "roses"], "Registered Model with name=roses not found"),
    ):
        assert_refused(deployed, *words, contains=text, MLFLOW_TRACKING_URI=registered)


def test_a_server_that_is_not_there_is_said_in_one_line(deployed, assert_refused):
    nobody = {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    }
    assert_refused(
        deployed, "pull", "models:/iris@champion", contains="Connection refused", **nobody
    )
    assert_refused(deployed, "register", "iris", contains="Connection refused", **nobody)


class Cut(BaseHTTPRequestHandler):
    """Passes requests on, but ends the connection in the middle of what `half` names."""

    def do_GET(self):
        with urllib.request.urlopen(
            urllib.request.Request(self.server.behind + self.path)
        ) as answer:
            body = answer.read()
        self.send_response(200)
        for name in ("Content-Type", "Content-Length"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.end_headers()
        cut = self.path.endswith(self.server.half)
        self.server.cuts += cut
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("half", FILES)
def test_a_connection_cut_in_the_middle_of_a_file_leaves_the_old_ones(
    registered, deployed, registry, assert_refused, half
):
    with ThreadingHTTPServer(("127.0.0.1", 0), Cut) as proxy:
        proxy.behind, proxy.half, proxy.cuts = registered, half, 0
        Thread(target=proxy.serve_forever, daemon=True).start()
        names = {
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{proxy.server_port}",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        }
        assert_refused(deployed, "pull", "models:/iris/1", contains=half, **names)
        assert proxy.cuts
        proxy.half = "nothing"
        assert registry(deployed, "pull", "models:/iris/1", **names)[0] == 0
        proxy.shutdown()


@pytest.fixture
def stored(server, registered, trained):
    """Return where the server keeps our files of version 2; what is done to them there is undone."""
    [path] = [
        path
        for path in server[1].rglob("model.pkl")
        if digest(path) == digest(trained[1] / "model.pkl")
    ]
    yield path.parent
    for name in FILES:
        shutil.copy(trained[1] / name, path.parent / name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes()[:-100]),
            "models:/iris/2: SHA-256 mismatch: {} has ",
        ),
        (
            lambda path: path.write_bytes((ROOT / path.name).read_bytes()),
            "models:/iris/2: SHA-256 mismatch: {} has ",
        ),
        (lambda path: path.unlink(), "models:/iris/2 has no {}"),
    ],
    ids=["half-written", "of another version", "missing"],
)
def test_a_spoilt_artifact_is_refused_and_the_old_files_stay(
    registered, stored, deployed, assert_refused, name, spoil, text
):
    spoil(stored / name)
    for words in (
        ["pull", "models:/iris/2"],
        ["promote", "models:/iris/2", "--alias", "champion", "--force"],
    ):
        assert_refused(deployed, *words, contains=text.format(name), MLFLOW_TRACKING_URI=registered)


def test_a_hostile_file_is_refused_even_where_the_tags_agree(
    registered, stored, deployed, assert_refused, tmp_path
):
    joblib.dump(Call(os.system, f"touch {tmp_path / 'marker'}"), stored / "model.pkl")
    card, right = (stored / "model.json").read_text(), f'"sha256": "{digest(stored / "model.pkl")}"'
    (stored / "model.json").write_text(re.sub('"sha256": "[0-9a-f]{64}"', right, card, count=1))
    client = MlflowClient(registered)
    tags = client.get_model_version("iris", "2").tags
    for tag, name in zip(("sha256", "card_sha256"), FILES, strict=True):
        client.set_model_version_tag("iris", "2", tag, digest(stored / name))
    text = "models:/iris/2: model.pkl: cannot be loaded as a model: UnpicklingError: it imports posix.system"
    try:
        assert_refused(
            deployed, "pull", "models:/iris/2", contains=text, MLFLOW_TRACKING_URI=registered
        )
        assert not (tmp_path / "marker").exists()
    finally:
        for tag, value in tags.items():
            client.set_model_version_tag("iris", "2", tag, value)


def test_what_was_measured_on_other_rows_is_not_compared(
    registered, deployed, registry, assert_refused
):
    at = {"MLFLOW_TRACKING_URI": registered}
    card = (deployed / "model.json").read_text()
    of_other_rows = re.sub('"held_out_sha256": "..', '"held_out_sha256": "00', card)
    of_unknown_rows = re.sub(r',\s*"held_out_sha256": "[0-9a-f]+"', "", card)
    for number, text in enumerate((of_other_rows, of_unknown_rows), 1):
        assert text != card
        (deployed / "model.json").write_text(text)
        status, said, fault = run(deployed, "-m", "serving.registry", "register", "other", **at)
        assert status == 0 and said.endswith(f" as version {number} of other\n"), fault
    promote = ["promote", "models:/other/2", "--alias", "champion"]
    assert registry(deployed, "promote", "models:/other/1", "--alias", "champion", **at)[0] == 0
    text = "refused: the two versions were not measured on the same held-out rows; champion stays at version 1"
    assert_refused(deployed, *promote, contains=text, **at)
    status, _, fault = registry(deployed, *promote, "--force", **at)
    assert (status, fault) == (
        0,
        "FORCED: the two versions were not measured on the same held-out rows\n",
    )


@pytest.fixture
def regression(tmp_path):
    """Return a directory with a model that has no classes, and no accuracy."""
    estimator = LinearRegression().fit(X, X[:, 0])
    save_model(
        tmp_path / "model.pkl",
        estimator,
        reference=X[::50],
        **facts(estimator) | {"metrics": {"r2": 0.9}},
    )
    return tmp_path


def test_a_model_without_an_accuracy_is_a_version_like_any_other_but_compared_with_none(
    registered, regression, registry, assert_refused
):
    at = {"MLFLOW_TRACKING_URI": registered}
    for number in (1, 2):
        model = ["--model", regression / "model.pkl"]
        status, said, fault = run(
            ROOT, "-m", "serving.registry", "register", "lengths", *model, **at
        )
        assert status == 0 and said.endswith(f" as version {number} of lengths\n"), fault
    assert registry(regression, "promote", "models:/lengths/1", "--alias", "champion", **at)[0] == 0
    text = "refused: the two versions were not measured on the same held-out rows"
    assert_refused(
        regression, "promote", "models:/lengths/2", "--alias", "champion", contains=text, **at
    )
    assert registry(regression, "pull", "models:/lengths/2", **at)[0] == 0
    lines = registry(regression, "list", "lengths", **at)[1].splitlines()
    version = digest(regression / "model.pkl")[:12]
    assert lines[1:] == [
        f"2        {version}  nan       nan",
        f"1        {version}  nan       nan     champion",
    ]


@pytest.fixture(scope="module")
def amazon(background, tmp_path_factory):
    """Return what boto3 needs to find S3 and SageMaker as moto's server has them."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    background(
        [BIN / "moto_server", "-H", "127.0.0.1", "-p", port],
        url + "/moto-api/",
        tmp_path_factory.mktemp("moto"),
    )
    return {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "eu-central-1"} | dict.fromkeys(
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test"
    )


IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/flask-ml-model:1"


def test_sagemaker_has_it_to_approve_and_serves_what_was_pushed(
    amazon, deployed, registry, serve, tmp_path, monkeypatch
):
    for name, value in amazon.items():
        monkeypatch.setenv(name, value)
    s3, sagemaker = boto3.client("s3"), boto3.client("sagemaker")
    s3.create_bucket(
        Bucket="models", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    for number in (1, 2):  # the group is made once
        status, said, fault = registry(deployed, "push", "models", "--image", IMAGE)
        assert (status, fault) == (0, "")
        arn = said.removesuffix(" is pending approval\n")
        assert arn.endswith(f":model-package/iris/{number}")
    about = sagemaker.describe_model_package(ModelPackageName=arn)
    assert about["ModelPackageGroupName"] == "iris"
    assert about["ModelApprovalStatus"] == "PendingManualApproval"
    assert about["CustomerMetadataProperties"] == {"sha256": digest(deployed / "model.pkl")}
    specification = about["InferenceSpecification"]
    assert specification["SupportedContentTypes"] == ["application/json", "text/csv"]
    [container] = specification["Containers"]
    assert container["Image"] == IMAGE

    def stored(url):
        bucket, _, key = url.removeprefix("s3://").partition("/")
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    metrics = msgspec.json.decode(
        stored(about["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"])
    )
    card = msgspec.json.decode((deployed / "model.json").read_bytes())
    accuracy = metrics["multiclass_classification_metrics"]["accuracy"]
    assert accuracy["value"] == card["metrics"]["cross_validation"]["accuracy"]
    with tarfile.open(fileobj=io.BytesIO(stored(container["ModelDataUrl"]))) as archive:
        archive.extractall(tmp_path / "opt" / "ml" / "model", filter="data")
    unpacked = tmp_path / "opt" / "ml" / "model"
    assert contents(unpacked) == {name: (deployed / name).read_bytes() for name in FILES}
    (deployed / "model.pkl").unlink()
    inside = container["Environment"] | {
        "MODEL_PATH": f"{tmp_path}{container['Environment']['MODEL_PATH']}"
    }
    answer = serve(deployed, **inside).call(
        "POST", "/invocations", b"5.1,3.5,1.4,0.2\n", {"Content-Type": "text/csv"}
    )
    assert (answer.status, answer.body) == (200, b"0\n")
    sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    assert (
        sagemaker.describe_model_package(ModelPackageName=arn)["ModelApprovalStatus"] == "Approved"
    )


def test_the_metrics_of_a_model_without_an_accuracy_are_pushed_as_they_are(
    amazon, regression, registry, monkeypatch
):
    for name, value in amazon.items():
        monkeypatch.setenv(name, value)
    s3 = boto3.client("s3")
    s3.create_bucket(
        Bucket="lengths", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    assert registry(regression, "push", "lengths", "--image", IMAGE)[0] == 0
    key = f"test/{digest(regression / 'model.pkl')[:12]}/metrics.json"
    assert msgspec.json.decode(s3.get_object(Bucket="lengths", Key=key)["Body"].read()) == {
        "r2": 0.9
    }


def test_what_amazon_refuses_is_said_in_one_line(amazon, deployed, assert_refused):
    push = ["push", "nowhere", "--image", IMAGE]
    assert_refused(deployed, *push, contains="The specified bucket does not exist", **amazon)
    away = amazon | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "AWS_MAX_ATTEMPTS": "1"}
    assert_refused(deployed, *push, contains="Could not connect to the endpoint URL", **away)

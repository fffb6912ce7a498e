"""SageMaker's registry as moto has it: a model is pushed, approved and served."""

import io
import tarfile
from contextlib import suppress

import boto3
import msgspec
import pytest

from helpers import free_port
from registries import FILE_NAMES, digest, read_files
from serving.model.loading import load_model
from zoo_models import zoo_model

IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/flask-ml-model:1"


@pytest.fixture
def clients(amazon, monkeypatch):
    """Return boto3's clients of S3 and SageMaker."""
    for name, value in amazon.items():
        monkeypatch.setenv(name, value)
    return boto3.client("s3"), boto3.client("sagemaker")


def create_bucket(s3, name):
    """Create a bucket, unless another test has created it."""
    location = {"LocationConstraint": "eu-central-1"}
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=name, CreateBucketConfiguration=location)


def download(s3, url):
    """Return the object at an s3:// address."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_pushed_model_is_approved_and_served(clients, checkout, run_registry, serve, tmp_path):
    """A pushed model waits for approval, and its container settings serve what was pushed."""
    s3, sagemaker = clients
    create_bucket(s3, "models")
    for number in (1, 2):  # the package group is created once
        status, output, errors = run_registry(checkout, "push", "models", "--image", IMAGE)
        assert (status, errors) == (0, "")
        arn = output.removesuffix(" is pending approval\n")
        assert arn.endswith(f":model-package/iris/{number}")

    package = sagemaker.describe_model_package(ModelPackageName=arn)
    assert package["ModelPackageGroupName"] == "iris"
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
    assert package["CustomerMetadataProperties"] == {"sha256": digest(checkout / "model.pkl")}
    specification = package["InferenceSpecification"]
    assert specification["SupportedContentTypes"] == ["application/json", "text/csv"]
    [container] = specification["Containers"]
    assert container["Image"] == IMAGE

    metrics_url = package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]
    metrics = msgspec.json.decode(download(s3, metrics_url))
    card = msgspec.json.decode((checkout / "model.json").read_bytes())
    accuracy = metrics["multiclass_classification_metrics"]["accuracy"]
    assert accuracy["value"] == card["metrics"]["cross_validation"]["accuracy"]

    unpacked = tmp_path / "opt/ml/model"
    archive_bytes = io.BytesIO(download(s3, container["ModelDataUrl"]))
    with tarfile.open(fileobj=archive_bytes) as archive:
        archive.extractall(unpacked, filter="data")
    assert read_files(unpacked) == {name: (checkout / name).read_bytes() for name in FILE_NAMES}

    (checkout / "model.pkl").unlink()
    variables = dict(container["Environment"])
    variables["MODEL_PATH"] = f"{tmp_path}{variables['MODEL_PATH']}"
    service = serve(checkout, **variables)
    response = service.call(
        "POST", "/invocations", b"5.1,3.5,1.4,0.2\n", {"Content-Type": "text/csv"}
    )
    assert (response.status, response.body) == (200, b"0\n")

    sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    assert package["ModelApprovalStatus"] == "Approved"


@pytest.mark.parametrize(
    ("name", "group", "main_metric", "names"),
    [
        ("Ridge", "regression_metrics", "r2", {"r2": "r2", "mae": "mae"}),
        ("LinearRegression, three outputs", "regression_metrics", "r2", {"r2": "r2", "mae": "mae"}),
        (
            "LogisticRegression, two classes of words",
            "binary_classification_metrics",
            "accuracy",
            {"accuracy": "accuracy", "auc": "roc_auc"},
        ),
        (
            "ColumnTransformer, LogisticRegression on a DataFrame",
            "multiclass_classification_metrics",
            "accuracy",
            {"accuracy": "accuracy"},
        ),
    ],
)
def test_metrics_have_the_names_of_amazon(clients, run_registry, name, group, main_metric, names):
    """The metrics of each task are pushed under Amazon's names, with the deviation of one."""
    s3, _ = clients
    _, path = zoo_model(name)
    metrics = push_metrics(s3, run_registry, path)

    folds = load_model(path).card.metrics["cross_validation"]
    expected = {amazon_name: {"value": folds[metric]} for amazon_name, metric in names.items()}
    expected[main_metric]["standard_deviation"] = folds["std"]
    assert metrics == {group: expected}


@pytest.mark.parametrize("name", ["MultiOutputClassifier", "IsolationForest"])
def test_other_metrics_are_pushed_unchanged(clients, run_registry, name):
    """What Amazon has no names for is pushed as the card has it."""
    s3, _ = clients
    _, path = zoo_model(name)
    assert push_metrics(s3, run_registry, path) == load_model(path).card.metrics


def push_metrics(s3, run_registry, path):
    """Push the model in `path` and return the metrics in its bucket."""
    create_bucket(s3, "tasks")
    status, _, errors = run_registry(path.parent, "push", "tasks", "--image", IMAGE)
    assert (status, errors) == (0, "")
    metrics = download(s3, f"s3://tasks/zoo/{digest(path)[:12]}/metrics.json")
    return msgspec.json.decode(metrics)


def test_errors_of_amazon_are_one_line(amazon, checkout, assert_refused):
    """A missing bucket and an unreachable endpoint are one line."""
    push = ("push", "nowhere", "--image", IMAGE)
    assert_refused(checkout, *push, contains="The specified bucket does not exist", **amazon)
    unreachable = amazon | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "AWS_MAX_ATTEMPTS": "1",
    }
    message = "Could not connect to the endpoint URL"
    assert_refused(checkout, *push, contains=message, **unreachable)

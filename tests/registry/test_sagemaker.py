"""SageMaker's registry as moto has it: a model is pushed, approved and served."""

import io
import tarfile

import boto3
import msgspec
import pytest

from helpers import free_port
from registries import FILE_NAMES, digest, read_files

IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/flask-ml-model:1"


@pytest.fixture
def clients(amazon, monkeypatch):
    """Return boto3's clients of S3 and SageMaker."""
    for name, value in amazon.items():
        monkeypatch.setenv(name, value)
    return boto3.client("s3"), boto3.client("sagemaker")


def create_bucket(s3, name):
    location = {"LocationConstraint": "eu-central-1"}
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


def test_metrics_without_accuracy_are_pushed_unchanged(clients, regression, run_registry):
    """The metrics of a model without an accuracy are pushed as the card has them."""
    s3, _ = clients
    create_bucket(s3, "lengths")
    assert run_registry(regression, "push", "lengths", "--image", IMAGE)[0] == 0
    version = digest(regression / "model.pkl")[:12]
    metrics = download(s3, f"s3://lengths/test/{version}/metrics.json")
    assert msgspec.json.decode(metrics) == {"r2": 0.9}


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

"""Model packages in SageMaker's registry, which a person approves."""

import io
import tarfile
from pathlib import Path
from typing import Any

import boto3
import msgspec
from botocore.exceptions import ClientError

from serving.registry.metrics import describe_quality
from serving.registry.model_files import ModelFiles, read_model_files

CONTENT_TYPES = ["application/json", "text/csv"]
# SageMaker unpacks the archive there.
CONTAINER_MODEL_PATH = "/opt/ml/model/model.pkl"


def push_to_sagemaker(path: Path, bucket: str, image: str) -> str:
    """Upload the model in `path` to S3 and create a model package that waits for approval.

    `image` is the container image that will serve it. Raises RegistryError, ModelError,
    BotoCoreError, ClientError.
    """
    files = read_model_files(path)
    folder = f"{files.card.name}/{files.model.version}"
    archive_key = f"{folder}/model.tar.gz"
    metrics_key = f"{folder}/metrics.json"

    s3 = boto3.client("s3")
    metrics = msgspec.json.encode(describe_quality(files.card))
    s3.put_object(Bucket=bucket, Key=archive_key, Body=_archive(files.contents))
    s3.put_object(Bucket=bucket, Key=metrics_key, Body=metrics)

    sagemaker = boto3.client("sagemaker")
    _ensure_package_group(sagemaker, files.card.name)
    package = _package_request(
        files,
        image=image,
        archive_url=f"s3://{bucket}/{archive_key}",
        metrics_url=f"s3://{bucket}/{metrics_key}",
    )
    response = sagemaker.create_model_package(**package)

    return f"{response['ModelPackageArn']} is pending approval"


def _package_request(
    files: ModelFiles, *, image: str, archive_url: str, metrics_url: str
) -> dict[str, Any]:
    model = files.model
    container = {
        "Image": image,
        "ModelDataUrl": archive_url,
        # The digest pins the file: the image does not serve another.
        "Environment": {"MODEL_PATH": CONTAINER_MODEL_PATH, "MODEL_SHA256": model.sha256},
    }
    statistics = {"ContentType": "application/json", "S3Uri": metrics_url}

    return {
        "ModelPackageGroupName": files.card.name,
        "ModelPackageDescription": f"version {model.version}: {files.card.estimator}",
        "ModelApprovalStatus": "PendingManualApproval",
        "InferenceSpecification": {
            "Containers": [container],
            "SupportedContentTypes": CONTENT_TYPES,
            "SupportedResponseMIMETypes": CONTENT_TYPES,
        },
        "ModelMetrics": {"ModelQuality": {"Statistics": statistics}},
        "CustomerMetadataProperties": {"sha256": model.sha256},
    }


def _archive(contents: dict[str, bytes]) -> bytes:
    """Return the files as a gzipped tar archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

    return archive.getvalue()


def _ensure_package_group(sagemaker: Any, name: str) -> None:
    try:
        sagemaker.describe_model_package_group(ModelPackageGroupName=name)
    except ClientError:
        # If the group is not what is missing, the creation fails with the reason.
        sagemaker.create_model_package_group(ModelPackageGroupName=name)

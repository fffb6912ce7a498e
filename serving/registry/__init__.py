"""Model registries: versions and aliases in MLflow, approval in SageMaker.

`python -m serving.registry` is the command line. Only this package uses MLflow and boto3.
"""

import os

# MLflow reads these when it is imported. Without a server, versions are kept in the working
# directory. A server that does not respond is given up after seconds, not after minutes.
MLFLOW_DEFAULTS = {
    "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
for name, default in MLFLOW_DEFAULTS.items():
    os.environ.setdefault(name, default)

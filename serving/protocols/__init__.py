"""The inference protocols of other platforms.

A platform is one module and one line in PROTOCOLS.
"""

from serving.protocols import azure_ml, kserve_v1, open_inference, sagemaker_mlflow

PROTOCOLS = (
    open_inference.protocol,
    kserve_v1.protocol,
    sagemaker_mlflow.protocol,
    azure_ml.protocol,
)

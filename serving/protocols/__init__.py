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


def error_body(path: str, status: int, text: str) -> dict[str, str]:
    """Return the body of an error response, as the platform whose path it is expects it."""
    for protocol in PROTOCOLS:
        if path in protocol.error_bodies:
            return protocol.error_bodies[path](status, text)
    return {"error": text}

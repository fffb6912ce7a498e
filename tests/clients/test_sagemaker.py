"""The serializers and deserializers of SageMaker's SDK, on the endpoint that SageMaker calls."""

import io
import urllib.request

import numpy as np
import pandas as pd
import pytest
from sagemaker.core.deserializers.base import (
    CSVDeserializer,
    JSONDeserializer,
    JSONLinesDeserializer,
    NumpyDeserializer,
    PandasDeserializer,
)
from sagemaker.core.serializers.base import (
    CSVSerializer,
    JSONLinesSerializer,
    JSONSerializer,
    NumpySerializer,
)

from clients.examples import CLASSES, ROWS

PROTOCOL = "SageMaker"
CLIENT = "sagemaker-core"

# A serializer, and what it is given.
REQUESTS = {
    "CSV of lists": (CSVSerializer(), ROWS),
    "CSV of a DataFrame": (CSVSerializer(), pd.DataFrame(ROWS)),
    "JSON": (JSONSerializer(), np.array(ROWS)),
    "JSON lines": (JSONLinesSerializer(), ROWS),
    "array": (NumpySerializer(), ROWS),
    "array of float32": (NumpySerializer(dtype="float32"), ROWS),
}

# A deserializer, and how its result is read.
RESPONSES = {
    "CSV": (CSVDeserializer(), lambda rows: [int(row[0]) for row in rows]),
    "JSON": (JSONDeserializer(), list),
    "JSON lines": (JSONLinesDeserializer(), list),
    "array": (NumpyDeserializer(), np.ndarray.tolist),
    "array from CSV": (NumpyDeserializer(accept="text/csv"), np.ndarray.tolist),
    # It takes the first line for a header.
    "DataFrame": (
        PandasDeserializer(),
        lambda frame: [*map(int, frame.columns), *frame.iloc[:, 0].tolist()],
    ),
}


def invoke(address, serializer, deserializer, data):
    """Return what the SDK's Predictor returns, which lets AWS carry the same bytes."""
    body = serializer.serialize(data)
    if isinstance(body, str):
        body = body.encode()
    headers = {"Content-Type": serializer.CONTENT_TYPE, "Accept": ", ".join(deserializer.ACCEPT)}
    request = urllib.request.Request(f"http://{address}/invocations", body, headers)
    with urllib.request.urlopen(request) as response:
        content = io.BytesIO(response.read())
        return deserializer.deserialize(content, response.headers["Content-Type"])


@pytest.mark.claim(
    PROTOCOL, CLIENT, "its serializers and deserializers of CSV, JSON, JSON lines and arrays"
)
@pytest.mark.parametrize(("deserializer", "read"), RESPONSES.values(), ids=RESPONSES)
@pytest.mark.parametrize(("serializer", "data"), REQUESTS.values(), ids=REQUESTS)
def test_serializers(address, serializer, data, deserializer, read):
    assert read(invoke(address, serializer, deserializer, data)) == CLASSES

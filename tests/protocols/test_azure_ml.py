"""Azure ML: rows by name, and the limit of its request id."""

import pytest

from endpoints import (
    AZURE_ML,
    CLASSES,
    KSERVE_V1,
    NAMED_ROWS,
    ROWS,
    SHUFFLED_SPLIT,
    assert_error,
)
from helpers import JSON


@pytest.mark.parametrize(
    "payload",
    [{"input_data": SHUFFLED_SPLIT}, {"data": NAMED_ROWS}],
    ids=["input_data", "data"],
)
def test_rows_by_feature_name(call, payload):
    """Both formats may name the features, in any order."""
    assert AZURE_ML.post(call, payload).json == CLASSES


def test_long_request_id_returns_431(call):
    """Azure ML refuses a request id of more than 100 characters; other platforms do not."""
    headers = JSON | {"X-Request-ID": "x" * 101}
    response = AZURE_ML.post(call, {"data": ROWS}, headers)
    assert_error(response, AZURE_ML, 431, "at most 100 characters")
    assert KSERVE_V1.post(call, {"instances": ROWS}, headers).status == 200

    response = AZURE_ML.post(call, {"data": ROWS}, JSON | {"X-Request-ID": "x" * 100})
    assert response.headers["X-Request-ID"] == "x" * 100

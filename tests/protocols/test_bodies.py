"""What every prediction endpoint accepts of a body: compression, a byte order mark, parameters."""

import gzip
import zlib

import pytest

from app import create_app
from endpoints import ENDPOINTS, ROWS, assert_error, every_endpoint
from helpers import JSON, in_process
from serving.config import Settings

COMPRESS = {"gzip": gzip.compress, "GZIP": gzip.compress, "deflate": zlib.compress}


@every_endpoint
@pytest.mark.parametrize("encoding", COMPRESS)
def test_compressed_body_is_read(call, endpoint, encoding):
    """Gzip and deflate are decompressed."""
    body = COMPRESS[encoding](endpoint.encode(ROWS))
    headers = JSON | {"Content-Encoding": encoding}
    response = call("POST", endpoint.path, body, headers)
    assert response.status == 200, response.body


@every_endpoint
def test_compressed_body_is_bounded(call, endpoint):
    """A body that becomes larger than MAX_BODY_BYTES is refused, however small it is."""
    body = gzip.compress(endpoint.encode(ROWS).ljust(Settings().max_body_bytes + 1))
    response = call("POST", endpoint.path, body, JSON | {"Content-Encoding": "gzip"})
    assert_error(response, endpoint, 413, "Expected at most 1048576 bytes")


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: b"x" + body,
        lambda body: body[:-1],
        lambda body: body + b"x",
        lambda body: body[:20],
        lambda body: b"",
    ],
)
def test_damaged_compression_returns_400(call, damage):
    """A body that is not what Content-Encoding says is refused."""
    endpoint = ENDPOINTS["own API"]
    body = damage(gzip.compress(endpoint.encode(ROWS)))
    response = call("POST", endpoint.path, body, JSON | {"Content-Encoding": "gzip"})
    assert_error(response, endpoint, 400, "compressed")


@every_endpoint
def test_byte_order_mark_and_identity(call, endpoint):
    """A byte order mark before the JSON, and the encoding `identity`, change nothing."""
    body = b"\xef\xbb\xbf" + endpoint.encode(ROWS)
    response = call("POST", endpoint.path, body, JSON | {"Content-Encoding": "identity"})
    assert response.status == 200, response.body


@every_endpoint
@pytest.mark.parametrize(
    "accept", ["application/json; charset=utf-8", "Application/JSON;q=0.5", "text/*, */*;q=0.1"]
)
def test_parameters_of_accept_are_ignored(call, endpoint, accept):
    """Of the parameters only q has a meaning."""
    headers = JSON | {"Accept": accept}
    assert call("POST", endpoint.path, endpoint.encode(ROWS), headers).status == 200


def test_azure_input_data_is_a_table_or_rows(call):
    """`input_data` is what pandas calls split, or rows alone."""
    for payload in ({"data": ROWS}, ROWS):
        response = ENDPOINTS["Azure ML"].post(call, {"input_data": payload})
        assert (response.status, response.json) == (200, [0, 2])


PROBES = ["/v1/models/iris", "/v2/models/iris/ready", "/v2/health/ready", "/ping", "/readyz"]


@pytest.mark.parametrize("path", PROBES)
def test_probe_needs_no_key(path):
    """What platforms ask to find out whether the model is ready needs no key."""
    assert in_process(create_app(API_KEYS="one"), "GET", path).status == 200


def test_metadata_needs_key():
    """What describes the model is no probe."""
    app = create_app(API_KEYS="one")
    for path in ("/v2/models/iris", "/v1/models", "/"):
        assert in_process(app, "GET", path).status == 401

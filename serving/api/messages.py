"""HTTP messages: read a request's body, check its limits, write a JSON response."""

import io
import zlib
from collections.abc import Iterable
from typing import Any

import msgspec
from flask import Response, request
from werkzeug.datastructures import Headers, MIMEAccept
from werkzeug.exceptions import (
    BadRequest,
    NotAcceptable,
    RequestEntityTooLarge,
    ServiceUnavailable,
    UnsupportedMediaType,
)

from serving.api.service import current_service
from serving.model.arrays import Array, Rows
from serving.model.errors import ModelError
from serving.monitoring.request_log import Request, current_request

CSV = "text/csv"
HTML = "text/html"
JSON = "application/json"
JSON_LINES = "application/jsonlines"
NPY = "application/x-npy"
TEXT = "text/plain"
Predictions = list[bool | float | str | list[float]]

# Of the window of zlib, by Content-Encoding; the offset of 16 stands for the header of gzip.
WINDOW_BITS = {"gzip": zlib.MAX_WBITS + 16, "deflate": zlib.MAX_WBITS, "identity": None}
MAX_QUOTED_LENGTH = 100  # characters of a header in an error message


class ResponseBody(msgspec.Struct, forbid_unknown_fields=True):
    """The members of a JSON response."""


class JSONResponse(Response):
    """A response with a line of JSON, which is sent as it is.

    Werkzeug completes addresses and lengths, and closes what a body may consist of: that takes a
    tenth of a request.
    """

    def __init__(self, line: bytes, headers: dict[str, str]) -> None:
        all_headers = Headers()
        all_headers.add("Content-Type", JSON)
        all_headers.add("Content-Length", str(len(line)))
        for name, value in headers.items():
            all_headers.add(name, value)

        self.parts = [line]
        super().__init__(self.parts, headers=all_headers)

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Send the response, by Werkzeug if it is another one by now."""
        is_unchanged = self.response is self.parts and self.status_code == 200
        if self._on_close or not is_unchanged or environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)
        start_response(self.status, self.headers.to_wsgi_list())
        return self.parts


def read_body(*extra_mimetypes: str) -> bytes:
    """Return the request's body: JSON, or of one of `extra_mimetypes`.

    A compressed body is decompressed, up to the same limit. Raises BadRequest,
    UnsupportedMediaType and RequestEntityTooLarge.
    """
    current = current_request()
    _check_content_type(current, extra_mimetypes)

    limit = current_service().settings.max_body_bytes
    if (current.content_length or 0) > limit:
        raise _body_too_large(limit)

    stream = current.environ["wsgi.input"]
    if current.environ.get("wsgi.input_terminated") and isinstance(stream, io.BytesIO):
        # The stream is the body, so Werkzeug's limited stream, which costs a tenth of the whole
        # request, is not needed. Functions before and after the request may read it as well.
        body = stream.getvalue()
    else:
        body = current.get_data()
    if len(body) > limit:  # a chunked body has no Content-Length
        raise _body_too_large(limit)
    if current.environ.get("HTTP_CONTENT_ENCODING"):
        return _decompress(current, body, limit)
    return body


def _check_content_type(current: Request, extra_mimetypes: tuple[str, ...]) -> None:
    is_json = current.environ.get("CONTENT_TYPE") == JSON or current.is_json
    if not is_json and current.mimetype not in extra_mimetypes:
        expected = " or ".join(filter(None, (JSON, *extra_mimetypes)))
        mimetype = current.mimetype[:MAX_QUOTED_LENGTH] or "none"
        raise UnsupportedMediaType(f"Expected Content-Type {expected}, got {mimetype}")

    encoding = current.environ.get("HTTP_CONTENT_ENCODING")
    if encoding and encoding.lower() not in WINDOW_BITS:
        expected = ", ".join(WINDOW_BITS)
        quoted = encoding[:MAX_QUOTED_LENGTH]
        raise UnsupportedMediaType(f"Expected Content-Encoding {expected}, got {quoted}")


def _decompress(current: Request, body: bytes, limit: int) -> bytes:
    window_bits = WINDOW_BITS[current.environ["HTTP_CONTENT_ENCODING"].lower()]
    if window_bits is None:
        return body

    decompressor = zlib.decompressobj(window_bits)
    try:
        # No more than the limit is decompressed, whatever the body stands for.
        content = decompressor.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadRequest("The body is not compressed as Content-Encoding says") from error
    if len(content) > limit:
        raise _body_too_large(limit)
    if not decompressor.eof or decompressor.unused_data:
        raise BadRequest("The compressed body is cut off, or more follows it")
    return content


def _body_too_large(limit: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"Expected at most {limit} bytes of body")


def negotiate_mimetype(*mimetypes: str) -> str:
    """Return the media type that Accept prefers, or the first if there is no Accept.

    Raises NotAcceptable.
    """
    if not current_request().environ.get("HTTP_ACCEPT"):
        return mimetypes[0]

    # Parameters such as charset say nothing about JSON or CSV.
    accepted = MIMEAccept(
        (value.partition(";")[0].strip(), quality) for value, quality in request.accept_mimetypes
    )
    client_order = list(accepted.values())

    def rank(mimetype: str) -> int:
        if mimetype in client_order:
            return client_order.index(mimetype)
        return len(client_order)

    # Of equally preferred types Werkzeug takes the first, so the client's order decides.
    match = accepted.best_match(sorted(mimetypes, key=rank))
    if match is None:
        raise NotAcceptable(f"Expected an Accept that admits {' or '.join(mimetypes)}")
    return match


def check_row_limit(n_rows: int, json_path: str) -> None:
    """Raise RequestEntityTooLarge for more than MAX_ROWS rows at `json_path`."""
    limit = current_service().settings.max_rows
    if n_rows > limit:
        raise RequestEntityTooLarge(
            f"Expected at most {limit} rows, got {n_rows} - at `{json_path}`"
        )


def predict_and_record(rows: Rows, json_path: str) -> Array:
    """Return the predictions for `rows`, of shape (rows, features), and record them.

    Raises RequestEntityTooLarge, and InvalidInput as the model does.
    """
    check_row_limit(len(rows), json_path)
    service = current_service()
    predictions = service.model.predict(rows)
    service.telemetry.record_predictions(rows, predictions)
    return predictions


def check_ready() -> None:
    """Raise ServiceUnavailable if the model fails its self-test."""
    try:
        current_service().self_test.run()
    except ModelError as error:
        raise ServiceUnavailable(str(error)) from error


def json_response(payload: Any, headers: dict[str, str] | None = None) -> Response:
    """Return `payload` as one line of JSON."""
    return JSONResponse(msgspec.json.encode(payload) + b"\n", headers or {})


def versioned_json_response(payload: Any) -> Response:
    """Return `payload` as one line of JSON, with the model's version in a header."""
    return json_response(payload, version_header())


def version_header() -> dict[str, str]:
    """Return the header with the model's version."""
    return {"X-Model-Version": current_service().model.version}

"""Bodies that are not known at once: a thread computes the parts and the loop writes them."""

import asyncio
from typing import Any

from serving.server.application import Response, error_response


class ClientDisconnected(Exception):
    """The client has left, so that the rest of the body is not computed."""


def read_first_chunk(connection: Any, response: Response) -> None:
    """Read the first part of a body, before which no head is sent; called in a thread."""
    try:
        response.body = response.next_chunk() or b""
        response.has_begun = True
    except BaseException:
        connection.worker.log.exception("unhandled exception in the response body")
        response.release()
        response = error_response()
    connection.worker.send_from_thread(connection, response)


def stream_rest(connection: Any, response: Response) -> None:
    """Write the rest of a body as fast as the client reads it; called in a thread."""
    loop = connection.worker.loop
    try:
        write_rest(connection, response)
        loop.call_soon_threadsafe(connection.finish_stream)
    except BaseException as error:
        if not isinstance(error, ClientDisconnected):
            connection.worker.log.exception("unhandled exception in the response body")
        if not loop.is_closed():
            loop.call_soon_threadsafe(connection.abort_stream)
    finally:
        response.release()


def write_rest(connection: Any, response: Response) -> None:
    """Write each part once the client has read what precedes it.

    Raises ClientDisconnected, and ValueError if there is less than the application promised.
    """
    n_missing_bytes = response.n_rest_bytes
    while (chunk := response.next_chunk()) is not None:
        data = chunk
        if n_missing_bytes is not None:
            data = chunk[:n_missing_bytes]
            n_missing_bytes -= len(data)

        if connection.worker.loop.is_closed():
            raise ClientDisconnected
        part = connection.write_part(data)
        asyncio.run_coroutine_threadsafe(part, connection.worker.loop).result()
        if n_missing_bytes == 0:
            return

    if n_missing_bytes:
        raise ValueError(f"{n_missing_bytes} bytes are missing of the response's Content-Length")

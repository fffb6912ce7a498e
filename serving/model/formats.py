"""The formats of model files: name what is no pickle, and decompress what joblib compressed."""

import bz2
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator

from serving.model.errors import ModelError, one_line
from serving.model.libraries import check_written_version

# A few kilobytes can hold terabytes of zeros. The pickles of estimators become up to 20 times
# smaller (k neighbours of the digits, by xz), so memory stays in proportion to the file, whose size
# its owner sees. A small file may take as much as any container has.
MAX_COMPRESSION_RATIO = 100
MIN_LIMIT_BYTES = 64 * 1024**2

# What is read of the file, or written to memory, at a time.
BLOCK_BYTES = 16 * 1024
PIECE_BYTES = 1024**2

# A dictionary of xz may ask for 4 GB; that of the highest level is 64 MiB.
MAX_LZMA_BYTES = 128 * 1024**2

DUMP_AGAIN = "write it with `joblib.dump(estimator, path)`"

# How a file begins, and what to do about it.
OTHER_FORMATS = (
    (rb"\s*\Z", "it is empty: copy or train it again"),
    (
        rb"version https://git-lfs\.github\.com/spec/",
        "it is a pointer of Git LFS and not the model: run `git lfs pull`",
    ),
    (
        rb"(?i)(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|\?xml|error)",
        "it is a page of HTML or XML, such as a log-in page or an error: download the file again",
    ),
    (
        # An ONNX file begins with its version and then the producer, the graph or the operators.
        rb"\x08[\x01-\x20][\x12\x3a\x42]",
        f"it is an ONNX file, which scikit-learn cannot read: {DUMP_AGAIN}",
    ),
    (rb"\x04\"M\x18", f"it is compressed with lz4: {DUMP_AGAIN}, or `compress=3`"),
    (rb"\x28\xb5\x2f\xfd", "it is compressed with zstd: decompress it"),
    (rb"ZF0x", f"joblib before 0.10 wrote it: {DUMP_AGAIN}"),
    (rb"\x93NUMPY", f"it is an array of numpy and not an estimator: {DUMP_AGAIN}"),
    (rb"(?s).{257}ustar", "it is a tar archive: unpack it, and serve the model file in it"),
)


def check_format(content: bytes) -> None:
    """Raise ModelError if `content` is neither a pickle nor compressed."""
    for beginning, reason in OTHER_FORMATS:
        if re.match(beginning, content):
            raise ModelError(reason)

    if content.startswith(b"PK\x03\x04"):
        raise ModelError(_describe_zip(content))
    if re.match(rb"c\w+(?:\.\w+)*\n\w+\n|[(\]})][a-z]", content) and content.endswith(b"."):
        check_written_version(content)
        raise ModelError(f"it is a pickle of protocol 0 or 1: {DUMP_AGAIN}")
    if not content.startswith(b"\x80") and _decompressor(content) is None:
        raise ModelError(f"it is not a pickle: {DUMP_AGAIN}")


def decompress(content: bytes) -> bytes:
    """Return the pickle in `content`, which may be compressed with zlib, gzip, bz2, xz or lzma.

    It is read in pieces up to a limit. Raises ModelError.
    """
    read_pieces = _decompressor(content)
    if read_pieces is None:
        return content

    limit = max(MIN_LIMIT_BYTES, MAX_COMPRESSION_RATIO * len(content))
    buffer = io.BytesIO()
    try:
        for piece in read_pieces(content):
            buffer.write(piece)
            if buffer.tell() > limit:
                raise ModelError(
                    f"it decompresses to more than {limit} bytes, {MAX_COMPRESSION_RATIO} times "
                    "the file: write it without compression"
                )
    except EOFError as error:
        raise ModelError("it is cut off: copy or train it again") from error
    except (OSError, lzma.LZMAError, zlib.error) as error:
        raise ModelError(
            f"it cannot be decompressed: {one_line(error)}: copy or train it again"
        ) from error
    check_format(buffer.getvalue())
    return buffer.getvalue()


def _decompressor(content: bytes) -> Callable[[bytes], Iterator[bytes]] | None:
    """Return the function that decompresses `content`, or None if it is not compressed."""
    # The second byte of zlib is the level: a text may begin with an x.
    if re.match(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b", content):
        return _read_zlib
    if content.startswith(b"BZh"):
        return _read_bz2
    if content.startswith((b"\xfd7zXZ", b"]\x00")):
        return _read_lzma
    return None


def _read_zlib(content: bytes) -> Iterator[bytes]:
    """Yield the pieces of a file of zlib or gzip, each at most a thousand times a block."""
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    for start in range(0, len(content), BLOCK_BYTES):
        yield decompressor.decompress(content[start : start + BLOCK_BYTES])
        if decompressor.eof:
            return
    raise EOFError


def _read_bz2(content: bytes) -> Iterator[bytes]:
    return _read_limited(bz2.BZ2Decompressor(), content)


def _read_lzma(content: bytes) -> Iterator[bytes]:
    return _read_limited(lzma.LZMADecompressor(memlimit=MAX_LZMA_BYTES), content)


def _read_limited(
    decompressor: bz2.BZ2Decompressor | lzma.LZMADecompressor, content: bytes
) -> Iterator[bytes]:
    yield decompressor.decompress(content, PIECE_BYTES)
    while not decompressor.eof:
        if decompressor.needs_input:
            raise EOFError
        yield decompressor.decompress(b"", PIECE_BYTES)


def _describe_zip(content: bytes) -> str:
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "it is a zip archive that is cut off or damaged: copy it again"

    if "schema.json" in names:
        return f"it is a skops file: load it with `skops.io.load`, and {DUMP_AGAIN}"
    return "it is a zip archive: unpack it, and serve the model file in it"

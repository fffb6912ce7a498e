"""The formats of model files: compressed pickles load, and others are named in one line."""

import bz2
import gzip
import hashlib
import io
import lzma
import pickle
import tarfile
import zipfile
import zlib

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from helpers import MODEL_FILE
from serving.model.errors import ModelError
from serving.model.formats import BLOCK_BYTES, MIN_LIMIT_BYTES, decompress
from serving.model.loading import load_model

X, y = load_iris(return_X_y=True)

MODEL_BYTES = MODEL_FILE.read_bytes()

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"

DUMP = "write it with `joblib.dump(estimator, path)`"


def fitted():
    return LogisticRegression(max_iter=500).fit(X, y)


def zip_archive(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


def future_zip():
    """Return an archive that says that it needs a later version of zip."""
    content = zip_archive(model_pkl=b"x")
    entry = content.index(b"PK\x01\x02")
    return content[: entry + 6] + b"\xff" + content[entry + 7 :]


def misnamed_zip():
    """Return an archive with a name that is said to be UTF-8, and is not."""
    content = zip_archive(model_pkl=b"x")
    entry = content.index(b"PK\x01\x02")
    flagged = content[: entry + 9] + b"\x08" + content[entry + 10 :]
    return flagged[: entry + 46] + b"\xff" + flagged[entry + 47 :]


def tar_archive():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pkl"))
    return gzip.compress(buffer.getvalue(), mtime=0)


def array_file():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def refusal(tmp_path, content):
    """Return why a file is refused."""
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_model(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("method", ["zlib", "gzip", "bz2", "xz", "lzma"])
def test_compressed_file_is_loaded(tmp_path, method):
    """What joblib compresses loads, and its digest is that of the file."""
    path = tmp_path / "model.pkl"
    estimator = fitted()
    joblib.dump(estimator, path, compress=(method, 3))

    model = load_model(path)

    np.testing.assert_array_equal(model.predict(X), estimator.predict(X))
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "compress",
    [zlib.compress, gzip.compress, bz2.compress, lzma.compress],
    ids=lambda f: f.__module__,
)
def test_decompression_is_bounded(compress):
    """A small file that decompresses to more than the limit is refused, as is its remainder."""
    bomb = compress(bytes(MIN_LIMIT_BYTES + 1))
    assert len(bomb) * 100 < MIN_LIMIT_BYTES
    message = f"it decompresses to more than {MIN_LIMIT_BYTES} bytes, 100 times the file: "
    with pytest.raises(ModelError, match=message):
        decompress(bomb)


def test_memory_of_decompression_is_bounded(tmp_path):
    """A file whose dictionary asks for a gigabyte is refused before that is allocated."""
    content = lzma.compress(MODEL_BYTES, lzma.FORMAT_ALONE)
    assert decompress(content) == MODEL_BYTES

    dictionary_size = (2**30).to_bytes(4, "little")
    assert refusal(tmp_path, content[:1] + dictionary_size + content[5:]) == (
        "it cannot be decompressed: Memory usage limit exceeded: copy or train it again"
    )


def test_large_file_may_decompress_to_more():
    """The limit grows with the file, so that a large model may be compressed."""
    noise = np.random.default_rng(0).bytes(MIN_LIMIT_BYTES // 50)
    content = b"\x80" + noise + bytes(MIN_LIMIT_BYTES)
    assert decompress(zlib.compress(content, 1)) == content


@pytest.mark.parametrize("method", ["zlib", "gzip", "bz2", "xz", "lzma"])
def test_damaged_compressed_file_is_refused(tmp_path, method):
    """A compressed file that was cut off or changed is refused."""
    path = tmp_path / "model.pkl"
    large = fitted()
    large.extra = np.random.default_rng(0).bytes(3 * BLOCK_BYTES)
    joblib.dump(large, path, compress=(method, 3))
    content = path.read_bytes()

    for length in (20, 100, len(content) // 2, len(content) - 9):
        message = "it is cut off: copy or train it again"
        assert refusal(tmp_path, content[:length]) == message

    changed = content[:100] + bytes([content[100] ^ 255]) + content[101:]
    assert refusal(tmp_path, changed).startswith(("it cannot be decompressed: ", "it is cut off"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty: copy or train it again"),
        (b"\n", "it is empty: copy or train it again"),
        (LFS_POINTER, "it is a pointer of Git LFS and not the model: run `git lfs pull`"),
        (
            b"\n<!DOCTYPE html><title>Log in</title>",
            "it is a page of HTML or XML, such as a log-in page or an error: "
            "download the file again",
        ),
        (
            b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
            "it is a page of HTML or XML, such as a log-in page or an error: "
            "download the file again",
        ),
        (
            zip_archive(schema_json="{}"),
            f"it is a skops file: load it with `skops.io.load`, and {DUMP}",
        ),
        (
            zip_archive(model_pkl=MODEL_BYTES),
            "it is a zip archive: unpack it, and serve the model file in it",
        ),
        (b"PK\x03\x04", "it is a zip archive that is cut off or damaged: copy it again"),
        (future_zip(), "it is a zip archive that is cut off or damaged: copy it again"),
        (misnamed_zip(), "it is a zip archive that is cut off or damaged: copy it again"),
        (
            b"\xef\xbb\xbf<html>",
            "it is a page of HTML or XML, such as a log-in page or an error: "
            "download the file again",
        ),
        (b"(hello", f"it is not a pickle: {DUMP}"),
        (
            b"\x08\x0a\x12\x08skl2onnx\x1a\x061.20.0",
            f"it is an ONNX file, which scikit-learn cannot read: {DUMP}",
        ),
        (tar_archive(), "it is a tar archive: unpack it, and serve the model file in it"),
        (pickle.dumps(fitted(), 0), f"it is a pickle of protocol 0 or 1: {DUMP}"),
        (pickle.dumps(fitted(), 1), f"it is a pickle of protocol 0 or 1: {DUMP}"),
        (zlib.compress(pickle.dumps({"a": 1}, 1)), f"it is a pickle of protocol 0 or 1: {DUMP}"),
        (b"\x04\x22\x4d\x18", f"it is compressed with lz4: {DUMP}, or `compress=3`"),
        (b"\x28\xb5\x2f\xfd\x04", "it is compressed with zstd: decompress it"),
        (b"ZF0x12345", f"joblib before 0.10 wrote it: {DUMP}"),
        (array_file(), f"it is an array of numpy and not an estimator: {DUMP}"),
        (b"hello", f"it is not a pickle: {DUMP}"),
        (b"xhello", f"it is not a pickle: {DUMP}"),
        (gzip.compress(b"hello", mtime=0), f"it is not a pickle: {DUMP}"),
        (
            pickle.dumps(np.zeros(3), 2),
            "it imports _codecs.encode, which is not on the allow-list: "
            f"protocols below 3 need it; {DUMP}",
        ),
    ],
    ids=lambda value: str(value[:9]) if isinstance(value, bytes) else "",
)
def test_other_file_is_named(tmp_path, content, reason):
    """A file that is no pickle is refused with what it is and what to do."""
    assert refusal(tmp_path, content) == reason


def test_pointer_is_named_before_digests(model_path):
    """Beside a model card, a Git LFS pointer is one, and not a model of another digest."""
    model_path.write_bytes(LFS_POINTER)
    for digest in ("", "0" * 64):
        with pytest.raises(ModelError, match=r"git lfs pull"):
            load_model(model_path, digest)


def test_digest_is_compared_before_decompression(tmp_path):
    """A file whose digest is not the expected one is not decompressed."""
    path = tmp_path / "model.pkl"
    path.write_bytes(zlib.compress(bytes(MIN_LIMIT_BYTES + 1)))
    with pytest.raises(ModelError, match="SHA-256 mismatch"):
        load_model(path, "0" * 64)

"""What one call of the model costs, straight from the coefficients, against scikit-learn's own predict.

And what a request of many rows costs in all, against decoding them, one product, and encoding the answer.
"""

import io
import logging
import sys
import timeit
from pathlib import Path

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from app import create_app
from serving.model.storage import load_model

model = load_model(Path(__file__).parent.parent / "model.pkl")
for n in (1, 100, 10_000):
    rows = np.tile([[5.1, 3.5, 1.4, 0.2]], (n, 1))
    rounds = 20_000 // (n // 10 + 10)
    pairs = [
        [
            timeit.timeit(lambda f=f, rows=rows: f(rows), number=rounds)
            for f in (model.predict, model.estimator.predict)
        ]
        for _ in range(7)
    ]
    ours, theirs = np.median(pairs, axis=0)
    print(f"{n} rows: {theirs / ours:.1f} times as fast as estimator.predict")

logging.disable()
app, n = create_app(), 10_000
body = msgspec.json.encode({"features": [[5.1, 3.5, 1.4, 0.2]] * n})


class Rows(msgspec.Struct):
    """The least that knows its type."""

    features: list[list[float]]


decode = msgspec.json.Decoder(Rows).decode
coefficients, intercept, classes = (
    getattr(model.estimator, f"{name}_") for name in ("coef", "intercept", "classes")
)


def least():
    rows = np.array(decode(body).features)
    chosen = classes[(rows @ coefficients.T + intercept).argmax(axis=1)]
    return msgspec.json.encode({"prediction": chosen.tolist()}) + b"\n"


def whole():
    environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/predict",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "5000",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
    }
    pieces = app(environ, lambda *_: None)
    answer = b"".join(pieces)
    pieces.close()
    return answer


assert whole() == least()
pairs = [[timeit.timeit(f, number=20) for f in (whole, least)] for _ in range(9)]
ours, theirs = np.median(pairs, axis=0)
print(
    f"{n} rows in one request: {ours / theirs:.2f} times what decoding, product and encoding take alone"
)

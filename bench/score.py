"""Measure prediction from coefficients, and the cost of a request with many rows.

Prints how many times faster the model predicts than scikit-learn's own `predict`, and what a
request costs against decoding, one matrix product and encoding alone.
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
from serving.model.loading import load_model

ROOT = Path(__file__).parent.parent
ROW = [5.1, 3.5, 1.4, 0.2]
ROW_COUNTS = (1, 100, 10_000)
REQUEST_ROWS = 10_000


class Rows(msgspec.Struct):
    """The smallest type that decodes the request."""

    features: list[list[float]]


def main():
    model = load_model(ROOT / "model.pkl")
    for n_rows in ROW_COUNTS:
        ratio = compare_predict(model, n_rows)
        print(f"{n_rows} rows: {ratio:.1f} times as fast as estimator.predict")

    logging.disable()
    ratio = compare_request(model, REQUEST_ROWS)
    print(
        f"{REQUEST_ROWS} rows in one request: {ratio:.2f} times what decoding, product and "
        "encoding take alone"
    )


def compare_predict(model, n_rows):
    """Return how many times as long the estimator takes as the model."""
    rows = np.tile([ROW], (n_rows, 1))
    number = 20_000 // (n_rows // 10 + 10)
    times = []
    for _ in range(7):
        model_time = timeit.timeit(lambda: model.predict(rows), number=number)
        estimator_time = timeit.timeit(lambda: model.estimator.predict(rows), number=number)
        times.append((model_time, estimator_time))
    model_median, estimator_median = np.median(times, axis=0)
    return estimator_median / model_median


def compare_request(model, n_rows):
    """Return how many times as long the service takes as decoding, product and encoding."""
    app = create_app()
    body = msgspec.json.encode({"features": [ROW] * n_rows})
    decode = msgspec.json.Decoder(Rows).decode
    weights = model.estimator.coef_.T
    intercept = model.estimator.intercept_
    classes = model.estimator.classes_

    def score_directly():
        rows = np.array(decode(body).features)
        predictions = classes[(rows @ weights + intercept).argmax(axis=1)]
        return msgspec.json.encode({"prediction": predictions.tolist()}) + b"\n"

    def score_by_request():
        return call_app(app, body)

    assert score_by_request() == score_directly()
    times = []
    for _ in range(9):
        request_time = timeit.timeit(score_by_request, number=20)
        direct_time = timeit.timeit(score_directly, number=20)
        times.append((request_time, direct_time))
    request_median, direct_median = np.median(times, axis=0)
    return request_median / direct_median


def call_app(app, body):
    """Return the body of the response to a POST of `body` to /predict, without a server."""
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
    return b"".join(app(environ, lambda *_: None))  # a list: nothing is to be closed


if __name__ == "__main__":
    main()

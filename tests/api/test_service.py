"""Keys, readiness and errors of a service that the test changes; any body, by property tests."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import create_app
from helpers import (
    EXAMPLE_REQUEST,
    JSON,
    NAMES,
    assert_json,
    in_process,
)
from serving.api.service import service_of
from serving.model.errors import ModelError


@pytest.mark.parametrize("sent", ["Bearer one", "bearer two", "Bearer \u00fcber"])
def test_valid_key_is_accepted(sent):
    """Each of the keys opens the service, in any case of the scheme."""
    app = create_app(API_KEYS="one, two,\u00fcber")
    header = sent.encode().decode("latin-1")  # as a server hands bytes on
    assert (
        in_process(
            app, "POST", "/predict", EXAMPLE_REQUEST, JSON | {"Authorization": header}
        ).status
        == 200
    )


@pytest.mark.parametrize(
    "sent", [None, "", "one", "Bearer", "Bearer ", "Bearer on", "Bearer one,two", "Basic one"]
)
def test_missing_key_is_401(sent):
    """Without a valid key only the probes are open."""
    app = create_app(API_KEYS="one,two")
    headers = {} if sent is None else {"Authorization": sent}
    for method, path in [("POST", "/predict"), ("GET", "/"), ("GET", "/nothing")]:
        answer = in_process(app, method, path, EXAMPLE_REQUEST, JSON | headers)
        assert_json(answer, 401, {"error": "Expected Authorization: Bearer with a valid key"})
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert (
        in_process(app, "GET", "/healthz").status == in_process(app, "GET", "/readyz").status == 200
    )


def test_unexpected_error_is_500(caplog):
    """An unexpected error is answered 500 without its text, and logged."""
    app = create_app()

    def fail(rows):
        raise RuntimeError("secret")

    service_of(app).model.predict = fail
    answer = in_process(app, "POST", "/predict", EXAMPLE_REQUEST, JSON)
    assert_json(answer, 500, {"error": "Internal Server Error"})
    assert "secret" in caplog.text


def test_failed_self_test_is_503():
    """A failed self-test is answered 503 with the reason; the process stays alive."""
    app = create_app()
    service_of(app).model.estimator.coef_[:] = 0
    reason = "self-test failed: the predictions differ from the reference rows of the model card"
    assert_json(in_process(app, "GET", "/readyz"), 503, {"error": reason})
    assert in_process(app, "GET", "/healthz").status == 200


def test_self_test_is_repeated_after_a_second(monkeypatch):
    """Probes within a second share a self-test that passed; one that failed is repeated."""
    app = create_app()
    model = service_of(app).model
    runs = []
    reasons = [None, "broken", "broken", None]

    def self_test():
        runs.append(now)
        if reason := reasons[len(runs) - 1]:
            raise ModelError(reason)

    monkeypatch.setattr(model, "self_test", self_test)
    monkeypatch.setattr("serving.api.service.time.monotonic", lambda: now)
    for now, path, status in [  # noqa: B007 - the functions above use `now`
        (1.0, "/readyz", 200),
        (1.5, "/ping", 200),
        (1.9, "/readyz", 200),
        (2.1, "/readyz", 503),
        (2.2, "/v2/health/ready", 503),
        (2.3, "/readyz", 200),
        (3.2, "/readyz", 200),
    ]:
        assert in_process(app, "GET", path).status == status
    assert runs == [1.0, 2.1, 2.2, 2.3]


@pytest.mark.parametrize("setting", ["on", "off", "ON"])
def test_prediction_plan_is_turned_off(setting):
    """`/` says which plan predicts; without one the predictions are the same."""
    app = create_app(PREDICTION_PLAN=setting)
    plan = in_process(app, "GET", "/").json["model"]["prediction_plan"]
    assert plan == (None if setting == "off" else "linear")
    answer = in_process(app, "POST", "/predict", EXAMPLE_REQUEST, JSON)
    assert answer.json == in_process(create_app(), "POST", "/predict", EXAMPLE_REQUEST, JSON).json


numbers = st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3))
rows = st.lists(numbers, max_size=6)
named = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), numbers, max_size=5)
anything = st.recursive(
    numbers, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner)
)
requests = st.fixed_dictionaries(
    {"features": st.one_of(rows, st.lists(rows | named | numbers, max_size=3), named, anything)},
    optional={
        "outputs": st.lists(st.sampled_from(["label", "probability", "x"]), max_size=3) | anything
    },
)
good = st.lists(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4),
    min_size=1,
)
bodies = st.one_of(
    st.binary(),
    st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
    (anything | requests).map(lambda value: json.dumps(value).encode()),
    st.tuples(requests, st.binary(max_size=3), st.integers(0, 60)).map(
        lambda t: (body := json.dumps(t[0]).encode())[: t[2]] + t[1] + body[t[2] :]
    ),
)
APP = create_app()


@settings(deadline=None)
@given(bodies)
def test_no_body_causes_500(body):
    """No body whatsoever is answered 500."""
    answer = in_process(APP, "POST", "/predict", body, JSON)
    assert answer.status in (200, 400, 413)
    assert next(iter(answer.json)) == ("prediction" if answer.status == 200 else "error")


@settings(deadline=None)
@given(good)
def test_finite_float32_is_predicted(features):
    """Each row of finite numbers within float32 has a prediction."""
    answer = in_process(
        APP,
        "POST",
        "/predict",
        msgspec.json.encode({"features": features, "outputs": ["probability"]}),
        JSON,
    )
    assert answer.status == 200
    assert len(answer.json["prediction"]) == len(features)
    np.testing.assert_allclose(np.sum(answer.json["probability"], axis=1), 1, rtol=1e-9)

"""What is counted and logged: true across threads, workers and their ends, bounded, and without anyone's features."""

import os
import re
import signal
import subprocess
import threading
import time

import joblib
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

import serving.monitoring.telemetry
from app import create_app
from helpers import (
    ARTICLE,
    JSON,
    NAMES,
    ROOT,
    SETOSA,
    VERSION,
    VIRGINICA,
    assert_json,
    environment,
    free_port,
    gunicorn,
    in_process,
    over_http,
    predict,
    scrape,
    wait_until,
)
from serving.api.service import service_of
from serving.monitoring.telemetry import (
    DURATION_BUCKETS,
    IN_FLIGHT_COLUMN,
    PID_COLUMN,
    STEP_SECONDS,
    WINDOW_STEPS,
)

X, y = load_iris(return_X_y=True)


@pytest.fixture
def app():
    return create_app()


@pytest.fixture
def call(app):
    """Return a function that calls a service of its own, so that its counts begin at 0."""
    return lambda *request: in_process(app, *request)


def feedback(call, prediction, actual):
    return call(
        "POST", "/feedback", msgspec.json.encode({"prediction": prediction, "actual": actual}), JSON
    )


def test_each_request_is_counted_and_timed(call):
    before = scrape(call)
    predict(call, features=SETOSA)
    predict(call, features="no")
    call("GET", "/predict")
    call("GET", "/nothing")
    call("BREW", "/coffee")
    found = scrape(call)
    counts = {
        labels: n - before.get(labels, 0)
        for labels, n in found.items()
        if labels[0] == "http_requests_total"
    }
    assert {labels[1:]: n for labels, n in counts.items() if n} == {
        ("POST", "/predict", "200"): 1,
        ("POST", "/predict", "400"): 1,
        ("GET", "other", "405"): 1,
        ("GET", "other", "404"): 1,
        ("other", "other", "404"): 1,
        ("GET", "/metrics", "200"): 1,
    }
    assert found["http_request_duration_seconds_count", "/predict"] == 2
    assert found["http_request_duration_seconds_count", "other"] == 3
    buckets = [
        found["http_request_duration_seconds_bucket", str(le), "/predict"]
        for le in DURATION_BUCKETS
    ]
    assert buckets == sorted(buckets) and buckets[0] < 2 == buckets[-1]
    assert 0 < found["http_request_duration_seconds_sum", "/predict"] < 10
    assert DURATION_BUCKETS[0] <= 100e-6 and DURATION_BUCKETS[-1] >= 10


def test_what_may_alarm_is_there_before_it_happens(call):
    # `increase` sees a series only from its second sample.
    found = scrape(call)
    assert found["http_requests_total", "POST", "/predict", "500"] == 0
    assert found["predictions_total", "2", VERSION] == 0
    assert found["feedback_total", "2", VERSION, "0"] == 0
    assert found["feature_rows_total", "below", NAMES[0], VERSION] == 0


def test_rows_classes_and_bins_are_counted(call):
    predict(call, features=[SETOSA, VIRGINICA, VIRGINICA])
    predict(call, features=SETOSA)
    predict(call, features=[4.3, 100, -1, 2.5])  # an edge on either side holds its value
    found = scrape(call)
    assert found["rows_total", VERSION] == 5
    classes = [found["predictions_total", str(i), VERSION] for i in range(3)]
    assert classes[2] >= 2 and sum(classes) == 5
    for name, expected in zip(
        NAMES, ({"0": 1}, {"above": 1}, {"below": 1}, {"above": 0, "4": 3}), strict=True
    ):
        assert expected == {b: found["feature_rows_total", b, name, VERSION] for b in expected}
        assert (
            sum(
                n
                for labels, n in found.items()
                if labels[0] == "feature_rows_total" and name in labels
            )
            == 5
        )


def test_what_was_refused_is_not_counted_as_scored(call):
    predict(call, features=[[1, 1, 1, 1], [1, 1, 1]])
    assert scrape(call)["rows_total", VERSION] == 0


def test_the_reference_is_there_to_compare_with(call):
    found = scrape(call)
    card = msgspec.json.decode((ROOT / "model.json").read_bytes())
    assert found["model_info", VERSION, "iris"] == 1
    assert found["model_reference_rows", VERSION] == card["rows"] == 150
    assert (
        found["model_accuracy_reference", VERSION]
        == card["metrics"]["cross_validation"]["accuracy"]
    )
    share = found["feature_reference_share", "0", NAMES[0], VERSION]
    assert share == pytest.approx((150 * card["features"][0]["shares"][0] + 1) / (150 + 7))
    assert found["class_reference_share", "1", VERSION] == pytest.approx(1 / 3)


@pytest.mark.parametrize("kind", ["path", "method", "id"])
def test_a_thousand_of_what_a_client_makes_up_is_one_series(call, kind):
    def ask(i):
        path, headers = (f"/x{i}", None) if kind == "path" else ("/x", {"X-Request-ID": f"x{i}"})
        call(f"M{i}" if kind == "method" else "GET", path, None, headers)

    scrape(call)
    before = scrape(call).keys()
    for i in range(1000):
        ask(i)
    found = scrape(call)
    [new] = found.keys() - before
    assert found[new] == 1000


class Interrupted:
    """Cells between whose reading and writing another thread comes in, as it may."""

    def __init__(self, cells):
        self.cells = cells

    def __getitem__(self, cell):
        value = self.cells[cell]
        time.sleep(0)
        return value

    def __setitem__(self, cell, value):
        self.cells[cell] = value


def test_threads_lose_no_count(app):
    telemetry = service_of(app).telemetry
    telemetry.cells = Interrupted(telemetry.cells)

    def work():
        for _ in range(50):
            in_process(app, "POST", "/predict", ARTICLE, JSON)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = scrape(lambda *request: in_process(app, *request))
    assert found["http_requests_total", "POST", "/predict", "200"] == 400
    assert found["rows_total", VERSION] == found["predictions_total", "0", VERSION] == 400
    assert found["http_requests_in_flight",] == 1  # the scrape itself


def test_counts_are_exact_after_workers_were_killed_and_reloaded(serve):
    service = serve(WEB_CONCURRENCY="2")
    wait_until(lambda: len(service.workers()) == 2)

    def ask():
        for _ in range(60):
            assert service.call("POST", "/predict", ARTICLE, JSON).status == 200

    def replaced(old):
        return len(service.workers()) == 2 and not set(old) & set(service.workers())

    ask()
    for victims, number in (
        (service.workers(), signal.SIGKILL),
        ([service.process.pid], signal.SIGHUP),
    ):
        before = service.workers()
        for pid in victims:
            os.kill(pid, number)
        wait_until(lambda before=before: replaced(before))
        ask()
    expected = 180
    for _ in range(8):  # whoever answers
        found = scrape(service.call)
        assert found["http_requests_total", "POST", "/predict", "200"] == expected
        assert found["rows_total", VERSION] == expected
        assert found["http_request_duration_seconds_count", "/predict"] == expected
        assert found["http_requests_in_flight",] == 1
        memory = [
            value for labels, value in found.items() if labels[0] == "process_resident_memory_bytes"
        ]
        assert len(memory) == 3 and min(memory) > 1e6  # two workers, and who started them


WAITING = """

@api.get("/waiting")
def waiting():
    import time
    while not Path("go").exists():
        time.sleep(0.01)
    return json_response({})

"""


def test_what_is_in_flight_is_seen_by_whoever_is_asked(serve, checkout):
    program = (checkout / "app.py").read_text()
    (checkout / "app.py").write_text(program.replace("\n\ntry:", f"{WAITING}\n\ntry:"))
    service = serve(checkout, WEB_CONCURRENCY="2")
    wait_until(lambda: len(service.workers()) == 2)
    asker = threading.Thread(target=service.call, args=("GET", "/waiting"))
    asker.start()
    for _ in range(8):
        wait_until(lambda: scrape(service.call)["http_requests_in_flight",] == 2)
    (checkout / "go").touch()
    asker.join()
    assert scrape(service.call)["http_requests_in_flight",] == 1


def test_what_a_killed_worker_had_in_flight_is_not(app):
    ended = subprocess.Popen(["true"])
    ended.wait()
    service_of(app).telemetry.http_counters[5, [PID_COLUMN, IN_FLIGHT_COLUMN]] = ended.pid, 3
    assert scrape(lambda *request: in_process(app, *request))["http_requests_in_flight",] == 1


def test_more_workers_than_rows_share_one(app):
    telemetry = service_of(app).telemetry
    telemetry.attach(10**6)
    call = lambda *request: in_process(app, *request)  # noqa: E731
    predict(call, features=SETOSA)
    assert scrape(call)["rows_total", VERSION] == 1


def test_a_port_of_their_own_takes_metrics_and_drift_away_from_the_public_one(serve):
    port = free_port()
    service = serve(METRICS_PORT=port, API_KEYS="one")
    for path in ("/metrics", "/drift"):
        assert service.call("GET", path).status == 404
        # What a client says of the host is not where it came in.
        spoofed = service.call(
            "GET", path, None, {"Host": f"localhost:{port}", "Authorization": "Bearer one"}
        )
        assert_json(spoofed, 404, {"error": f"GET {path}: Not Found"})
        assert over_http(f"127.0.0.1:{port}", "GET", path).status == 200
    for path in ("/", "/healthz", "/readyz"):
        assert over_http(f"127.0.0.1:{port}", "GET", path).status == 404
    assert over_http(f"127.0.0.1:{port}", "POST", "/predict", ARTICLE, JSON).status == 404
    index = service.call("GET", "/", None, {"Authorization": "Bearer one"}).json
    assert not {"/metrics", "/drift"} & {route["path"] for route in index["routes"]}


def test_without_it_a_key_is_asked_for():
    app = create_app(API_KEYS="one")
    for path in ("/metrics", "/drift"):
        assert in_process(app, "GET", path).status == 401
        assert in_process(app, "GET", path, None, {"Authorization": "Bearer one"}).status == 200


def test_open_metrics_for_who_asks_for_it(call):
    answer = call(
        "GET", "/metrics", None, {"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


def moved(column, by):
    rows = X[np.random.default_rng(0).integers(len(X), size=2000)].copy()
    rows[:, column] += by
    return rows.tolist()


def test_drift_is_quiet_drifting_or_not_said(call):
    assert call("GET", "/drift").json["verdict"] == "too few rows"
    predict(call, features=X[:99].tolist())
    found = call("GET", "/drift").json
    assert (found["verdict"], found["rows"]) == ("too few rows", 99)
    assert found["features"][0]["psi"] is None
    predict(call, features=X[99:].tolist())
    found = call("GET", "/drift").json
    assert (found["verdict"], found["rows"], found["classes"]["verdict"]) == ("quiet", 150, "quiet")
    for feature in found["features"]:
        assert feature["live"] == feature["reference"] and feature["psi"] < 0.05
        assert 0 < feature["critical"] < 1
    predict(call, features=moved(1, X[:, 1].std()))
    found = call("GET", "/drift").json
    assert (found["verdict"], found["model_version"]) == ("drifting", VERSION)
    assert [feature["verdict"] == "drifting" for feature in found["features"]] == [
        False,
        True,
        False,
        False,
    ]
    assert found["features"][1]["psi"] > found["features"][1]["critical"]
    assert found["features"][1]["live"][-1] > 0  # above everything that was seen


def test_the_classes_may_drift_too(call):
    predict(call, features=X[:50].tolist() * 4)
    assert call("GET", "/drift").json["classes"]["verdict"] == "drifting"


def test_the_window_forgets(call, monkeypatch):
    now = [7.0]
    monkeypatch.setattr(serving.monitoring.telemetry.time, "monotonic", lambda: now[0])
    rows = []
    for _ in range(3 * WINDOW_STEPS):
        predict(call, features=[SETOSA] * 10)
        now[0] += STEP_SECONDS
        rows.append(call("GET", "/drift").json["rows"])
    # What was counted in a step is forgotten when as many steps have begun since.
    assert rows == [min(10 * (i + 1), 10 * (WINDOW_STEPS - 1)) for i in range(3 * WINDOW_STEPS)]
    now[0] += 5 * STEP_SECONDS
    assert call("GET", "/drift").json["rows"] == 10 * (WINDOW_STEPS - 6)
    predict(call, features=SETOSA)
    assert call("GET", "/drift").json["rows"] == 10 * (WINDOW_STEPS - 6) + 1
    now[0] += 1000 * STEP_SECONDS
    assert call("GET", "/drift").json["rows"] == 0
    predict(call, features=SETOSA)
    assert call("GET", "/drift").json["rows"] == 1
    now[0] += (WINDOW_STEPS - 1) * STEP_SECONDS
    assert call("GET", "/drift").json["rows"] == 1
    now[0] += STEP_SECONDS
    assert call("GET", "/drift").json["rows"] == 0
    assert scrape(call)["rows_total", VERSION] == 30 * WINDOW_STEPS + 2


APP = create_app()


@given(st.lists(st.integers(0, 5 * WINDOW_STEPS), min_size=1, max_size=40).map(sorted))
def test_the_window_holds_what_came_in_its_steps(steps):
    telemetry = service_of(APP).telemetry
    telemetry.rows[:] = 0
    with pytest.MonkeyPatch.context() as patch, APP.test_request_context():
        for step in steps:
            patch.setattr(
                serving.monitoring.telemetry.time,
                "monotonic",
                lambda step=step: float(step * STEP_SECONDS),
            )
            telemetry.record_predictions(X[:1], [0])
        assert telemetry.drift_report()["rows"] == sum(
            step > steps[-1] - WINDOW_STEPS for step in steps
        )


def test_a_window_is_of_all_workers(serve):
    service = serve(WEB_CONCURRENCY="2")
    for _ in range(60):
        service.call("POST", "/predict", ARTICLE, JSON)
    assert {service.call("GET", "/drift").json["rows"] for _ in range(8)} == {60}


def test_feedback_is_counted_by_what_was_said_and_what_was_so(call):
    assert_json(feedback(call, [0, 1, 2, 1], [0, 1, 1, 1]), 200, {"counted": 4})
    assert_json(feedback(call, [0], [0]), 200, {"counted": 1})
    found = {
        labels[1:]: n for labels, n in scrape(call).items() if labels[0] == "feedback_total" and n
    }
    assert found == {
        ("0", VERSION, "0"): 2,
        ("1", VERSION, "1"): 2,
        ("1", VERSION, "2"): 1,
    }  # actual, predicted


FEEDBACK_FAULTS = {
    "empty": (b"", "The body is empty"),
    "no members": (b"{}", "Object missing required field `prediction`"),
    "no truth": (b'{"prediction":[0]}', "Object missing required field `actual`"),
    "no rows": (
        b'{"prediction":[],"actual":[]}',
        "Expected at least 1 values, got 0 - at `$.prediction`",
    ),
    "fewer": (b'{"prediction":[0,1],"actual":[0]}', "Expected 2 values, got 1 - at `$.actual`"),
    "not a class": (
        b'{"prediction":[0,3],"actual":[0,1]}',
        "Expected a class of the model - at `$.prediction[1]`",
    ),
    "not a class either": (
        b'{"prediction":[0],"actual":[-1]}',
        "Expected a class of the model - at `$.actual[0]`",
    ),
    "a label": (
        b'{"prediction":["setosa"],"actual":[0]}',
        "Expected `int`, got `str` - at `$.prediction[0]`",
    ),
    "a bool": (
        b'{"prediction":[true],"actual":[0]}',
        "Expected `int`, got `bool` - at `$.prediction[0]`",
    ),
    "unknown member": (
        b'{"prediction":[0],"actual":[0],"x":1}',
        "Object contains unknown field `x`",
    ),
    "twice": (
        b'{"prediction":[0],"actual":[0],"actual":[1]}',
        "Object contains field `actual` twice",
    ),
    "not UTF-8": (b'{"prediction":[0],"actual":[0],"\xff":1}', "The body is not UTF-8"),
}


@pytest.mark.parametrize("fault", FEEDBACK_FAULTS)
def test_feedback_that_cannot_be_is_refused_and_not_counted(call, fault):
    body, message = FEEDBACK_FAULTS[fault]
    assert_json(call("POST", "/feedback", body, JSON), 400, {"error": message})
    assert not [labels for labels, n in scrape(call).items() if labels[0] == "feedback_total" and n]


def test_feedback_has_the_limits_of_a_prediction():
    app = create_app(MAX_ROWS=2)
    answer = feedback(lambda *request: in_process(app, *request), [0, 0, 0], [0, 0, 0])
    assert_json(answer, 413, {"error": "Expected at most 2 rows, got 3 - at `$.actual`"})


@pytest.mark.parametrize(
    ("classes", "one"), [(["a", "b", "c"], "c"), ([True, False], False), ([0.0, 1.0, 2.0], 1.0)]
)
def test_classes_of_any_type_are_counted_and_a_card_is_not_needed(tmp_path, classes, one):
    joblib.dump(
        LogisticRegression(max_iter=500).fit(X, np.array(classes)[y % len(classes)]),
        tmp_path / "model.pkl",
    )
    app = create_app(MODEL_PATH=str(tmp_path / "model.pkl"))
    call = lambda *request: in_process(app, *request)  # noqa: E731
    prediction = predict(call, features=[SETOSA, VIRGINICA]).json["prediction"]
    assert feedback(call, [one, one], prediction).status == 200
    found = scrape(call)
    version = service_of(app).model.version
    assert sum(found["predictions_total", str(value), version] for value in set(prediction)) == 2
    assert (
        sum(
            n for labels, n in found.items() if labels[0] == "feedback_total" and str(one) in labels
        )
        == 2
    )
    drift = call("GET", "/drift").json
    assert (drift["verdict"], drift["features"], drift["classes"]) == ("no reference", [], None)


def test_a_regressor_has_rows_and_no_classes(tmp_path):
    joblib.dump(LinearRegression().fit(X, y), tmp_path / "model.pkl")
    app = create_app(MODEL_PATH=str(tmp_path / "model.pkl"))
    call = lambda *request: in_process(app, *request)  # noqa: E731
    predict(call, features=[SETOSA, VIRGINICA])
    assert scrape(call)["rows_total", service_of(app).model.version] == 2
    message = "This model has no classes, and only those are counted"
    assert_json(feedback(call, [0.5], [1]), 400, {"error": message})


def lines(service, logger="serving.monitoring.telemetry"):
    """Return what a stopped service logged, each line decoded."""
    found = [msgspec.json.decode(line) for line in service.log.splitlines()]
    return [line for line in found if line["logger"] == logger]


TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_a_request_is_one_line_of_json_without_its_features(serve):
    service = serve(WEB_CONCURRENCY="1")
    headers = JSON | {"X-Request-ID": "abc", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    service.call(
        "POST",
        "/predict",
        b'{"features":[[5.125, 3.5, 1.4, 0.2], [5.125, 3.5, 1.4, 0.2]]}',
        headers,
    )
    service.call(
        "POST",
        "/predict",
        b'{"features":[[5.125, 3.5, "9.75", 0.2]]}',
        JSON | {"traceparent": f"00-{TRACE}"},
    )
    service.call(
        "GET", "/secret-path?and=query", None, {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01x"}
    )
    service.call("GET", "/healthz")
    service.call("GET", "/metrics")
    service.stop()
    good, bad, missing = lines(service)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", good.pop("time"))
    assert 0 < good.pop("ms") < 1e4 and re.fullmatch(
        r"POST /predict 200 in [0-9.]+ ms", good.pop("message")
    )
    assert good == {
        "level": "INFO",
        "logger": "serving.monitoring.telemetry",
        "request_id": "abc",
        "trace_id": TRACE,
        "method": "POST",
        "route": "/predict",
        "status": 200,
        "rows": 2,
        "model_version": VERSION,
    }
    assert (bad["status"], bad["rows"]) == (400, 0) and "trace_id" not in bad
    assert re.fullmatch("[0-9a-f]{32}", bad["request_id"])
    assert (missing["status"], missing["route"]) == (404, "other") and "trace_id" not in missing
    assert not re.search(r"5\.125|9\.75|secret|query", service.log)
    assert "listening at" in lines(service, "gunicorn.error")[1]["message"].lower()


def test_probes_that_fail_are_not_quiet(caplog):
    app = create_app(API_KEYS="one")
    call = lambda *request: in_process(app, *request)  # noqa: E731
    with caplog.at_level("INFO"):
        call("GET", "/readyz")
        assert not caplog.records
        service_of(app).model.card.reference[0].features[:] = VIRGINICA
        call("GET", "/readyz")
        call("GET", "/metrics")
    records = [record for record in caplog.records if record.name == "serving.monitoring.telemetry"]
    assert [(record.levelname, record.status) for record in records] == [
        ("ERROR", 503),
        ("INFO", 401),
    ]


def test_an_error_is_logged_with_its_traceback_and_its_request(serve, checkout):
    with (checkout / "app.py").open("a") as file:
        file.write("\n\n@app.get('/broken')\ndef broken():\n    return 1 / 0\n")
    program = (checkout / "app.py").read_text()
    # A route that is added late has no series of its own; it is one of the others.
    (checkout / "app.py").write_text(program.replace('if __name__ == "__main__"', "if False"))
    service = serve(checkout, WEB_CONCURRENCY="1")
    answer = service.call("GET", "/broken", None, {"X-Request-ID": "abc"})
    assert (answer.status, answer.json) == (500, {"error": "Internal Server Error"})
    service.stop()
    [error] = lines(service, "app")
    assert (error["level"], error["request_id"]) == ("ERROR", "abc")
    assert (
        "ZeroDivisionError: division by zero" in error["exc_info"]
        and "in broken" in error["exc_info"]
    )
    [line] = lines(service)
    assert (line["level"], line["status"], line["request_id"]) == ("ERROR", 500, "abc")


def test_on_a_terminal_lines_are_for_people():
    master, slave = os.openpty()
    process = subprocess.Popen(gunicorn(), cwd=ROOT, env=environment(), stderr=slave)
    os.close(slave)
    text = ""
    while "Booting worker" not in text:
        text += os.read(master, 9999).decode()
    process.terminate()
    assert process.wait(30) == 0
    os.close(master)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO Starting gunicorn", text)


def test_a_level_is_obeyed(serve):
    service = serve(LOG_LEVEL="warning", PORT=free_port())  # it does not say which it took
    service.call("POST", "/predict", ARTICLE, JSON)
    service.stop()
    assert "POST" not in service.log

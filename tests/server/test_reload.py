"""Another version while serving: new files and SIGHUP."""

import copy
import http.client
import re
import signal
import threading
from functools import partial

import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from werkzeug.middleware.proxy_fix import ProxyFix

from app import create_app, reload_model
from helpers import JSON, MODEL_FILE, card_fields, free_port, in_process, scrape, wait_until
from serving.api.service import service_of
from serving.model.loading import load_model
from serving.model.storage import save_model, write_files_atomically

X, y = load_iris(return_X_y=True)
OLD = load_model(MODEL_FILE)
# The other model predicts another class for each of these rows, so a response shows its model.
ROWS = X[y == 0]
BODY = msgspec.json.encode({"features": ROWS.tolist()})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Return the files of two versions, by version, and what each predicts for ROWS."""
    directory = tmp_path_factory.mktemp("versions")
    other = LogisticRegression(max_iter=500).fit(X, np.roll(y, 50))
    save_model(directory / "model.pkl", other, reference=X[::50], **card_fields(other))
    found = {}
    for path in (MODEL_FILE, directory / "model.pkl"):
        model = load_model(path)
        files = {file.name: file.read_bytes() for file in (path, path.with_suffix(".json"))}
        found[model.version] = files, model.predict(ROWS).tolist()
    (first, old), (_, new) = found.items()
    assert first == OLD.version and not set(old[1]) & set(new[1])
    return found


def put(directory, files):
    write_files_atomically({directory / name: content for name, content in files.items()})


def turn_over(service):
    """Send SIGHUP and wait until none of the workers that were there is left."""
    before = set(service.workers())
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(service.workers()) == 2 and not before & set(service.workers()))


def served(service):
    return service.call("GET", "/readyz").headers["X-Model-Version"]


class Client(threading.Thread):
    """Send requests, on one connection while it is kept, until it is stopped."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address = address
        self.answers = []
        self.faults = []
        self.stopped = False

    def run(self):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        while not self.stopped:
            try:
                connection.request("POST", "/predict", BODY, JSON)
                response = connection.getresponse()
                answer = msgspec.json.decode(response.read())
                self.answers.append(
                    (response.status, response.getheader("X-Model-Version"), answer["prediction"])
                )
            except OSError as error:
                self.faults.append(error)
                connection.close()
        connection.close()


def test_reload_under_load_is_exact(serve, checkout, pairs):
    """Under load each response is of one version, and no request is lost."""
    service = serve(checkout, WEB_CONCURRENCY="2", LOG_LEVEL="warning", PORT=free_port())
    before = requests(service)
    clients = [Client(service.address) for _ in range(4)]
    for client in clients:
        client.start()
    old, new = pairs
    for version in (new, old, new):
        put(checkout, pairs[version][0])
        turn_over(service)
        done = sum(len(client.answers) for client in clients)
        wait_until(
            partial(lambda n: sum(len(client.answers) for client in clients) > n + 100, done)
        )
        assert served(service) == version
    for client in clients:
        client.stopped = True
        client.join(30)
    assert [client.faults for client in clients] == [[]] * 4
    answers = [answer for client in clients for answer in client.answers]
    assert {status for status, _, _ in answers} == {200}
    assert {version for _, version, _ in answers} == {old, new}
    assert all(prediction == pairs[version][1] for _, version, prediction in answers)
    # Each was counted, whichever worker answered it and however often the version changed since.
    assert requests(service) - before == len(answers)


def requests(service):
    return scrape(service.call)["http_requests_total", "POST", "/predict", "200"]


BAD = {
    "cut off": ("model.pkl", lambda content: content[:500], "SHA-256 mismatch: the file has "),
    "without its card's digest": (
        "model.json",
        lambda content: b"{}",
        "model card model.json cannot be read: ",
    ),
    "nobody foresaw": (
        "model.json",
        lambda c: re.sub(rb'"edges": [^]]*', b'"edges": [', c, count=1),
        "list index",
    ),
}


def test_invalid_file_keeps_old_version(serve, checkout, pairs):
    """An invalid new file leaves the old version in service, with the reason."""
    old, new = pairs
    service = serve(checkout, WEB_CONCURRENCY="2")
    service.call("POST", "/predict", BODY, JSON)
    for name, spoil, text in BAD.values():
        put(checkout, pairs[new][0])
        (checkout / name).write_bytes(spoil((checkout / name).read_bytes()))
        turn_over(service)
        for _ in range(5):  # whichever worker it is
            answer = service.call("GET", "/readyz")
            assert (answer.status, answer.headers["X-Model-Version"]) == (200, old)
            assert answer.json["status"] == "ready" and answer.json["reload"].startswith(text)
            assert str(checkout) not in answer.body.decode()
        assert service.call("POST", "/predict", BODY, JSON).json["prediction"] == pairs[old][1]
        assert scrape(service.call)["model_last_reload_successful",] == 0
    lines = [
        line["message"]
        for line in map(msgspec.json.decode, service.log.splitlines())
        if line["level"] == "ERROR"
    ]
    for line, (_, _, text) in zip(lines, BAD.values(), strict=True):
        assert line.startswith(f"model reload failed, still serving {old}: ") and text in line
    assert scrape(service.call)["rows_total", old] == (1 + len(BAD)) * len(
        ROWS
    )  # nothing that was counted is lost

    put(checkout, pairs[new][0])
    turn_over(service)
    answer = service.call("GET", "/readyz")
    assert (answer.json, answer.headers["X-Model-Version"]) == ({"status": "ready"}, new)
    assert scrape(service.call)["model_last_reload_successful",] == 1


@pytest.fixture
def app(checkout):
    return create_app(MODEL_PATH=str(checkout / "model.pkl"), MODEL_SHA256="")


def test_reload_keeps_request_counters(app, checkout, pairs):
    """Request counters go on; the rows are the new version's own."""
    old, new = pairs
    assert scrape(partial(in_process, app))["model_last_reload_successful",] == 1
    old_app = copy.copy(app)  # that of a worker which has not ended yet
    old_app.extensions = dict(app.extensions)
    for version in (old, new):
        if version == new:
            put(checkout, pairs[new][0])
            reload_model(app)
        in_process(app, "POST", "/predict", BODY, JSON)
        in_process(app, "POST", "/feedback", b'{"prediction":[0],"actual":[1]}', JSON)
        found = scrape(partial(in_process, app))
        assert {labels[-1] for labels in found if labels[0] == "rows_total"} == {version}
        assert found["rows_total", version] == len(ROWS)
        assert found["feedback_total", "1", version, "0"] == 1
        drift = in_process(app, "GET", "/drift").json
        assert (drift["model_version"], drift["rows"]) == (version, len(ROWS))
    assert found["http_requests_total", "POST", "/predict", "200"] == 2
    # A worker of the old version that is still at work counts where the new ones do.
    in_process(old_app, "POST", "/predict", BODY, JSON)
    found = scrape(partial(in_process, app))
    assert found["http_requests_total", "POST", "/predict", "200"] == 3
    assert found["rows_total", new] == len(ROWS)


def test_reload_keeps_what_was_added(app, checkout, pairs):
    """A view, a hook and middleware that were added to the app serve the new version as well."""
    old, new = pairs
    app.add_url_rule("/version", view_func=lambda: service_of(app).model.version)
    app.after_request(lambda response: response.headers.add("X-Added", "yes") or response)
    app.wsgi_app = ProxyFix(app.wsgi_app)
    for version in (old, new):
        put(checkout, pairs[version][0])
        reload_model(app)
        answer = in_process(app, "GET", "/version")
        assert (answer.status, answer.body) == (200, version.encode())
        assert answer.headers["X-Added"] == "yes"
        document = in_process(app, "GET", "/openapi.json").json
        assert version in document["info"]["description"] and "/version" in document["paths"]


def test_unchanged_files_keep_counts(app):
    """Unchanged files are no new version."""
    in_process(app, "POST", "/predict", BODY, JSON)
    reload_model(app)
    assert scrape(partial(in_process, app))["rows_total", OLD.version] == len(ROWS)


def test_pinned_digest_holds_on_reload(checkout, pairs):
    """MODEL_SHA256 holds for later files as well."""
    app = create_app(MODEL_PATH=str(checkout / "model.pkl"), MODEL_SHA256=OLD.sha256)
    put(checkout, [*pairs.values()][1][0])
    reload_model(app)
    answer = in_process(app, "GET", "/readyz")
    assert answer.status == 200 and answer.json["reload"].endswith(f"MODEL_SHA256 is {OLD.sha256}")


def test_new_card_is_loaded(app, checkout):
    """Another card of the same model is loaded."""
    path = checkout / "model.json"
    path.write_text(
        path.read_text().replace('"label": "setosa"', '"label": "bristle-pointed iris"')
    )
    reload_model(app)
    answer = in_process(
        app, "POST", "/predict", b'{"features":[5,3,1,0],"outputs":["label"]}', JSON
    )
    assert answer.json["label"] == ["bristle-pointed iris"]

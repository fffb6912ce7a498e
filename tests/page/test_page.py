"""The page for a browser at `/`: what it is made of, who gets it, and what it needs no key for."""

import base64
import gc
import hashlib
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from flask import render_template
from sklearn.datasets import load_iris
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC

from app import create_app
from fixture_models import TRAINERS, model_file
from helpers import JSON, NAMES, VERSION, in_process
from manifests import gunicorn_settings
from serving.page.inputs import MAX_SLIDERS
from serving.page.views import ASSETS, STATIC
from trained_models import train_app

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
KEY = {"Authorization": "Bearer one"}
MAX_PAGE_BYTES = 150_000

X, y = load_iris(return_X_y=True)


class Tags(HTMLParser):
    """The tags of a page, each with its attributes."""

    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.texts = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data.strip())


def open_page(app, headers=BROWSER):
    answer = in_process(app, "GET", "/", None, headers)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return answer, Tags(answer.body.decode())


def features_of(page):
    return [attributes for _, attributes in page.tags if "data-control" in attributes]


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "application/json", "application/json, text/html", "text/plain", "image/png"],
)
def test_programs_get_json(call, accept):
    """A client that does not prefer HTML gets the index, and caches tell the two apart."""
    answer = call("GET", "/", None, {"Accept": accept})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Vary"] == "Accept"
    assert answer.json["status"] == "alive"


def test_browsers_get_page(call):
    """A browser gets a page with the model, its features and its first real row."""
    answer = call("GET", "/", None, BROWSER)
    assert answer.status == 200
    assert "Accept" in answer.headers["Vary"]
    page = Tags(answer.body.decode())
    assert f"iris {VERSION}" in page.texts
    assert [feature["data-name"] for feature in features_of(page)] == NAMES
    assert {"setosa", "versicolor", "virginica", "98.2 %"} <= set(page.texts)


def test_page_loads_nothing_from_elsewhere():
    """The page has a strict policy, no script but files, and only relative addresses.

    A style sheet is a file as well, or a part of the page whose digest is in the policy.
    """
    app = create_app()
    for path in ("/", "/docs"):
        answer = in_process(app, "GET", path, None, BROWSER)
        policy = {}
        for directive in answer.headers["Content-Security-Policy"].split("; "):
            name, sources = directive.split(" ", 1)
            policy[name] = sources
        assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        html = answer.body.decode()
        digests = []
        for styles in re.findall("<style>(.*?)</style>", html, re.DOTALL):
            digest = hashlib.sha256(styles.encode()).digest()
            digests.append(f"'sha256-{base64.b64encode(digest).decode()}'")
        assert policy["style-src"] == " ".join(digests or ["'self'"])

        for tag, attributes in Tags(html).tags:
            assert tag != "script" or attributes["src"]
            assert not [name for name in attributes if name == "style" or name.startswith("on")]
            for name in ("src", "href"):
                assert re.match(r"(#|page/|docs)", attributes.get(name, "#")), attributes


def test_assets_are_served_and_cached():
    """Each asset has its type and an ETag; a client that has it already gets no body."""
    app = create_app()
    types = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for name in ASSETS:
        answer = in_process(app, "GET", f"/page/{name}")
        assert answer.status == 200
        assert answer.body == (STATIC / name).read_bytes()
        assert answer.headers["Content-Type"].partition(";")[0] == types[name.rpartition(".")[2]]

        known = {"If-None-Match": answer.headers["ETag"]}
        again = in_process(app, "GET", f"/page/{name}", None, known)
        assert (again.status, again.body) == (304, b"")
    for other in ("/page/", "/page/x.js", "/page/..%2fviews.py", "/page/page.html"):
        assert in_process(app, "GET", other).status == 404


def test_docs_assets_are_served():
    """Swagger UI's script and style sheet are served, and no other file of the package."""
    app = create_app()
    page = Tags(in_process(app, "GET", "/docs").body.decode())
    links = [attributes.get("src", attributes.get("href")) for _, attributes in page.tags]
    links = [link for link in links if link]
    assert {"docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "page/docs.js"} <= set(links)
    for link in links:
        assert in_process(app, "GET", f"/{link}").status == 200
    for other in ("/docs/", "/docs/swagger-ui.js", "/docs/x", "/docs/..%2fflask_swagger_ui.py"):
        assert in_process(app, "GET", other).status == 404


def test_page_is_light():
    """The page and all that it loads are below 150 kB, uncompressed."""
    html = in_process(create_app(), "GET", "/", None, BROWSER).body
    loaded = [name for name in ASSETS if not name.startswith("docs.")]
    assert len(html) + sum((STATIC / name).stat().st_size for name in loaded) < MAX_PAGE_BYTES


def test_pages_ask_for_key():
    """With API keys both pages load without one, and then show nothing of the model."""
    app = create_app(API_KEYS="one")
    for path in ("/", "/docs"):
        answer = in_process(app, "GET", path, None, BROWSER)
        assert answer.status == 200
        assert b'id="key-form"' in answer.body
        for secret in (b"iris", b"setosa", VERSION.encode(), b"sepal"):
            assert secret not in answer.body

    assert in_process(app, "GET", "/page/page.js").status == 200
    _, page = open_page(app, BROWSER | KEY)
    assert len(features_of(page)) == len(NAMES)
    wrong = in_process(app, "GET", "/", None, BROWSER | {"Authorization": "Bearer two"})
    assert wrong.status == 401


def test_programs_need_key():
    """With API keys the index needs one, as before."""
    app = create_app(API_KEYS="one")
    assert in_process(app, "GET", "/").status == 401
    assert in_process(app, "GET", "/", None, KEY).json["status"] == "alive"


def test_first_visitor_waits_for_no_template(monkeypatch):
    """The templates of every page are compiled before the workers are forked."""
    app = create_app()
    listener = SimpleNamespace(sock=SimpleNamespace(getsockname=lambda: "a Unix socket"))
    loaded = SimpleNamespace(wsgi=lambda: app)
    gunicorn_settings()["when_ready"](SimpleNamespace(app=loaded, LISTENERS=[listener]))
    gc.unfreeze()

    monkeypatch.setattr(app.jinja_env, "compile", None)
    open_page(app)
    assert in_process(app, "GET", "/docs", None, BROWSER).status == 200
    with app.app_context():
        assert "API key" in render_template("locked.html")


def test_looking_counts_no_row():
    """To load the page scores nothing."""
    app = create_app()
    open_page(app)
    assert in_process(app, "GET", "/drift").json["rows"] == 0


def test_metrics_port_is_named():
    """With METRICS_PORT the page says where the metrics are, and has no place for them."""
    answer, page = open_page(create_app(METRICS_PORT="9000"))
    assert b"port 9000 alone" in answer.body
    assert not [attributes for _, attributes in page.tags if attributes.get("id") == "drift"]


def test_many_features_have_no_sliders(tmp_path):
    """Beyond a hundred features a number has no slider, so that the page stays light."""
    wide = np.hstack([X] * 30)
    app = train_app(tmp_path, wide, X[:, 0], lambda: Ridge(alpha=1000))
    controls = [feature["data-control"] for feature in features_of(open_page(app)[1])]
    assert controls == ["slider"] * MAX_SLIDERS + ["number"] * (120 - MAX_SLIDERS)


@pytest.mark.parametrize("name", TRAINERS)
def test_page_fits_every_model(name):
    """The page has a control for each feature of any model, whose first values are a real row."""
    app = create_app(MODEL_PATH=str(model_file(name)))
    model = app.extensions["service"].model
    _, page = open_page(app)
    assert [feature["data-name"] for feature in features_of(page)] == model.features


def test_controls_follow_the_signature():
    """Numbers have sliders, categories lists; what may be missing can be."""
    _, page = open_page(create_app(MODEL_PATH=str(model_file("penguins"))))
    controls = {feature["data-name"]: feature["data-control"] for feature in features_of(page)}
    assert controls["bill_length_mm"] == "slider"
    assert controls["island"] == controls["sex"] == "list"
    options = [attributes["value"] for tag, attributes in page.tags if tag == "option"]
    assert {'"Biscoe"', '"female"', "null"} <= set(options)
    assert "missing" in page.texts


HOSTILE = "'><script>alert(1)</script>"


def test_names_are_escaped(tmp_path):
    """Names and labels of the model are text on the page, whatever is in them."""
    app = train_app(
        tmp_path,
        X,
        y,
        lambda: LogisticRegression(max_iter=1000),
        feature_names=[f"{HOSTILE}{index}" for index in range(4)],
        labels={value: f"{HOSTILE} {value}" for value in (0, 1, 2)},
        source=HOSTILE,
    )
    answer, page = open_page(app)
    assert b"<script>alert" not in answer.body
    assert [feature["data-name"] for feature in features_of(page)] == [
        f"{HOSTILE}{index}" for index in range(4)
    ]
    assert f"{HOSTILE} 0" in page.texts


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(max_iter=1000).fit(X, y),
        LinearSVC().fit(X, y),
        Ridge().fit(X, X[:, 0]),
        Ridge().fit(X, X[:, :2]),
        IsolationForest(n_estimators=5).fit(X),
    ],
    ids=["classes", "no probability", "number", "numbers", "outliers"],
)
def test_model_without_card_has_a_page(tmp_path, estimator):
    """Without a model card there is a plain number for each feature, and a note."""
    path = tmp_path / "model.pkl"
    joblib.dump(estimator, path)
    app = create_app(MODEL_PATH=str(path))
    answer, page = open_page(app)
    assert [feature["data-control"] for feature in features_of(page)] == ["number"] * 4
    assert b"there are no names" in answer.body


def test_feedback_is_in_drift():
    """`/drift` has the rows of feedback and their accuracy, None without any."""
    app = create_app()

    def feedback():
        return in_process(app, "GET", "/drift").json["feedback"]

    assert feedback() == {"rows": 0, "accuracy": None}
    body = b'{"prediction": [0, 1, 2, 2], "actual": [0, 1, 2, 1]}'
    assert in_process(app, "POST", "/feedback", body, JSON).status == 200
    assert feedback() == {"rows": 4, "accuracy": 0.75}

    app = create_app(MODEL_PATH=str(model_file("diabetes")))
    assert feedback() == {"rows": 0, "mean_absolute_error": None}
    body = b'{"prediction": [100, 200], "actual": [110, 220]}'
    assert in_process(app, "POST", "/feedback", body, JSON).status == 200
    assert feedback() == {"rows": 2, "mean_absolute_error": 15.0}

    app = create_app(MODEL_PATH=str(model_file("linnerud")))
    assert feedback() is None

"""The document says what the service does, and the page to try it stands on its own."""

import json
import re
import tomllib

import pytest
from jsonschema import Draft202012Validator, ValidationError

import serving
from app import create_app
from helpers import JSON, MODEL_FILE, ROOT, VERSION, in_process

APP = create_app()
DOCUMENT = in_process(APP, "GET", "/openapi.json").json
OPERATIONS = {
    f"{method.upper()} {path}": (method, path)
    for path, item in DOCUMENT["paths"].items()
    for method in item
}
POSTS = [name for name in OPERATIONS if name.startswith("POST")]
NAMED = {
    "model": "iris",
    "version": VERSION,
    "endpoint": "1",
    "deployed_model": "2",
}
# `file` is a parameter of two paths, each with assets of its own.
FILES = {"/docs/{file}": "swagger-ui.css", "/page/{file}": "page.js"}


def fill_path(path):
    return path.format(**NAMED, file=FILES.get(path))


def test_committed_document_is_current():
    """docs/openapi.json is what /openapi.json answers."""
    shipped = create_app(MODEL_PATH=str(ROOT / "model.pkl"))
    served = in_process(shipped, "GET", "/openapi.json").json
    committed = json.loads((ROOT / "docs/openapi.json").read_text())
    assert committed == served, "make openapi writes it"


def test_document_has_every_route():
    """The document has each route and no other."""
    rules = APP.url_map.iter_rules()
    routes = {
        f"{method} {rule.rule}" for rule in rules for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert OPERATIONS.keys() == {re.sub("<(.+?)>", r"{\1}", route) for route in routes}
    ids = [DOCUMENT["paths"][path][method]["operationId"] for method, path in OPERATIONS.values()]
    assert len(set(ids)) == len(ids)


def assert_conforms(instance, schema):
    Draft202012Validator(schema | {"components": DOCUMENT["components"]}).validate(instance)


@pytest.mark.parametrize("name", OPERATIONS)
def test_examples_and_responses_conform(name):
    """Each example conforms to its schema, and so does its response."""
    method, path = OPERATIONS[name]
    operation = DOCUMENT["paths"][path][method]
    told = operation["responses"]["200"]["content"]
    for mimetype, content in operation.get("requestBody", {"content": {None: None}})[
        "content"
    ].items():
        body = None
        headers = {}
        if mimetype:
            assert_conforms(content["example"], content["schema"])
            body = content["example"]
            if not isinstance(body, str):
                body = json.dumps(body)
            headers = {"Content-Type": mimetype}
        answer = in_process(APP, method.upper(), fill_path(path), body, headers)
        assert answer.status == 200
        kind = answer.headers["Content-Type"].partition(";")[0]
        assert kind in told or "*/*" in told
        if kind == JSON["Content-Type"]:
            assert_conforms(answer.json, told[kind]["schema"])


@pytest.mark.parametrize("name", POSTS)
def test_error_responses_conform(name):
    """Each error response conforms to its schema."""
    _, path = OPERATIONS[name]
    responses = DOCUMENT["paths"][path]["post"]["responses"]
    for status, body, headers in [
        (400, b"{", JSON),
        (413, b" " * 1_048_577, JSON),
        (415, b"{}", {"Content-Type": "a/b"}),
    ]:
        answer = in_process(APP, "POST", fill_path(path), body, headers)
        assert answer.status == status
        assert_conforms(
            answer.json, responses[str(status)]["content"]["application/json"]["schema"]
        )


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [[]],
        [[1, 2, 3]],
        [[1, 2, 3, 4, 5]],
        [[1, 2, 3, "4"]],
        [1, 2, 3],
        [[1, 2, 3, 4], 1],
        [{"x": 1}],
        [[1, 2, 3, 1e39]],
    ],
)
@pytest.mark.parametrize(
    ("path", "member"), [("/predict", "features"), ("/v1/models/{model}:predict", "instances")]
)
def test_schema_rejects_what_service_rejects(path, member, rows):
    """Rows that the service rejects do not conform to the schema."""
    schema = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert_conforms({member: [[1, 2, 3, 4]]}, schema)
    with pytest.raises(ValidationError):
        assert_conforms({member: rows}, schema)
    assert in_process(APP, "POST", fill_path(path), json.dumps({member: rows}), JSON).status == 400


def test_document_describes_api_keys():
    """With API keys the document needs a key and says so; without them no response is 401."""
    app = create_app(API_KEYS="one")
    assert in_process(app, "GET", "/openapi.json").status == 401
    document = in_process(app, "GET", "/openapi.json", None, {"Authorization": "Bearer one"}).json
    assert document["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"] == {
        "key": {"type": "http", "scheme": "bearer"}
    }
    assert "401" in document["paths"]["/predict"]["post"]["responses"]
    assert "401" not in document["paths"]["/healthz"]["get"]["responses"]

    assert "security" not in DOCUMENT
    for method, path in OPERATIONS.values():
        assert "401" not in DOCUMENT["paths"][path][method]["responses"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_example_is_the_response(name):
    """The example of a response is what the service answers to the example of the request."""
    method, path = OPERATIONS[name]
    operation = DOCUMENT["paths"][path][method]
    told = operation["responses"]["200"]["content"].get("application/json", {})
    if name in ("GET /openapi.json", "GET /page/{file}", "GET /docs/{file}"):
        assert "example" not in told
        return
    if not told:
        return

    assert_conforms(told["example"], told["schema"])
    if name == "GET /drift":  # it changes with each row
        assert told["example"].keys() == in_process(APP, "GET", "/drift").json.keys()
        return
    body = None
    if "requestBody" in operation:
        body = json.dumps(operation["requestBody"]["content"]["application/json"]["example"])
    assert told["example"] == in_process(APP, method.upper(), fill_path(path), body, JSON).json


def test_parameters_have_examples():
    """Each parameter of a path has an example, which a form can send as it is."""
    for method, path in OPERATIONS.values():
        for parameter in DOCUMENT["paths"][path][method]["parameters"]:
            values = parameter["schema"].get("enum", [parameter["example"]])
            assert parameter["example"] == values[0]


def test_examples_are_not_counted():
    """To build the document counts no row and no request of the example requests."""
    app = create_app()
    before = in_process(app, "GET", "/metrics").body
    in_process(app, "GET", "/openapi.json")
    after = in_process(app, "GET", "/metrics").body
    rows = [line for line in after.splitlines() if line.startswith((b"rows_total", b"feedback"))]
    assert rows and set(rows) <= set(before.splitlines())
    posts = [line for line in after.splitlines() if b'method="POST"' in line]
    assert posts and set(posts) <= set(before.splitlines())


def test_views_without_description_are_not_called():
    """A view of the owner, which may do anything, is not called for an example."""
    app = create_app()
    calls = []

    @app.get("/mail")
    def send_mail():
        calls.append("mail")
        return {}

    assert "/mail" in in_process(app, "GET", "/openapi.json").json["paths"]
    assert calls == []


def test_description_has_facts_of_the_model():
    """The description names version, estimator, data, classes and metric of the model card."""
    card = json.loads(MODEL_FILE.with_suffix(".json").read_text())
    description = DOCUMENT["info"]["description"]
    for fact in (VERSION, card["estimator"], card["data"]["source"], "setosa", "150 rows"):
        assert fact in description


def test_admin_paths_are_left_out():
    """With METRICS_PORT the admin paths are not in the document."""
    paths = in_process(create_app(METRICS_PORT="9000"), "GET", "/openapi.json").json["paths"]
    assert DOCUMENT["paths"].keys() - paths.keys() == {"/metrics", "/drift"}


def test_versions_agree():
    """The document has the project's version."""
    assert DOCUMENT["info"]["title"] == "iris"
    assert DOCUMENT["info"]["version"] == serving.__version__
    assert (
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        == serving.__version__
    )


def test_ordinary_views_are_described():
    """A Flask view without a description is in the document and in the index."""
    app = create_app()

    @app.get("/squares/<int:number>")
    def square(number):
        """Square of a number."""
        return {"square": number * number}

    document = in_process(app, "GET", "/openapi.json").json
    operation = document["paths"]["/squares/{number}"]["get"]
    assert operation["summary"] == "Square of a number"
    assert [parameter["name"] for parameter in operation["parameters"]] == ["number"]

    index = in_process(app, "GET", "/").json
    route = {"method": "GET", "path": "/squares/<int:number>", "summary": "Square of a number"}
    assert route in index["routes"]
    assert in_process(app, "GET", "/squares/3").json == {"square": 9}

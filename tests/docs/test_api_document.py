"""docs/api.md: the routes and the limits, compared with the code."""

import subprocess

from app import create_app
from documentation import DOCUMENTS, FENCE, quoted, section, table
from helpers import EXAMPLE_REQUEST
from manifests import gunicorn_settings
from serving.server.request_reader import MAX_HEADER_BYTES

API = DOCUMENTS["api.md"]


def test_tables_list_every_route():
    """The two tables of routes have every route, once."""
    routes = []
    for rule in create_app().url_map.iter_rules():
        routes += [f"{method} {rule.rule}" for method in rule.methods - {"HEAD", "OPTIONS"}]

    rows = table("api.md", "Our own routes") + table("api.md", "Platform protocols")
    assert sorted(name for row in rows for name in quoted(row[0])) == sorted(routes)


def test_limits_match_server():
    """The time and size limits are those of gunicorn and of the worker."""
    timeout = gunicorn_settings()["timeout"]
    assert f"| No byte of the request arrived for {timeout} s |" in API
    kib = MAX_HEADER_BYTES // 1024
    fields = gunicorn_settings()["limit_request_fields"]
    assert f"More than {kib} KiB or {fields} fields of headers" in API


def test_quotes_of_windows():
    """The body that is shown for `cmd` is the example, quoted as Windows' programs read it."""
    assert f"-d {subprocess.list2cmdline([EXAMPLE_REQUEST.decode()])}" in API


def test_view_of_your_own_is_served(serve, checkout):
    """The view of the document answers, needs a key, and is in the metrics and in /openapi.json."""
    (_, view), (_, registration) = FENCE.findall(section("api.md", "Views of your own"))
    (checkout / "serving/api/about.py").write_text(view)
    import_line, register_line = filter(None, registration.splitlines())
    program = (checkout / "app.py").read_text()
    program = program.replace("    from serving.api import routes", import_line)
    known_line = "    app.register_blueprint(routes.blueprint)\n"
    program = program.replace(known_line, f"{known_line}{register_line}\n")
    (checkout / "app.py").write_text(program)

    service = serve(checkout, API_KEYS="key")
    assert service.call("GET", "/about").status == 401
    key = {"Authorization": "Bearer key"}
    answer = service.call("GET", "/about", None, key).json
    assert set(answer) == {"name", "version"}
    operation = service.call("GET", "/openapi.json", None, key).json["paths"]["/about"]["get"]
    assert operation["responses"]["200"]["content"]["application/json"]["example"] == answer
    assert 'route="/about"' in service.call("GET", "/metrics", None, key).body.decode()

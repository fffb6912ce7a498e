"""docs/api.md: the routes and the limits, compared with the code."""

import subprocess

from app import create_app
from documentation import DOCUMENTS, quoted, table
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

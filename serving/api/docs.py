"""The OpenAPI document and a page to try it, without any resource from elsewhere."""

from pathlib import Path
from typing import Any

import flask_swagger_ui
from flask import Blueprint, Response, current_app, send_from_directory
from werkzeug.exceptions import NotFound

from serving.api.messages import json_response
from serving.api.openapi import build_document
from serving.api.operations import describe
from serving.api.service import current_service

SWAGGER_UI_DIST = Path(flask_swagger_ui.__file__).parent / "dist"
INIT_SCRIPT = "start.js"
ASSETS = ["favicon-32x32.png", INIT_SCRIPT, "swagger-ui-bundle.js", "swagger-ui.css"]
DOCS_HTML = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
"""
DOCS_INIT_JS = (
    'SwaggerUIBundle({url: "openapi.json", dom_id: "#page", '
    "tryItOutEnabled: true, validatorUrl: null})\n"
)
# React sets styles by script, which the policy does not restrict; the icons of Swagger UI are data
# URLs in its style sheet.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

blueprint = Blueprint("docs", __name__)


@blueprint.get("/openapi.json")
@describe("Documentation", response=dict[str, Any])
def openapi() -> Response:
    """OpenAPI document of every route."""
    # The object itself, and not Flask's proxy of it, has the type that build_document takes.
    return json_response(build_document(current_app._get_current_object()))  # type: ignore[attr-defined]


@blueprint.get("/docs")
@describe("Documentation", media_types=("text/html",))
def docs_page() -> Response:
    """Page to try the routes in a browser."""
    service = current_service()
    html = DOCS_HTML.format(title=f"{service.model_name} {service.model.version}")
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    return Response(html, mimetype="text/html", headers=headers)


@blueprint.get("/docs/<file>")
@describe("Documentation", media_types=("*/*",), path_values={"file": ASSETS})
def docs_asset(file: str) -> Response:
    """Script, style sheet or icon of the page."""
    if file not in ASSETS:
        raise NotFound
    if file == INIT_SCRIPT:
        return Response(DOCS_INIT_JS, mimetype="text/javascript")
    return send_from_directory(SWAGGER_UI_DIST, file)

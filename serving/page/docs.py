"""The OpenAPI document and a page to try it, without any resource from elsewhere."""

from pathlib import Path
from typing import Any

import flask_swagger_ui
from flask import Blueprint, Flask, Response, current_app, render_template, send_from_directory
from werkzeug.exceptions import NotFound

from serving.api.messages import HTML, json_response
from serving.api.openapi import build_document
from serving.api.operations import describe
from serving.api.service import current_service

SWAGGER_UI_DIST = Path(flask_swagger_ui.__file__).parent / "dist"
DOCUMENT = "openapi_document"  # among the extensions of the application
ASSETS = ["swagger-ui-bundle.js", "swagger-ui.css"]
# React sets styles by script, which the policy does not restrict; the icons of Swagger UI are data
# URLs in its style sheet.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

blueprint = Blueprint("docs", __name__, template_folder="templates")


@blueprint.get("/openapi.json")
@describe("Documentation", response=dict[str, Any], has_example=False)
def openapi() -> Response:
    """OpenAPI document of every route."""
    # The object itself, and not Flask's proxy of it, has the type that build_document takes.
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    # Built once: its examples take a prediction for each route of a platform.
    if DOCUMENT not in app.extensions:
        app.extensions[DOCUMENT] = build_document(app)
    return json_response(app.extensions[DOCUMENT])


@blueprint.get("/docs")
@describe("Documentation", media_types=(HTML,), is_open=True)
def docs_page() -> Response:
    """Page to try the routes in a browser."""
    service = current_service()
    needs_key = bool(service.settings.api_keys)
    title = f"{service.model_name} {service.model.version}"
    if needs_key:  # without it the page shows nothing of the model
        title = "API"
    html = render_template("docs.html", title=title, needs_key=needs_key)
    return Response(
        html, mimetype=HTML, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    )


@blueprint.get("/docs/<file>")
@describe("Documentation", media_types=("*/*",), path_values={"file": ASSETS}, is_open=True)
def docs_asset(file: str) -> Response:
    """Script or style sheet of Swagger UI."""
    if file not in ASSETS:
        raise NotFound
    return send_from_directory(SWAGGER_UI_DIST, file)

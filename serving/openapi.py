"""The OpenAPI 3.1 document, from the types that validate and the routes there are, and a page to try it."""

import re
from http import HTTPStatus
from pathlib import Path
from typing import Any, get_args

import flask_swagger_ui
import msgspec
from flask import Blueprint, Response, current_app, send_from_directory
from msgspec import UNSET, UnsetType
from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule

from serving import __version__
from serving.oip import Described, InferRequest, InferResponse
from serving.platforms import BINARY, PROBES, contracts, failure
from serving.wire import CSV, JSON, answer, public_routes, served

DIST = Path(flask_swagger_ui.__file__).parent / "dist"
PAGE = """<!doctype html>
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
START = 'SwaggerUIBundle({url: "openapi.json", dom_id: "#page", tryItOutEnabled: true, validatorUrl: null})\n'
# React sets styles by script, which a policy does not see; Swagger UI's icons are data in its style sheet.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ASSETS = ["favicon-32x32.png", "start.js", "swagger-ui-bundle.js", "swagger-ui.css"]

docs = Blueprint("docs", __name__)


@docs.get("/openapi.json")
def openapi() -> Response:
    """Describe every route, as OpenAPI."""
    return answer(document())


@docs.get("/docs")
def page() -> Response:
    """Try the routes in a browser."""
    text = PAGE.format(title=f"{contracts().name} {served().version}")
    return Response(text, mimetype="text/html", headers={"Content-Security-Policy": POLICY})


@docs.get("/docs/<file>")
def asset(file: str) -> Response:
    """Return a part of that page."""
    if file not in ASSETS:
        raise NotFound
    return Response(START, mimetype="text/javascript") if file == "start.js" else send_from_directory(DIST, file)


Values = list[bool | float | str | list[float]]
# What each view tells in JSON: members and their types, or a type.
TOLD: dict[str, Any] = {
    "predict": {"prediction": Values, "label": list[str] | UnsetType, "probability": list[list[float]] | UnsetType},
    "feedback": {"counted": int},
    "index": {"status": str, "model": dict[str, Any], "routes": list[dict[str, str]]},
    "healthz": {"status": str},
    "readyz": {"status": str, "reload": str | UnsetType},
    "drift": dict[str, Any],
    "openapi": dict[str, Any],
    "server": {"name": str, "version": str, "extensions": list[str]},
    "live": {"live": bool},
    "ready": {"live": bool, "ready": bool},
    "metadata": {
        "name": str,
        "versions": list[str],
        "platform": str,
        "inputs": list[Described],
        "outputs": list[Described],
    },
    "model_ready": {"name": str, "ready": bool},
    "infer": InferResponse,
    "models": {"models": list[str]},
    "status": {"name": str, "ready": bool, "model_version_status": list[dict[str, Any]]},
    "instances": {"predictions": Values},
    "invocations": dict[str, Values] | Values,
    "execution_parameters": {"MaxConcurrentTransforms": int, "BatchStrategy": str, "MaxPayloadInMB": int},
    "score": Values,
}
PLAIN = "text/plain"
OTHER = {"metrics": PLAIN, "page": "text/html", "asset": "*/*", "ping": PLAIN, "version": PLAIN}
OTHER |= {"invocations": CSV, "infer": BINARY}
READY = {"readyz", "ready", "model_ready", "status", "ping"}  # the views that try the model


def document() -> dict[str, Any]:
    """Return the OpenAPI document of the service."""
    model, extensions = served(), current_app.extensions
    row = model.card.reference[0].features if model.card else [0.0] * model.n_features
    tensor = {"name": "features", "shape": [1, len(row)], "datatype": "FP64", "data": row}
    truth: Any = extensions["feedback"].classes[:1]
    # Of each view that takes a body, its type and an example.
    taken = {
        "predict": (extensions["predict"].request, {"features": row}),
        "feedback": (extensions["feedback"].request, {"prediction": truth, "actual": truth}),
        "infer": (InferRequest, {"inputs": [tensor]}),
        "instances": (contracts().instances.request, {"instances": [row]}),
        "invocations": (contracts().invocations.request, {"instances": [row]}),
        "score": (contracts().score.request, {"data": [row]}),
    }
    types = [kind for kind, _ in taken.values()] + [_type(name, kind) for name, kind in TOLD.items()]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    bodies: dict[str, Any] = {
        name: {JSON: {"schema": schema, "example": example}}
        for (name, (_, example)), schema in zip(taken.items(), schemas, strict=False)
    }
    number = "-?[0-9]{1,9}(\\.[0-9]{1,9})?"
    line = f"{number}(,{number}){{{len(row) - 1}}}"
    text = {"type": "string", "pattern": f"^{line}(\\n{line}){{0,9}}$"}
    bodies["invocations"][CSV] = {"schema": text, "example": ",".join(map(str, row))}
    answers: dict[str, Any] = {
        name: {JSON: {"schema": schema}} for name, schema in zip(TOLD, schemas[len(taken) :], strict=True)
    }
    for name, mimetype in OTHER.items():
        answers.setdefault(name, {})[mimetype] = {}

    paths: dict[str, Any] = {}
    for rule, method in public_routes():
        name = rule.endpoint.partition(".")[2]
        path = paths.setdefault(re.sub("<(.+?)>", r"{\1}", rule.rule), {})
        path.setdefault(method.lower(), operation(rule, method, bodies.get(name), answers[name]))
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": contracts().name, "version": __version__},
        "paths": paths,
        "components": {"schemas": components},
    }
    if extensions["api_keys"]:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
    return found


def operation(rule: Rule, method: str, takes: Any, tells: Any) -> dict[str, Any]:
    """Return what is said of one method of one path."""
    what, _, whose = (current_app.view_functions[rule.endpoint].__doc__ or "").strip().rstrip(".").partition(" (")
    kinds: dict[str, Any] = {"model": {"enum": [contracts().name]}, "version": {"enum": [served().version]}}
    kinds["file"], any_name = {"enum": ASSETS}, {"pattern": "^[^/:]+$"}
    members = {member: {"type": "string"} for member in failure(rule.rule, 400, "")}
    wrong = {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}
    statuses = {
        400: takes,
        401: rule.rule not in PROBES or method == "POST",
        404: rule.arguments,
        406: takes and whose,
        413: takes,
        415: takes,
        431: rule.rule == "/score",
        503: rule.endpoint.partition(".")[2] in READY,
    }
    responses = {
        str(status): {"description": HTTPStatus(status).phrase, "content": {JSON: {"schema": wrong}}}
        for status, may_be in statuses.items()
        if may_be
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"} | kinds.get(name, any_name)}
        for name in sorted(rule.arguments)
    ]
    return {
        "operationId": re.sub(r"\W+", "_", f"{method}{rule.rule}").strip("_").lower(),
        "summary": what,
        "tags": [re.split("[,)]", whose)[0] or "Our own"],
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": tells}} | responses,
    } | ({"requestBody": {"required": True, "content": takes}} if takes else {})


def _type(name: str, told: Any) -> Any:
    if not isinstance(told, dict):
        return told
    fields = [(m, kind, UNSET) if UnsetType in get_args(kind) else (m, kind) for m, kind in told.items()]
    return msgspec.defstruct(f"{name}_answer", fields, forbid_unknown_fields=True)

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
from serving.api.http import CSV, JSON, current_model, iter_public_routes, json_response
from serving.protocols import PROTOCOLS, error_body
from serving.protocols.azure_ml import build_score_decoder
from serving.protocols.decoders import current_decoder
from serving.protocols.kserve_v1 import build_instances_decoder
from serving.protocols.model_path import model_name
from serving.protocols.open_inference import OCTET_STREAM
from serving.protocols.open_inference_codec import InferRequest, InferResponse
from serving.protocols.open_inference_tensors import TensorMetadata
from serving.protocols.sagemaker_mlflow import build_invocations_decoder

SWAGGER_UI_DIST = Path(flask_swagger_ui.__file__).parent / "dist"
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
DOCS_INIT_JS = 'SwaggerUIBundle({url: "openapi.json", dom_id: "#page", tryItOutEnabled: true, validatorUrl: null})\n'
# React sets styles by script, which a policy does not see; Swagger UI's icons are data in its style sheet.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SWAGGER_UI_ASSETS = ["favicon-32x32.png", "start.js", "swagger-ui-bundle.js", "swagger-ui.css"]

docs = Blueprint("docs", __name__)


@docs.get("/openapi.json")
def openapi() -> Response:
    """Describe every route, as OpenAPI."""
    return json_response(build_document())


@docs.get("/docs")
def page() -> Response:
    """Try the routes in a browser."""
    text = DOCS_HTML.format(title=f"{model_name(current_model())} {current_model().version}")
    return Response(
        text, mimetype="text/html", headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    )


@docs.get("/docs/<file>")
def asset(file: str) -> Response:
    """Return a part of that page."""
    if file not in SWAGGER_UI_ASSETS:
        raise NotFound
    return (
        Response(DOCS_INIT_JS, mimetype="text/javascript")
        if file == "start.js"
        else send_from_directory(SWAGGER_UI_DIST, file)
    )


Values = list[bool | float | str | list[float]]
# What each view tells in JSON: members and their types, or a type.
RESPONSE_TYPES: dict[str, Any] = {
    "predict": {
        "prediction": Values,
        "label": list[str] | UnsetType,
        "probability": list[list[float]] | UnsetType,
    },
    "feedback": {"counted": int},
    "index": {"status": str, "model": dict[str, Any], "routes": list[dict[str, str]]},
    "healthz": {"status": str},
    "readyz": {"status": str, "reload": str | UnsetType},
    "drift": dict[str, Any],
    "openapi": dict[str, Any],
    "server_metadata": {"name": str, "version": str, "extensions": list[str]},
    "server_live": {"live": bool},
    "server_ready": {"live": bool, "ready": bool},
    "model_metadata": {
        "name": str,
        "versions": list[str],
        "platform": str,
        "inputs": list[TensorMetadata],
        "outputs": list[TensorMetadata],
    },
    "model_ready": {"name": str, "ready": bool},
    "model_infer": InferResponse,
    "list_models": {"models": list[str]},
    "model_status": {"name": str, "ready": bool, "model_version_status": list[dict[str, Any]]},
    "predict_instances": {"predictions": Values},
    "vertex_ai_predict": {"predictions": Values},
    "invocations": dict[str, Values] | Values,
    "execution_parameters": {
        "MaxConcurrentTransforms": int,
        "BatchStrategy": str,
        "MaxPayloadInMB": int,
    },
    "azure_score": Values,
}
TEXT_PLAIN = "text/plain"
NON_JSON_RESPONSES = {
    "metrics": TEXT_PLAIN,
    "page": "text/html",
    "asset": "*/*",
    "readiness": TEXT_PLAIN,
    "vertex_ai_readiness": TEXT_PLAIN,
    "model_version": TEXT_PLAIN,
}
NON_JSON_RESPONSES |= {"invocations": CSV, "model_infer": OCTET_STREAM}
READINESS_VIEWS = {
    "readyz",
    "server_ready",
    "model_ready",
    "model_status",
    "readiness",
    "vertex_ai_readiness",
}  # the views that try the model


def build_document() -> dict[str, Any]:
    """Return the OpenAPI document of the service."""
    model, extensions = current_model(), current_app.extensions
    row = model.card.reference[0].features if model.card else [0.0] * model.n_features
    tensor = {"name": "features", "shape": [1, len(row)], "datatype": "FP64", "data": row}
    truth: Any = extensions["feedback"].classes[:1]
    instances = (current_decoder(build_instances_decoder).request, {"instances": [row]})
    # Of each view that takes a body, its type and an example.
    request_bodies = {
        "predict": (extensions["predict"].request, {"features": row}),
        "feedback": (extensions["feedback"].request, {"prediction": truth, "actual": truth}),
        "model_infer": (InferRequest, {"inputs": [tensor]}),
        "predict_instances": instances,
        "vertex_ai_predict": instances,
        "invocations": (current_decoder(build_invocations_decoder).request, {"instances": [row]}),
        "azure_score": (current_decoder(build_score_decoder).request, {"data": [row]}),
    }
    types = [kind for kind, _ in request_bodies.values()] + [
        _response_type(name, kind) for name, kind in RESPONSE_TYPES.items()
    ]
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    bodies: dict[str, Any] = {
        name: {JSON: {"schema": schema, "example": example}}
        for (name, (_, example)), schema in zip(request_bodies.items(), schemas, strict=False)
    }
    number = "-?[0-9]{1,9}(\\.[0-9]{1,9})?"
    line = f"{number}(,{number}){{{len(row) - 1}}}"
    text = {"type": "string", "pattern": f"^{line}(\\n{line}){{0,9}}$"}
    bodies["invocations"][CSV] = {"schema": text, "example": ",".join(map(str, row))}
    responses: dict[str, Any] = {
        name: {JSON: {"schema": schema}}
        for name, schema in zip(RESPONSE_TYPES, schemas[len(request_bodies) :], strict=True)
    }
    for name, mimetype in NON_JSON_RESPONSES.items():
        responses.setdefault(name, {})[mimetype] = {}

    paths: dict[str, Any] = {}
    for rule, method in iter_public_routes():
        name = rule.endpoint.partition(".")[2]
        path = paths.setdefault(re.sub("<(.+?)>", r"{\1}", rule.rule), {})
        path.setdefault(
            method.lower(), build_operation(rule, method, bodies.get(name), responses[name])
        )
    result: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": model_name(current_model()), "version": __version__},
        "paths": paths,
        "components": {"schemas": components},
    }
    if extensions["api_keys"]:
        result["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        result["security"] = [{"key": []}]
    return result


def build_operation(rule: Rule, method: str, takes: Any, tells: Any) -> dict[str, Any]:
    """Return what is said of one method of one path."""
    summary = (current_app.view_functions[rule.endpoint].__doc__ or "").strip().rstrip(".")
    titles = {protocol.blueprint.name: protocol.title for protocol in PROTOCOLS}
    title = titles.get(rule.endpoint.partition(".")[0])
    kinds: dict[str, Any] = {
        "model": {"enum": [model_name(current_model())]},
        "version": {"enum": [current_model().version]},
    }
    kinds["file"], any_name = {"enum": SWAGGER_UI_ASSETS}, {"pattern": "^[^/:]+$"}
    members = {member: {"type": "string"} for member in error_body(rule.rule, 400, "")}
    error_schema = {
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }
    statuses = {
        400: takes,
        401: rule.rule not in current_app.extensions["probes"] or method == "POST",
        404: rule.arguments,
        406: takes and title,
        413: takes,
        415: takes,
        431: rule.rule == "/score",
        503: rule.endpoint.partition(".")[2] in READINESS_VIEWS,
    }
    responses = {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {JSON: {"schema": error_schema}},
        }
        for status, may_be in statuses.items()
        if may_be
    }
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"} | kinds.get(name, any_name),
        }
        for name in sorted(rule.arguments)
    ]
    return {
        "operationId": re.sub(r"\W+", "_", f"{method}{rule.rule}").strip("_").lower(),
        "summary": summary,
        "tags": [title or "Our own"],
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": tells}} | responses,
    } | ({"requestBody": {"required": True, "content": takes}} if takes else {})


def _response_type(name: str, told: Any) -> Any:
    if not isinstance(told, dict):
        return told
    fields = [
        (m, kind, UNSET) if UnsetType in get_args(kind) else (m, kind) for m, kind in told.items()
    ]
    return msgspec.defstruct(f"{name}_answer", fields, forbid_unknown_fields=True)

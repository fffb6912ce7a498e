"""The OpenAPI 3.1 document, from the routes, the types that decode, and the model card."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Flask
from werkzeug.routing import Rule

from serving import __version__
from serving.api.examples import ExampleResponses
from serving.api.messages import CSV, JSON, JSON_LINES
from serving.api.operations import Operation, operation_of, summary_of
from serving.api.routing import iter_public_routes
from serving.api.rows import RowDecoder
from serving.api.service import Service, service_of
from serving.model.card import METRIC_NAMES
from serving.model.model import Model

LINE_NUMBER = "-?(0|[1-9][0-9]{0,8})(\\.[0-9]{1,20})?(e-[0-9]{2})?"
MAX_EXAMPLE_LINES = 10
MAX_LISTED_CLASSES = 20
LINE_BRACKETS = {CSV: ("", ""), JSON_LINES: ("\\[", "\\]")}
CONVERTED_NAME = re.compile("<(?:[^<>]*:)?([^<>:]+)>")  # <name> or <converter:name>
ANY_NAME = {"pattern": "^[^/:]+$"}

Schema = dict[str, Any]


def build_document(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI document of the service."""
    service = service_of(app)
    operations = {name: operation_of(view) for name, view in app.view_functions.items()}
    schemas = TypeSchemas(service, list(operations.values()))
    examples = ExampleResponses(app)

    paths: dict[str, Any] = {}
    for rule, method in iter_public_routes(app.url_map.iter_rules(), service.settings.metrics_port):
        view = app.view_functions[rule.endpoint]
        item = paths.setdefault(CONVERTED_NAME.sub(r"{\1}", rule.rule), {})
        if method.lower() not in item:
            item[method.lower()] = build_operation(service, rule, method, view, schemas, examples)

    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": service.model_name,
            "version": __version__,
            "description": describe_model(service.model),
        },
        "paths": paths,
        "components": {"schemas": schemas.components},
    }
    if service.settings.api_keys:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def describe_model(model: Model) -> str:
    """Return the facts of the model in a few lines of Markdown."""
    card = model.card
    if card is None:
        estimator = type(model.estimator).__name__
        return f"Version `{model.version}`: `{estimator}` of {model.n_features} features."

    trained = f"Trained on {card.rows} rows of {len(card.features)} features"
    if card.data.get("source"):
        trained += f": {card.data['source']}"
    lines = [f"Version `{model.version}`: `{card.estimator}`.", f"{trained}."]
    if 0 < len(card.classes) <= MAX_LISTED_CLASSES:
        labels = [class_info.label for class_info in card.classes]
        lines.append(f"Classes: {', '.join(labels)}.")
    metrics = card.metrics.get("cross_validation", {})
    for key, name in METRIC_NAMES.items():
        if key in metrics:
            lines.append(f"Cross-validated {name}: {metrics[key]:.4g}.")
    return "\n\n".join(lines)


class TypeSchemas:
    """The JSON Schemas of all request and response types, with shared components."""

    def __init__(self, service: Service, operations: list[Operation]) -> None:
        self.service = service
        types = []
        for operation in operations:
            if operation.decoder:
                types.append(service.decoder(operation.decoder).request)
            if operation.response is not None:
                types.append(operation.response)

        schemas, self.components = msgspec.json.schema_components(
            types, ref_template="#/components/schemas/{name}"
        )
        self._by_type = dict(zip(map(id, types), schemas, strict=True))

    def request_content(self, operation: Operation) -> Schema | None:
        """Return the schema and an example of the request body for each of its media types."""
        if operation.decoder is None:
            return None
        decoder = self.service.decoder(operation.decoder)
        content = {}
        for mimetype, example in decoder.examples().items():
            schema = self._by_type[id(decoder.request)]
            if mimetype in LINE_BRACKETS:
                schema = lines_schema(self.service.row_decoder, mimetype)
            content[mimetype] = {"schema": schema, "example": example}
        return content

    def response_content(self, operation: Operation) -> Schema:
        """Return the schema of the response for each of its media types."""
        content: Schema = {mimetype: {} for mimetype in operation.media_types}
        if operation.response is not None:
            content[JSON] = {"schema": self._by_type[id(operation.response)]}
        return content


def build_operation(
    service: Service,
    rule: Rule,
    method: str,
    view: Callable[..., Any],
    schemas: TypeSchemas,
    examples: ExampleResponses,
) -> Schema:
    """Return the description of one method of one path."""
    operation = operation_of(view)
    request_content = schemas.request_content(operation)
    error_schema = build_error_schema(service, rule.rule)

    parameters = [path_parameter(service, operation, name) for name in sorted(rule.arguments)]

    response_content = schemas.response_content(operation)
    path_values = {item["name"]: item["example"] for item in parameters if "example" in item}
    example = examples.call(rule, method, path_values)
    if example is not None:
        response_content[JSON]["example"] = example
    responses = {"200": {"description": "OK", "content": response_content}}
    for status in error_statuses(service, rule, method, operation):
        description = HTTPStatus(status).phrase
        content = {JSON: {"schema": error_schema}}
        responses[str(status)] = {"description": description, "content": content}

    described: Schema = {
        "operationId": re.sub(r"\W+", "_", f"{method}{rule.rule}").strip("_").lower(),
        "summary": summary_of(view),
        "tags": [operation.tag],
        "parameters": parameters,
        "responses": responses,
    }
    if request_content:
        described["requestBody"] = {"required": True, "content": request_content}
    return described


def error_statuses(service: Service, rule: Rule, method: str, operation: Operation) -> list[int]:
    """Return the error statuses of one method of one path, in ascending order."""
    statuses = set(operation.error_statuses)
    if operation.decoder:
        statuses |= {400, 413, 415}
    if rule.rule not in service.open_paths or method == "POST":
        statuses.add(401)
    if not service.settings.api_keys:
        statuses.discard(401)
    if rule.arguments:
        statuses.add(404)
    return sorted(statuses)


def build_error_schema(service: Service, path: str) -> Schema:
    """Return the schema of the error body at `path`, whose members are all strings."""
    members = service.error_body(path, 400, "")
    return {
        "type": "object",
        "properties": {member: {"type": "string"} for member in members},
        "required": list(members),
        "additionalProperties": False,
    }


def path_parameter(service: Service, operation: Operation, name: str) -> Schema:
    """Return the description of one parameter in a path."""
    values = {
        "model": [service.model_name],
        "version": [service.model.version],
        **operation.path_values,
    }
    parameter: Schema = {"name": name, "in": "path", "required": True}
    if name in values:
        # A form has the example, so that it can be sent as it is.
        schema = {"type": "string", "enum": values[name]}
        return parameter | {"schema": schema, "example": values[name][0]}

    parameter["schema"] = {"type": "string", **ANY_NAME}
    if name in operation.path_examples:
        parameter["example"] = operation.path_examples[name]
    return parameter


def lines_schema(row_decoder: RowDecoder, mimetype: str) -> Schema:
    """Return the schema of lines of rows without a header; for rows of numbers it is a pattern."""
    if not row_decoder.is_plain_numbers:
        return {"type": "string"}
    start, end = LINE_BRACKETS[mimetype]
    line = f"{start}{LINE_NUMBER}(,{LINE_NUMBER}){{{row_decoder.width - 1}}}{end}"
    more_lines = f"(\\n{line}){{0,{MAX_EXAMPLE_LINES - 1}}}"
    return {"type": "string", "pattern": f"^{line}{more_lines}$"}

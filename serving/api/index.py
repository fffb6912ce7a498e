"""The index of `GET /`: the model and every route."""

from typing import Any

from flask import current_app

from serving.api.messages import ResponseBody
from serving.api.operations import summary_of
from serving.api.routing import iter_public_routes
from serving.api.service import current_service


class IndexResponse(ResponseBody):
    """The model and the routes of the service."""

    status: str
    model: dict[str, Any]
    routes: list[dict[str, str]]


def describe_index() -> IndexResponse:
    """Return the model and the routes of the service."""
    service = current_service()
    model = service.model

    routes = []
    rules = current_app.url_map.iter_rules()
    for rule, method in iter_public_routes(rules, service.settings.metrics_port):
        summary = summary_of(current_app.view_functions[rule.endpoint])
        routes.append({"method": method, "path": rule.rule, "summary": summary})

    model_info = {
        "name": model.card.name if model.card else None,
        "version": model.version,
        "features": model.features,
        "classes": list(model.labels.values()),
        "prediction_plan": model.plan.name if model.plan else None,
    }
    return IndexResponse("alive", model_info, routes)

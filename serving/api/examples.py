"""Examples of responses for the OpenAPI document: what the views return for the example requests.

The views are called without the hooks of the application, so that nothing is logged or counted as
a request, and with counters of their own, so that no row is counted.
"""

import copy
import json
from dataclasses import replace
from typing import Any

from flask import Flask, Response
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule

from serving.api.messages import JSON
from serving.api.operations import Operation, operation_of
from serving.api.service import Service, service_of
from serving.model.errors import InvalidInput
from serving.monitoring.telemetry import Telemetry


class ExampleResponses:
    """The JSON responses of the views of `app`."""

    def __init__(self, app: Flask) -> None:
        self.app = copy.copy(app)
        self.service = with_own_counters(service_of(app))
        self.app.extensions = app.extensions | {"service": self.service}

    def call(self, rule: Rule, method: str, path_values: dict[str, str]) -> Any:
        """Return what a view returns for its example request, or None if that is no JSON.

        Only views that are described are called, and only with an example for each parameter.
        """
        view = self.app.view_functions[rule.endpoint]
        operation = operation_of(view)
        if operation.response is None or not operation.has_example:
            return None
        if path_values.keys() != rule.arguments:
            return None

        request = {"method": method, **self._example_request(operation)}
        with self.app.test_request_context("/", **request):
            try:
                response = self.app.ensure_sync(view)(**path_values)
            except (HTTPException, InvalidInput):  # for this model the route is an error
                return None
        if not isinstance(response, Response) or response.mimetype != JSON:
            return None
        return json.loads(response.data)

    def _example_request(self, operation: Operation) -> dict[str, Any]:
        if operation.decoder is None:
            return {}
        examples = self.service.decoder(operation.decoder).examples()
        return {"json": examples[JSON]}


def with_own_counters(service: Service) -> Service:
    """Return a copy of a service that counts apart from it."""
    telemetry: Telemetry = copy.copy(service.telemetry)
    telemetry.create_counters()
    example_service = replace(service, telemetry=telemetry)
    example_service.share_decoders(service)
    return example_service

"""The views of the page: the page itself, or JSON for a program, and its scripts and styles."""

import base64
import hashlib
import mimetypes
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, render_template, request, send_from_directory
from werkzeug.exceptions import NotFound

from serving.api.auth import check_key
from serving.api.index import IndexResponse, describe_index
from serving.api.messages import HTML, JSON, versioned_json_response
from serving.api.operations import describe
from serving.api.service import Service, current_service
from serving.page import facts
from serving.page.bars import CHART_HEIGHT, CHART_WIDTH, histogram
from serving.page.coefficients import read_coefficients
from serving.page.inputs import describe_inputs, list_numeric_features, list_presets, to_json

STATIC = Path(__file__).parent / "static"
ASSETS = sorted(path.name for path in STATIC.iterdir())

# A part of each page, so that a browser need not ask for it before it paints the page.
STYLES = (Path(__file__).parent / "page.css").read_text()
STYLES_DIGEST = base64.b64encode(hashlib.sha256(STYLES.encode()).digest()).decode()

# A script is a file of our own; a script may change the style of an element. What a file of rows
# becomes is downloaded as a blob, which no directive restricts.
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'sha256-{STYLES_DIGEST}'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The page has the version of the model in it, and what it shows depends on the key.
PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-cache",
    "Vary": "Accept, Authorization",
    "X-Content-Type-Options": "nosniff",
}

blueprint = Blueprint("page", __name__, template_folder="templates")


@blueprint.get("/")
@describe(
    "Service",
    response=IndexResponse,
    media_types=(JSON, HTML),
    error_statuses=(401,),
    is_open=True,
)
def index() -> Response:
    """List the routes and describe the model; a browser gets a page."""
    service = current_service()
    if not prefers_html():
        check_key()
        response = versioned_json_response(describe_index())
        response.headers["Vary"] = "Accept"
        return response

    # Without a key the page shows nothing of the model, and asks for one.
    if service.settings.api_keys and "Authorization" not in request.headers:
        return render_page("locked.html")
    check_key()
    return render_page("page.html", **page_context(service))


@blueprint.get("/page/<file>")
@describe("Documentation", media_types=("*/*",), path_values={"file": ASSETS}, is_open=True)
def asset(file: str) -> Response:
    """Script, style sheet or icon of the pages."""
    if file not in ASSETS:
        raise NotFound
    return send_from_directory(STATIC, file)


def compile_templates(app: Flask) -> None:
    """Compile the templates of the pages, for which the first visitor would wait."""
    for name in app.jinja_env.list_templates():
        app.jinja_env.get_template(name)
    mimetypes.init()  # reads the files of the system, for the types of the assets


def prefers_html() -> bool:
    """Return whether the client prefers HTML to JSON, as browsers do and programs do not."""
    return request.accept_mimetypes.best_match([JSON, HTML], default=JSON) == HTML


def render_page(template: str, **context: Any) -> Response:
    """Return a page with its policy."""
    html = render_template(template, styles=STYLES, **context)
    return Response(html, mimetype=HTML, headers=PAGE_HEADERS)


def page_context(service: Service) -> dict[str, Any]:
    """Return what the template of the page shows."""
    model = service.model
    card = model.card
    prediction_bars = []
    if card and card.prediction:
        prediction_bars = histogram(card.prediction.edges, card.prediction.shares)

    feedback_classes = facts.list_feedback_classes(service.telemetry)
    outputs = []
    if model.has_labels:
        outputs.append("label")
    if model.has_probabilities:
        outputs.append("probability")

    return {
        "model": model,
        "name": service.model_name,
        "card": card,
        "loaded_at": service.loaded_at,
        "inputs": describe_inputs(model),
        "presets": list_presets(model),
        "class_outputs": facts.list_class_outputs(model),
        "first_prediction": facts.first_prediction(model),
        "prediction_bars": prediction_bars,
        "chart": {"width": CHART_WIDTH, "height": CHART_HEIGHT},
        "metrics": facts.list_metrics(card) if card else [],
        "held_out": facts.held_out_confusion(card) if card else None,
        "feedback_classes": feedback_classes,
        "feedback_metric": facts.name_feedback_metric(service.telemetry),
        "feedback_labels": facts.list_class_labels(model),
        "coefficients": read_coefficients(model),
        "scope": service.telemetry.scope,
        "metrics_port": service.settings.metrics_port,
        "max_rows": service.settings.max_rows,
        "max_body_bytes": service.settings.max_body_bytes,
        "script_data": {
            "classes": [[str(value), label] for value, label in model.labels.items()],
            "features": model.features,
            "numbers": list_numeric_features(model),
            "width": model.n_features,
            "outputs": outputs,
            "feedbackClasses": feedback_classes,
        },
        "to_json": to_json,
    }

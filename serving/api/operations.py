"""What a view states for the OpenAPI document, beside the view."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from serving.api.messages import JSON
from serving.api.rows import RowDecoder

View = TypeVar("View", bound=Callable[..., Any])


class RequestDecoder(Protocol):
    """A decoder of request bodies, of type `request`."""

    request: Any

    def examples(self) -> Mapping[str, Any]:
        """Return an example body for each media type."""


@dataclass(frozen=True)
class Operation:
    """The request decoder, the responses and the tag of a view.

    `decoder` builds the decoder of the body from the model's row decoder. `response` is the type of
    the JSON response, and `media_types` are those of the response. `error_statuses` are added to
    those that follow from the route and from `decoder`. `path_values` lists the values of a path
    parameter, and `path_examples` has an example of one that may be any name. A GET that `is_open`
    needs no key, or checks it itself. The document has what the view returns for its example
    request, unless `has_example` is False.
    """

    tag: str
    decoder: Callable[[RowDecoder], RequestDecoder] | None = None
    response: Any = None
    media_types: tuple[str, ...] = (JSON,)
    error_statuses: tuple[int, ...] = ()
    path_values: Mapping[str, list[str]] = field(default_factory=dict)
    path_examples: Mapping[str, str] = field(default_factory=dict)
    is_open: bool = False
    has_example: bool = True


def describe(tag: str, **members: Any) -> Callable[[View], View]:
    """Return a decorator that describes a view to the OpenAPI document, as `Operation` says."""

    def attach(view: View) -> View:
        view.operation = Operation(tag, **members)  # type: ignore[attr-defined]
        return view

    return attach


def operation_of(view: Callable[..., Any]) -> Operation:
    """Return the description of a view; a view without one returns any JSON."""
    undescribed = Operation("Other", response=Any, has_example=False)
    operation: Operation = getattr(view, "operation", undescribed)
    return operation


def summary_of(view: Callable[..., Any]) -> str:
    """Return the first line of a view's docstring."""
    lines = (view.__doc__ or "").strip().splitlines()
    if not lines:
        return ""
    return lines[0].rstrip(".")

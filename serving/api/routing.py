"""Routing: names in paths, and the routes that the public port serves."""

from collections.abc import Iterable, Iterator

from werkzeug.routing import BaseConverter, Rule

IMPLICIT_METHODS = {"HEAD", "OPTIONS"}  # Flask adds these
ADMIN_PATHS = {"/metrics", "/drift"}  # served by METRICS_PORT alone, if it is set


class NameConverter(BaseConverter):
    """A name in a path, which ends at the colon of an action such as `:predict`.

    Without this a GET of an action would be an unknown model (404) and not a wrong method (405).
    """

    regex = "[^/:]+"


def explicit_methods(rule: Rule) -> list[str]:
    """Return the methods of a route, without those that Flask adds."""
    return sorted((rule.methods or set()) - IMPLICIT_METHODS)


def iter_public_routes(rules: Iterable[Rule], admin_port: int | None) -> Iterator[tuple[Rule, str]]:
    """Yield each route and method, without the admin routes if these have a port of their own."""
    for rule in rules:
        if admin_port is not None and rule.rule in ADMIN_PATHS:
            continue
        for method in explicit_methods(rule):
            yield rule, method

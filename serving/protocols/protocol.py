"""What app.py needs to know of each platform's protocol."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flask import Blueprint, Response

ErrorBody = Callable[[int, str], dict[str, str]]


@dataclass(frozen=True)
class ConfiguredRoute:
    """A route whose path is a setting. It goes before every other route of the same path."""

    setting: str
    method: str
    view: Callable[..., Response]


@dataclass(frozen=True)
class Protocol:
    """The routes of one platform, its probes, and the error bodies that differ from our own."""

    title: str
    blueprint: Blueprint
    probe_rules: frozenset[str] = frozenset()
    error_bodies: Mapping[str, ErrorBody] = field(default_factory=dict)  # by path
    configured_routes: tuple[ConfiguredRoute, ...] = ()

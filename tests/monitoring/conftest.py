"""Fixtures of the monitoring tests: a service of its own for each test, whose counts begin at 0."""

import pytest

from app import create_app
from helpers import in_process


@pytest.fixture
def app():
    return create_app()


@pytest.fixture
def call(app):
    """Return a function that calls a service of its own, so that its counts begin at 0."""
    return lambda *request: in_process(app, *request)

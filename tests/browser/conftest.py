"""A real Chromium, services for it, and pages that may report no error and ask nobody else."""

import shutil
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from browser.services import Service, train

DESKTOP = {"width": 1280, "height": 900}
VIEWS = {
    "light": {"viewport": DESKTOP, "color_scheme": "light"},
    "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True},
}


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    """Return a function that trains the model of a name, once."""
    return cache(lambda name: train(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session")
def shared_service(model_path, tmp_path_factory):
    """Return a function that serves the model of a name, once, for tests that only look."""
    services = []

    @cache
    def serve(name):
        log_path = tmp_path_factory.mktemp("log") / f"{name}.log"
        services.append(Service(model_path(name), log_path))
        return services[-1]

    yield serve
    for service in services:
        service.stop()
        assert service.errors() == []


@pytest.fixture
def serve(model_path, tmp_path):
    """Return a function that serves a copy of the model of a name, with settings."""
    services = []

    def start(name="iris", with_card=True, **settings):
        directory = tmp_path / f"service{len(services)}"
        directory.mkdir()
        source = model_path(name)
        copied = Path(shutil.copy(source, directory))
        if with_card:
            shutil.copy(source.with_suffix(".json"), directory)
        services.append(Service(copied, directory / "log", **settings))
        return services[-1]

    yield start
    for service in services:
        if service.process.poll() is None:
            service.stop()


@pytest.fixture(scope="session")
def chromium():
    """Return the Chromium of the system."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox"],  # which a container has no right to
        )
        yield browser
        browser.close()


class Watched:
    """What a page reports: console errors, uncaught errors, requests to other hosts."""

    def __init__(self, page, url):
        self.errors = []
        self.expected = ()
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._note_request(request, url))

    def _note_console(self, message):
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _note_request(self, request, url):
        if urlsplit(request.url)[:2] not in (urlsplit(url)[:2], ("blob", "")):
            self.errors.append(f"request to {request.url}")

    def unexpected(self):
        return [error for error in self.errors if not any(part in error for part in self.expected)]


@pytest.fixture
def visit(chromium):
    """Return a function that opens a page of a service; no page may report an error.

    `page.watched.expected` are parts of the errors that a test provokes.
    """
    contexts = []
    pages = []

    def open_page(service, path="", view="light"):
        context = chromium.new_context(**VIEWS[view])
        contexts.append(context)
        page = context.new_page()
        page.watched = Watched(page, service.url)
        pages.append(page)
        page.goto(service.url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [page.watched.unexpected() for page in pages] == [[]] * len(pages)


@pytest.fixture
def find_violations():
    """Return a function that lists what axe-core finds on a page."""

    def run(page):
        found = Axe().run(page).response["violations"]
        return [(item["id"], item["nodes"][0]["target"]) for item in found]

    return run

"""Time until a browser shows something of the page, on this machine: the first contentful paint.

Prints it relative to a page with one line, for the first visit after a start and for later ones,
and whether it is below 200 ms. It needs chromium and the environment of `make test-browser`:
.venv-browser/bin/python bench/page.py
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from browser.services import Service  # noqa: E402 - of the tests, after their folder is known

LIMIT_MILLISECONDS = 200
ONE_LINE = b"<!doctype html><title>One line</title><link rel=icon href=data:,><p>One line"
FIRST_PAINT = """
() => new Promise((resolve) => {
    new PerformanceObserver((list) => {
        for (const entry of list.getEntriesByName("first-contentful-paint")) {
            resolve(entry.startTime);
        }
    }).observe({ type: "paint", buffered: true });
})
"""


class OneLine(BaseHTTPRequestHandler):
    """The smallest page that has a first contentful paint."""

    def do_GET(self):
        """Send the line."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(ONE_LINE)))
        self.end_headers()
        self.wfile.write(ONE_LINE)

    def log_message(self, *arguments):
        """Write nothing."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--visits", type=int, default=5, help="after each start")
    options = parser.parse_args()

    server = ThreadingHTTPServer(("127.0.0.1", 0), OneLine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    one_line = f"http://127.0.0.1:{server.server_port}/"

    times = {"one line": [], "first visit": [], "later visits": []}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        first_paint(browser, one_line)
        for _ in range(options.starts):
            service = Service(ROOT / "model.pkl", Path(folder) / "log")
            times["first visit"].append(first_paint(browser, service.url))
            for _ in range(options.visits):
                times["later visits"].append(first_paint(browser, service.url))
                times["one line"].append(first_paint(browser, one_line))
            service.stop()
        browser.close()

    base = statistics.median(times.pop("one line"))
    print(f"one line: {base:.0f} ms")
    for name, values in times.items():
        median = statistics.median(values)
        below = sum(value < LIMIT_MILLISECONDS for value in values)
        print(
            f"{name}: {median / base:.2f} times one line; {median:.0f} ms, "
            f"{below} of {len(values)} below {LIMIT_MILLISECONDS} ms"
        )


def first_paint(browser, url):
    """Return the milliseconds until the first contentful paint, with an empty cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(url)
    milliseconds = page.evaluate(FIRST_PAINT)
    context.close()
    return milliseconds


if __name__ == "__main__":
    main()

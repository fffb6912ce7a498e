"""Right now: what the page shows while requests come, models change and the service is away."""

import json
import shutil
from urllib.error import HTTPError

import pytest
from playwright.sync_api import expect

POLL_TIMEOUT = 15_000  # milliseconds: several polls on a busy machine

SETOSA = [5.1, 3.5, 1.4, 0.2]
SHIFTED = [[7.5, 2.2, 6.8, 2.4]] * 200


def positions(page):
    """Return the place of each section and of each row of a table."""
    return page.evaluate(
        """() => [...document.querySelectorAll("section, tr, .tiles > div")].map((element) => {
            const { top, left, width, height } = element.getBoundingClientRect();
            return [top, left, width, height].map(Math.round).join();
        })"""
    )


def test_numbers_follow_the_requests(serve, visit):
    """Requests, errors, drift and accuracy appear, and nothing moves."""
    service = serve()
    page = visit(service)
    expect(page.locator("#requests")).to_have_text("0")
    expect(page.locator("#verdict")).to_have_text("too few rows")
    before = positions(page)

    service.predict(SHIFTED)
    service.request("feedback", {"prediction": [0, 1, 2, 2], "actual": [0, 1, 2, 1]})
    with pytest.raises(HTTPError):
        service.predict([1, 2, 3])

    expect(page.locator("#verdict")).to_have_text("drifting", timeout=POLL_TIMEOUT)
    expect(page.locator("#requests")).to_have_text("3")
    expect(page.locator("#client-errors")).to_have_text("1")
    expect(page.locator("#rows-in-window")).to_have_text("200")
    expect(page.locator("#quality")).to_have_text("75.0 %")
    expect(page.locator("#median")).to_contain_text("ms")
    counts = page.locator("#feedback td").all_inner_texts()
    assert counts == ["1", "0", "0", "0", "1", "1", "0", "0", "1"]
    assert positions(page) == before

    drift = service.request("drift")
    rows = page.locator("#drift tbody tr").all()
    columns = [drift["classes"], *drift["features"]]
    assert len(rows) == len(columns)
    for row, column in zip(rows, columns, strict=True):
        verdict, _, *numbers = row.locator("td").all_inner_texts()
        assert verdict == column["verdict"]
        assert numbers == [f"{column['psi']:.3f}", f"{column['critical']:.3f}"]


def test_service_goes_and_comes(serve, visit):
    """While the service is stopped the page says since when, and goes on when it is back."""
    service = serve()
    page = visit(service)
    page.watched.expected = (
        "net::ERR_CONNECTION_REFUSED",
        "net::ERR_CONNECTION_RESET",
        "net::ERR_EMPTY_RESPONSE",
    )
    expect(page.locator("#requests")).to_have_text("0")
    service.stop()
    connection = page.locator("#connection")
    expect(connection).to_contain_text("No answer since", timeout=POLL_TIMEOUT)
    page.get_by_role("button", name="virginica").click()
    expect(page.locator("#predict-error")).to_have_text("The service does not answer.")

    service.start()
    expect(connection).to_have_text("The service answers again.", timeout=POLL_TIMEOUT)
    page.get_by_role("button", name="virginica").click()
    expect(page.locator("#prediction")).to_have_text("virginica")
    expect(page.locator("#predict-error")).to_have_text("")


def test_refused_reload_is_explained(serve, visit):
    """After files that are refused the page has the reason, until there are good ones."""
    service = serve(WEB_CONCURRENCY="1")
    page = visit(service)
    good = service.model_path.read_bytes()
    service.model_path.write_bytes(b"no model")
    service.reload()
    reload_text = page.locator("#reload")
    expect(reload_text).to_contain_text("Refused, the old model is served", timeout=POLL_TIMEOUT)
    service.model_path.write_bytes(good)
    service.reload()
    expect(reload_text).to_have_text("No newer file was refused.", timeout=POLL_TIMEOUT)


def test_new_version_is_offered(serve, visit, model_path):
    """When another model is served, a button shows it."""
    service = serve(WEB_CONCURRENCY="1")
    page = visit(service)
    expect(page.locator("#requests")).to_have_text("0")
    other = model_path("penguins")
    shutil.copy(other, service.model_path)
    shutil.copy(other.with_suffix(".json"), service.model_path.parent)
    service.reload()
    page.get_by_role("button", name="Show it").click(timeout=POLL_TIMEOUT)
    version = json.loads(other.with_suffix(".json").read_text())["sha256"][:12]
    expect(page.locator("header code")).to_have_text(version)
    page.get_by_role("button", name="Chinstrap").click()
    expect(page.locator("#prediction")).to_have_text("Chinstrap")


def test_metrics_port_is_no_error(serve, visit, find_violations):
    """With METRICS_PORT the page says where the metrics are, and everything else works."""
    service = serve(METRICS_PORT="5931")
    page = visit(service)
    expect(page.locator("#now")).to_contain_text("port 5931 alone")
    page.get_by_role("button", name="versicolor").click()
    expect(page.locator("#prediction")).to_have_text("versicolor")
    assert find_violations(page) == []


@pytest.mark.parametrize("view", ["light", "dark"])
def test_drifting_page_is_accessible(serve, visit, find_violations, view):
    """With verdicts and numbers the page is as readable as without."""
    service = serve()
    service.predict(SHIFTED)
    service.predict([SETOSA] * 3)
    page = visit(service, view=view)
    expect(page.locator("#verdict")).to_have_text("drifting", timeout=POLL_TIMEOUT)
    assert find_violations(page) == []

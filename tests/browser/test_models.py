"""The page of each example: light, dark and on a phone, at first and after requests and a file."""

import json
import re

import pytest
from playwright.sync_api import expect

from browser.conftest import VIEWS
from browser.csv_files import TIMEOUT

MODELS = ("iris", "breast_cancer", "penguins", "diabetes", "languages")

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
CUT_NUMBERS = """
() => [...document.querySelectorAll("input[type=number]")]
    .filter((input) => input.scrollWidth > input.clientWidth)
    .map((input) => input.value)
"""
HIDDEN_VERDICTS = """
() => [...document.querySelectorAll("#drift .verdict")]
    .filter((cell) => cell.getBoundingClientRect().right > innerWidth)
    .map((cell) => cell.parentElement.textContent)
"""
COVERED_HEADING = """
() => document.querySelector("#file-faults h3").getBoundingClientRect().top
    - document.querySelector("#file-result").getBoundingClientRect().bottom
"""


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", MODELS)
def test_page_is_readable(shared_service, visit, find_violations, tmp_path, name, view):
    """axe-core finds nothing, nothing is wider than the screen, and no number is cut."""
    service = shared_service(name)
    page = visit(service, view=view)
    page.watched.expected = ("400",)
    expect(page.locator("#verdict")).to_have_text(re.compile("[a-z]"))
    assert find_violations(page) == []
    assert page.evaluate(OVERFLOW) == 0
    assert page.evaluate(CUT_NUMBERS) == []
    assert page.evaluate(HIDDEN_VERDICTS) == []

    card = json.loads(service.model_path.with_suffix(".json").read_text())
    names = [feature["name"] for feature in card["features"]]
    rows = [reference["features"] for reference in card["reference"]]
    predictions = service.predict(rows * 50)["prediction"]
    service.request("feedback", {"prediction": predictions, "actual": predictions[::-1]})
    path = tmp_path / f"{name}.csv"
    bad_row = ["much too long to be one of its values"] * (len(names) + 1)
    path.write_text("\n".join(map(";".join, [[*names, "note"], bad_row[1:], bad_row])))
    page.locator("#file").set_input_files(path)
    expect(page.locator("#file-faults")).to_be_visible(timeout=TIMEOUT)
    expect(page.locator("#feedback-rows")).not_to_have_text("no feedback", timeout=TIMEOUT)
    assert find_violations(page) == []
    assert page.evaluate(OVERFLOW) == 0
    assert page.evaluate(HIDDEN_VERDICTS) == []
    assert page.evaluate(COVERED_HEADING) > 8


def test_names_fit_on_a_phone(shared_service, visit):
    """A name of one word is not broken beside its number."""
    page = visit(shared_service("penguins"), view="phone")
    heights = "names => names.map((name) => Math.round(name.getBoundingClientRect().height))"
    assert len(set(page.locator("#features .name").evaluate_all(heights))) == 1


@pytest.mark.parametrize("name", MODELS)
def test_numbers_are_short(shared_service, visit, name):
    """A number that is whole has no point, and none has more digits than a click on its row."""
    page = visit(shared_service(name))
    read_values = "inputs => inputs.map((input) => input.value)"
    controls = page.locator("#features input[type=number]")
    first = controls.evaluate_all(read_values)
    assert not [value for value in first if value.endswith(".0")]
    page.locator("[data-row]").first.click()
    assert controls.evaluate_all(read_values) == first


def test_durations_have_no_exponent(shared_service, visit):
    """A duration has two digits that count, however short or long it is."""
    page = visit(shared_service("iris"))
    texts = page.evaluate(
        """async () => {
            const { asDuration } = await import("./page/live.js");
            return [0.00001234, 0.0017, 0.21, 0.999, 1.5, 240].map(asDuration);
        }"""
    )
    assert texts == ["0.012 ms", "1.7 ms", "210 ms", "1000 ms", "1.5 s", "240 s"]


def test_reason_of_no_plan_is_shown(shared_service, visit):
    """The page says why a model has no prediction plan."""
    page = visit(shared_service("breast_cancer"))
    expect(page.locator("#model .facts")).to_contain_text("XGBClassifier has no plan")

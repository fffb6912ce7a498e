"""Try it: what the form shows is what `/predict` answers."""

import json
import subprocess

import pytest
from playwright.sync_api import expect


def read_row(page):
    """Return the row in the curl command of the page."""
    command = page.locator("#curl").inner_text()
    return json.loads(command.split("-d '")[1].rstrip("'"))["features"]


@pytest.mark.parametrize("view", ["light", "phone"])
def test_slider_changes_class(serve, visit, view):
    """Moved by keyboard, a slider changes the class to the one that `/predict` returns."""
    service = serve()
    page = visit(service, view=view)
    expect(page.locator("#prediction")).to_have_text("setosa")
    for name in ("petal length (cm)", "petal width (cm)"):
        page.get_by_role("slider", name=f"{name}, slider").press("End")
    expect(page.locator("#prediction")).to_have_text("virginica")

    row = read_row(page)
    assert row == [5.1, 3.5, 6.9, 2.5]
    answer = service.predict(row, outputs=["label", "probability"])
    assert answer["label"] == ["virginica"]
    shown = page.locator("#classes .share").all_inner_texts()
    assert shown == [f"{100 * share:.1f} %" for share in answer["probability"][0]]
    assert page.locator("#classes .is-predicted .class").inner_text() == "virginica"
    expect(page.locator("#latency")).to_contain_text("Answered in")


def test_curl_of_the_page_runs(shared_service, visit):
    """The command of the page, run by a shell, prints what the page shows."""
    page = visit(shared_service("iris"))
    page.get_by_role("button", name="versicolor").click()
    expect(page.locator("#prediction")).to_have_text("versicolor")
    command = page.locator("#curl").inner_text().replace("curl ", "curl --silent ", 1)
    printed = subprocess.run(command, shell=True, capture_output=True, text=True).stdout
    assert json.loads(printed)["label"] == ["versicolor"]


def test_command_is_copied(shared_service, visit):
    """The button copies the command."""
    page = visit(shared_service("iris"))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("#curl").text_content()


def test_outside_is_marked_and_answered(shared_service, visit):
    """A number outside the training range is marked, and gets a prediction."""
    page = visit(shared_service("iris"))
    number = page.get_by_role("spinbutton", name="petal length (cm)", exact=True)
    number.fill("40")
    expect(page.locator(".is-outside .outside")).to_have_text("outside the training range")
    expect(page.locator("#prediction")).to_have_text("virginica")
    number.fill("1.4")
    expect(page.locator(".is-outside")).to_have_count(0)


def test_no_number_is_not_sent(shared_service, visit):
    """An empty number is said to be missing, and the next one is sent."""
    page = visit(shared_service("iris"))
    number = page.get_by_role("spinbutton", name="petal width (cm)", exact=True)
    number.fill("")
    expect(page.locator("#predict-error")).to_have_text("petal width (cm): enter a number.")
    number.fill("0.3")
    expect(page.locator("#predict-error")).to_have_text("")


def test_missing_values_are_sent(shared_service, visit):
    """Categories and missing values go to the service as null and as text."""
    service = shared_service("penguins")
    page = visit(service)
    page.get_by_label("island").select_option("Biscoe")
    page.get_by_label("sex").select_option("missing")
    page.get_by_label("missing: bill_length_mm").check()
    expect(page.locator("#curl")).to_contain_text('[null,18.7,181,3750,"Biscoe",null]')
    row = read_row(page)
    label = service.predict(row, outputs=["label"])["label"][0]
    expect(page.locator("#prediction")).to_have_text(label)

    page.get_by_role("button", name="Gentoo").click()
    expect(page.locator("#prediction")).to_have_text("Gentoo")
    expect(page.get_by_label("missing: bill_length_mm")).not_to_be_checked()


def test_every_type_is_sent(shared_service, visit, find_violations):
    """A switch sends a boolean, a list of integers an integer, a text field its text."""
    service = shared_service("kinds")
    page = visit(service)
    page.get_by_role("button", name="no").click()
    page.get_by_role("switch", name="heavy").set_checked(True)
    page.get_by_role("slider", name="count, slider").press("End")
    page.get_by_label("grade").select_option("3")
    page.get_by_label("note").fill("it's a bad tree")
    expect(page.locator("#curl")).to_contain_text("a bad tree")
    command = page.locator("#curl").inner_text()
    assert "[true,9,3,\"it'\\''s a bad tree\"]" in command
    expect(page.locator("#prediction")).to_have_text("yes")
    answer = service.predict([True, 9, 3, "it's a bad tree"], outputs=["probability"])
    shown = page.locator("#classes .share").all_inner_texts()
    assert shown == [f"{100 * share:.1f} %" for share in answer["probability"][0]]
    assert find_violations(page) == []


def test_number_is_on_the_distribution(shared_service, visit):
    """Of a regressor the number is shown, and its place among the predictions."""
    service = shared_service("diabetes")
    page = visit(service)
    before = page.locator(".marker rect").get_attribute("x")
    page.get_by_role("slider", name="bmi, slider").press("End")
    expect(page.locator("#latency")).to_contain_text("Answered in")
    predicted = service.predict(read_row(page))["prediction"][0]
    expect(page.locator("#prediction")).to_have_text(f"{predicted:.5g}")
    assert float(page.locator(".marker rect").get_attribute("x")) > float(before)


def test_names_run_no_script(shared_service, visit, find_violations):
    """Names of features and classes that look like HTML are text, and the page works."""
    page = visit(shared_service("hostile"))
    page.get_by_role("button").nth(1).click()
    expect(page.locator("#latency")).to_contain_text("Answered in")
    expect(page.locator("#prediction")).to_contain_text("<script>")
    assert page.title().startswith("hostile ")
    assert find_violations(page) == []


def test_model_without_card_works(serve, visit, find_violations):
    """Without a model card the page has plain numbers, and answers."""
    service = serve(with_card=False)
    page = visit(service)
    for index, value in enumerate([6.3, 3.3, 6.0, 2.5]):
        page.get_by_role("spinbutton", name=f"feature {index}").fill(str(value))
    expect(page.locator("#prediction")).to_have_text("2")
    assert find_violations(page) == []


def test_keyboard_reaches_the_form(shared_service, visit):
    """The first tab reaches a link to the form, and the next ones its controls."""
    page = visit(shared_service("iris"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the form"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "setosa"

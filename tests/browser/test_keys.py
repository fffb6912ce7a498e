"""API keys: both pages ask for one, and keep it in memory only."""

from playwright.sync_api import expect

UNAUTHORIZED = "401"


def test_page_asks_for_key(serve, visit, find_violations):
    """A wrong key is refused, a right one opens the page, and is forgotten with it."""
    service = serve(API_KEYS="one,schlüssel")
    page = visit(service)
    page.watched.expected = (UNAUTHORIZED,)
    assert find_violations(page) == []
    assert "iris" not in page.content()

    key = page.get_by_label("API key")
    key.fill("two")
    key.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This key is not accepted.")
    key.fill("schlüssel")
    key.press("Enter")
    expect(page.locator("#verdict")).to_have_text("too few rows")
    page.get_by_role("button", name="virginica").click()
    expect(page.locator("#prediction")).to_have_text("virginica")
    expect(page.locator("#curl")).to_contain_text("Authorization: Bearer $API_KEY")
    assert "schlüssel" not in page.content()

    assert page.evaluate("localStorage.length + sessionStorage.length") == 0
    assert page.context.cookies() == []
    page.reload()
    expect(page.get_by_label("API key")).to_be_focused()


def test_docs_ask_for_key(serve, visit):
    """`/docs` asks for the key, and calls what needs it."""
    service = serve(API_KEYS="one")
    page = visit(service, "docs")
    page.watched.expected = (UNAUTHORIZED,)
    key = page.get_by_label("API key")
    key.fill("two")
    key.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This key is not accepted.")
    key.fill("one")
    key.press("Enter")

    operation = page.locator("#operations-Model-post_predict")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text(
        "200"
    )

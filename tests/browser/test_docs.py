"""The page of `/docs`: each operation can be executed as it is shown."""

from playwright.sync_api import expect


def test_get_needs_one_click(shared_service, visit):
    """Each GET is answered 200 with one click on Execute, whatever its path has in it."""
    page = visit(shared_service("iris"), "docs")
    expect(page.locator(".info .title")).to_contain_text("iris")
    expect(page.locator(".info")).to_contain_text("LogisticRegression")
    operations = page.locator(".opblock-get")
    expect(operations.first).to_be_visible()
    count = operations.count()
    assert count > 15
    for index in range(count):
        operation = operations.nth(index)
        operation.locator(".opblock-summary-control").click()
        operation.get_by_role("button", name="Execute").click()
        status = operation.locator(".live-responses-table .response-col_status").last
        expect(status).to_contain_text("200", timeout=15_000)
        operation.locator(".opblock-summary-control").click()


def test_vertex_ai_has_examples(shared_service, visit):
    """The route of Vertex AI has ids to try it with, in a group of its own."""
    page = visit(shared_service("iris"), "docs")
    group = page.locator(".opblock-tag-section", has=page.locator("[data-tag='Vertex AI']"))
    operation = group.locator(".opblock-post")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Execute").click()
    status = operation.locator(".live-responses-table .response-col_status").last
    expect(status).to_contain_text("200", timeout=15_000)

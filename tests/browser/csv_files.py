"""Files that the page is given, and what comes back."""

from playwright.sync_api import expect

TIMEOUT = 30_000  # milliseconds


def score_file(page, path, status):
    """Give the page a file, and return its bytes with predictions once `status` is shown."""
    page.locator("#file").set_input_files(path)
    expect(page.locator("#file-status")).to_contain_text(status, timeout=TIMEOUT)
    with page.expect_download() as download:
        page.locator("#file-result").click()
    return download.value.path().read_bytes()


def read_faults(page):
    """Return the row, the column, the value and the text of each fault."""
    cells = page.locator("#file-faults tbody td").all_inner_texts()
    return [cells[start : start + 4] for start in range(0, len(cells), 4)]

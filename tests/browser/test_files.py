"""A file: a CSV comes back with predictions; what cannot be scored is named by row and column."""

import csv
import io
import random

import pytest
from playwright.sync_api import expect

from browser.csv_files import TIMEOUT, read_faults, score_file

NAMES = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
ROWS = [[5.1, 3.5, 1.4, 0.2], [7.0, 3.2, 4.7, 1.4], [6.3, 3.3, 6.0, 2.5]]
LABELS = ["setosa", "versicolor", "virginica"]


def write_csv(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows] if header else rows)
    return path


def score(page, path, status):
    """Give the page a file, and return its text with predictions once `status` is shown."""
    return score_file(page, path, status).decode()


def read_rows(text):
    return list(csv.reader(io.StringIO(text)))


def test_file_comes_back(shared_service, visit, tmp_path):
    """Columns in any order, and other columns, are kept; predictions and labels follow."""
    page = visit(shared_service("iris"))
    header = ["id, of the plant", *reversed(NAMES)]
    rows = [[f'"{i}"\nx', *reversed(row)] for i, row in enumerate(ROWS)]
    text = score(page, write_csv(tmp_path / "plants.csv", header, rows), "3 of 3 rows")
    assert page.locator("#file-result").get_attribute("download") == "plants.predictions.csv"

    scored = read_rows(text)
    assert scored[0] == [*header, "prediction", "label"]
    for line, row, value, label in zip(scored[1:], rows, "012", LABELS, strict=True):
        assert line == [*map(str, row), value, label]


def test_large_file_is_sent_in_blocks(shared_service, visit, tmp_path):
    """A file beyond the limits of a request has a prediction for each row, that of `/predict`."""
    service = shared_service("iris")
    page = visit(service)
    random.seed(0)
    rows = [[round(random.uniform(0.1, 8), 2) for _ in NAMES] for _ in range(25_000)]
    text = score(page, write_csv(tmp_path / "many.csv", NAMES, rows), "25,000 of 25,000 rows of")
    assert page.locator("#file-progress").evaluate("element => element.value") == 1
    scored = read_rows(text)[1:]
    assert len(scored) == len(rows)
    sample = range(0, 25_000, 997)
    expected = service.predict([rows[index] for index in sample])["prediction"]
    assert [int(scored[index][4]) for index in sample] == expected


def test_faults_have_row_and_column(shared_service, visit, find_violations, tmp_path):
    """Rows that cannot be scored are listed, and have no prediction; the others have."""
    page = visit(shared_service("iris"))
    page.watched.expected = ("400",)
    rows = [list(ROWS[index % 3]) for index in range(2500)]
    rows[3][2] = "tall"
    rows[1200][0] = ""
    rows[2000] = [1, 2]
    text = score(page, write_csv(tmp_path / "bad.csv", NAMES, rows), "2,497 of 2,500 rows")

    faults = read_faults(page)
    assert [fault[:3] for fault in faults] == [
        ["4", "petal length (cm)", "tall"],
        ["1201", "sepal length (cm)", ""],
        ["2001", "", ""],
    ]
    assert faults[0][3].startswith("Expected `float`, got `str`")
    assert faults[2][3] == "Expected 4 numbers, got 2"
    scored = read_rows(text)
    assert scored[4][4:] == ["", ""]
    assert scored[5][4:] == ["1", "versicolor"]
    assert find_violations(page) == []


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ("", "is empty"),
        ("a,b,c\n1,2,3\n", "has no column sepal length (cm), sepal width (cm)"),
        ("\n".join(["x,y,z,v"] * 30), "Stopped after 20 rows that cannot be scored"),
    ],
    ids=["empty", "other columns", "no numbers"],
)
def test_wrong_files_are_explained(shared_service, visit, tmp_path, content, status):
    """A file that is no table of this model is refused with the reason."""
    page = visit(shared_service("iris"))
    page.watched.expected = ("400",)
    path = tmp_path / "wrong.csv"
    path.write_text(content)
    page.locator("#file").set_input_files(path)
    expect(page.locator("#file-status")).to_contain_text(status, timeout=TIMEOUT)
    expect(page.locator("#file-result")).to_be_hidden()


def test_dropped_file_without_header(shared_service, visit, tmp_path):
    """A file may be dropped, and have no header."""
    page = visit(shared_service("iris"))
    page.evaluate(
        """(text) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([text], "rows.csv", { type: "text/csv" }));
            const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true });
            document.querySelector("#drop").dispatchEvent(event);
        }""",
        "6.3,3.3,6.0,2.5\n5.1,3.5,1.4,0.2\n",
    )
    expect(page.locator("#file-status")).to_contain_text("2 of 2 rows", timeout=TIMEOUT)
    with page.expect_download() as download:
        page.locator("#file-result").click()
    lines = download.value.path().read_text().splitlines()
    assert lines == ["6.3,3.3,6.0,2.5,2,virginica", "5.1,3.5,1.4,0.2,0,setosa"]


def test_mixed_types_and_missing_values(shared_service, visit, tmp_path):
    """Categories and empty fields are scored; a category of another model's is no fault."""
    page = visit(shared_service("penguins"))
    header = [
        "bill_length_mm",
        "bill_depth_mm",
        "flipper_length_mm",
        "body_mass_g",
        "island",
        "sex",
    ]
    rows = [[39.1, 18.7, 181, 3750, "Torgersen", "male"], ["", 14, 220, 5000, "Biscoe", ""]]
    text = score(page, write_csv(tmp_path / "penguins.csv", header, rows), "2 of 2 rows")
    assert [line[6:] for line in read_rows(text)] == [["prediction"], ["Adelie"], ["Gentoo"]]

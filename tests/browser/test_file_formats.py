"""Files as spreadsheets, pandas and R write them: the answer has their form."""

import json
import subprocess

import pytest
from playwright.sync_api import expect

from browser.csv_files import TIMEOUT, read_faults, score_file
from browser.services import ROOT
from browser.test_files import LABELS, NAMES, ROWS

# The environment of the browser has no pandas.
PYTHON = ROOT / ".venv/bin/python"
WRITE = """
import json, sys
import pandas as pd
table, path, options = json.loads(sys.argv[1])
pd.DataFrame(**table).to_csv(path, **options)
"""
READ = """
import json, sys
import pandas as pd
path, options = json.loads(sys.argv[1])
print(pd.read_csv(path, **options).to_json(orient="split"))
"""
GUESS = """
import json, sys
from serving.batch.csv_format import ReadOptions, detect_format, read_column_names
from serving.batch.names import match_features
guesses = []
for features, text in json.loads(sys.argv[1]):
    csv_format = detect_format(text.encode(), "utf-8", False, features, ReadOptions())
    names = read_column_names(text.split("\\n")[0].encode(), csv_format.delimiter)
    matches = match_features(features, names)
    guesses.append([csv_format.delimiter, csv_format.decimal == ",", sorted(matches.items())])
print(json.dumps(guesses))
"""


def run_python(program, *values):
    command = [PYTHON, "-c", program, json.dumps(values)]
    variables = {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=variables).stdout


def guesses_of(page):
    return page.locator("#file-format").inner_text()


PANDAS_OPTIONS = {
    "German": {"sep": ";", "decimal": ",", "encoding": "utf-8-sig", "lineterminator": "\r\n"},
    "tabs": {"sep": "\t", "index": False},
    "bars": {"sep": "|", "decimal": ",", "quoting": 1, "lineterminator": "\r"},
    "UTF-16": {"sep": "\t", "encoding": "utf-16"},
}
GUESSES = {
    "German": "Guessed: delimiter semicolon, decimal comma.",
    "tabs": "Guessed: delimiter tab.",
    "bars": "Guessed: delimiter vertical bar, decimal comma.",
    "UTF-16": "Guessed: encoding utf-16le (the answer has UTF-8), delimiter tab.",
}


@pytest.mark.parametrize("name", PANDAS_OPTIONS)
def test_files_of_pandas(shared_service, visit, tmp_path, name):
    """The answer is each line as it was, with its delimiter, decimals, line ends and mark."""
    options = PANDAS_OPTIONS[name]
    path = tmp_path / "plants.csv"
    notes = ["a,b", "c;d", 'e\t"f"|']
    rows = [[note, *row] for note, row in zip(notes, ROWS, strict=True)]
    run_python(WRITE, {"data": rows, "columns": ["note", *NAMES]}, str(path), options)
    page = visit(shared_service("iris"))
    answer = score_file(page, path, "3 of 3 rows")
    assert guesses_of(page) == GUESSES[name]

    delimiter = options["sep"]
    end = options.get("lineterminator", "\n")
    encoding = options.get("encoding", "utf-8")
    lines = path.read_bytes().decode(encoding).split(end)
    added = [f"prediction{delimiter}label"]
    added += [f"{value}{delimiter}{label}" for value, label in enumerate(LABELS)]
    expected = [f"{line}{delimiter}{more}" for line, more in zip(lines, added, strict=False)]
    mark = "" if encoding == "utf-8" else "\ufeff"
    assert answer.decode() == mark + "".join(f"{line}{end}" for line in expected)

    (tmp_path / "answer.csv").write_bytes(answer)
    reading = {key: options[key] for key in ("sep", "decimal") if key in options}
    read = json.loads(run_python(READ, str(tmp_path / "answer.csv"), reading))
    assert [line[-7:] for line in read["data"]] == [
        [*row, value, label] for row, value, label in zip(rows, range(3), LABELS, strict=True)
    ]


def test_files_of_r(shared_service, visit, tmp_path):
    """What `write.csv2(iris)` writes has names of rows, and names of columns without units."""
    names = ["Sepal.Length", "Sepal.Width", "Petal.Length", "Petal.Width"]
    lines = ['"";' + ";".join(f'"{name}"' for name in [*names, "Species"])]
    for index, (row, label) in enumerate(zip(ROWS, LABELS, strict=True), 1):
        numbers = [f"{number:g}".replace(".", ",") for number in row]
        lines.append(";".join([f'"{index}"', *numbers, f'"{label}"']))
    path = tmp_path / "iris.csv"
    path.write_text("\n".join([*lines, ""]))

    page = visit(shared_service("iris"))
    answer = score_file(page, path, "3 of 3 rows").decode().splitlines()
    assert answer[0] == f"{lines[0]};prediction;label"
    assert answer[1:] == [f"{lines[i + 1]};{i};{LABELS[i]}" for i in range(3)]
    assert "column “Petal.Width” for “petal width (cm)”" in guesses_of(page)


def test_r_writes_missing_values(shared_service, visit, tmp_path):
    """NA of `write.csv2` is a missing value, and decimal commas are those of numbers alone."""
    header = "bill_length_mm;bill_depth_mm;flipper_length_mm;body_mass_g;island;sex;note"
    path = tmp_path / "penguins.csv"
    rows = ['39,1;18,7;181;3750;"Torgersen";"male";"1,5.2"', '46;NA;220;5000;"Biscoe";NA;""']
    path.write_text("\n".join([header, *rows]))
    page = visit(shared_service("penguins"))
    with page.expect_request("**/invocations") as request:
        answer = score_file(page, path, "2 of 2 rows").decode().splitlines()
    assert answer == [f"{header};prediction", f"{rows[0]};Adelie", f"{rows[1]};Gentoo"]
    sent = request.value.post_data.splitlines()
    assert sent[1:] == ['39.1,18.7,181,3750,Torgersen,male,"1,5.2"', "46,NA,220,5000,Biscoe,NA,"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252"])
def test_files_of_excel(shared_service, visit, tmp_path, encoding):
    """A German Excel writes UTF-8 with a mark, or the encoding of Windows; it reads the former."""
    lines = [";".join(["Größe", *NAMES]), "groß;5,1;3,5;1,4;0,2", '"klein; grün";7;3,2;4,7;1,4']
    path = tmp_path / "Blüten.csv"
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode(encoding))
    page = visit(shared_service("iris"))
    answer = score_file(page, path, "2 of 2 rows")
    added = ["prediction;label", "0;setosa", "1;versicolor"]
    expected = "".join(f"{line};{more}\r\n" for line, more in zip(lines, added, strict=True))
    assert answer == expected.encode("utf-8-sig")
    assert ("windows-1252" in guesses_of(page)) == (encoding == "cp1252")


def test_numbers_are_written_as_they_are_read(shared_service, visit, tmp_path):
    """The predictions of a regressor have decimal commas where the file has them."""
    service = shared_service("diabetes")
    card = json.loads(service.model_path.with_suffix(".json").read_text())
    names = [feature["name"] for feature in card["features"]]
    rows = [reference["features"] for reference in card["reference"]]
    path = tmp_path / "patients.csv"
    run_python(WRITE, {"data": rows, "columns": names}, str(path), {"sep": ";", "decimal": ","})
    page = visit(service)
    answer = score_file(page, path, f"{len(rows)} of {len(rows)} rows").decode().splitlines()
    written = [line.rpartition(";")[2] for line in answer[1:]]
    predictions = service.predict(rows)["prediction"]
    assert [float(text.replace(",", ".")) for text in written] == predictions
    assert "." not in "".join(written)


def test_point_is_no_decimal_comma(shared_service, visit, tmp_path):
    """In a file with decimal commas 1.500 may be a thousand and a half, which is a fault."""
    lines = [";".join(NAMES), "5,1;3,5;1,4;0,2", "5,1;3,5;1.500;0,2", "5,1;3,5;1,4", "5,1;x;1,4;0"]
    path = tmp_path / "thousands.csv"
    # The first rows decide, as in a batch.
    path.write_text("\n".join([lines[0], *[lines[1]] * 100, *lines[2:]]))
    page = visit(shared_service("iris"))
    page.watched.expected = ("400",)
    answer = score_file(page, path, "100 of 103 rows").decode().splitlines()
    assert answer[-3:] == [f"{line};;" for line in lines[2:]]
    faults = read_faults(page)
    assert [fault[:3] for fault in faults] == [
        ["101", "petal length (cm)", "1.500"],
        ["102", "", ""],
        ["103", "sepal width (cm)", "x"],
    ]
    assert faults[1][3] == "Expected 4 numbers, got 3"


@pytest.mark.parametrize("with_card", [True, False])
def test_rows_alone_show_their_format(serve, visit, tmp_path, with_card):
    """Without names the delimiter is the one that gives a field for each feature."""
    path = tmp_path / "rows.tsv"
    path.write_text("6,3;3,3;6,0;2,5\n5,1;3,5;1,4;0,2\n")
    page = visit(serve(with_card=with_card))
    answer = score_file(page, path, "2 of 2 rows").decode().splitlines()
    labels = [";virginica", ";setosa"] if with_card else ["", ""]
    assert answer == [f"6,3;3,3;6,0;2,5;2{labels[0]}", f"5,1;3,5;1,4;0,2;0{labels[1]}"]
    assert page.locator("#file-result").get_attribute("download") == "rows.predictions.tsv"
    assert "no names of columns" in guesses_of(page)


def test_names_of_a_model_without_card(serve, visit, tmp_path):
    """A model without names takes the columns in their order, whatever their names are."""
    path = tmp_path / "rows.csv"
    path.write_text("a;b;c;d\n6,3;3,3;6,0;2,5\n")
    answer = score_file(visit(serve(with_card=False)), path, "1 of 1 rows").decode()
    assert answer == "a;b;c;d;prediction\n6,3;3,3;6,0;2,5;2\n"


LENGTH = "length (cm)"
SAMPLES = [
    (NAMES, ";".join(NAMES) + "\n1,5;2;3;4"),
    (NAMES, ",".join(NAMES) + "\n1.5;2;3;4"),
    (NAMES, "\t".join(NAMES) + "\n1.5\t2,5\t3\t4"),
    (NAMES, "|".join([*NAMES, "x;y;z"]) + "\n1,5e-3|2|3|4|a,b"),
    (NAMES, ";".join(NAMES) + "\n1,5;2.5e1;3;4"),
    (["a", "b"], '"a";"b, c"\n"1";"2"'),
    (["a", "b"], "x;y;z,t,u,v\n1;2"),
    (["Größe", LENGTH], "GRÖSSE;größe;Length\n1;2;3"),
    (["a b", "A_B"], "a-b;a.b;c\n1;2;3"),
    ([LENGTH, "width [m]"], "length (mm);WIDTH\n1;2"),
    ([LENGTH, "length"], "LENGTH (cm);length\n1;2"),
    ([LENGTH, "b"], "Length;length;b\n1;2;3"),
    (["a"], "a;a\n,5;1"),
    (["()", "!"], "[];--;c\n1;2;3"),
]


def test_guesses_are_those_of_a_batch(shared_service, visit):
    """The page finds the delimiter, the decimal and the columns that `batch.py` finds."""
    page = visit(shared_service("iris"))
    guesses = page.evaluate(
        """async (samples) => {
            const { CsvFormat } = await import("./page/csv_format.js");
            const { splitRecords } = await import("./page/csv.js");
            return samples.map(([features, text]) => {
                const model = { features, numbers: features, width: features.length };
                const format = new CsvFormat(splitRecords(text), model);
                return [format.delimiter, format.hasDecimalCommas, [...format.matches]];
            });
        }""",
        SAMPLES,
    )
    expected = json.loads(run_python(GUESS, *SAMPLES))
    assert [[*guess[:2], sorted(guess[2])] for guess in guesses] == expected


def test_missing_columns_are_named(shared_service, visit, tmp_path):
    """A file without a column of the model is refused with the names that it has."""
    page = visit(shared_service("iris"))
    path = tmp_path / "other.csv"
    path.write_text(";".join([*NAMES[:3], "weight"]) + "\n1;2;3;4\n")
    page.locator("#file").set_input_files(path)
    status = f"other.csv has no column {NAMES[3]}. It has {', '.join(NAMES[:3])}, weight."
    expect(page.locator("#file-status")).to_have_text(status, timeout=TIMEOUT)

"""What clients of SageMaker, MLflow and Azure ML send, in one table, and what they receive."""

import json

from endpoints import CLASSES, NAMED_ROWS, ROWS
from helpers import NAMES

INVOCATIONS = "/invocations"
SCORE = "/score"
WIDE_NAMES = ["id", *NAMES, "note"]
WIDE_ROWS = [[i, *row, f"row {i}"] for i, row in enumerate(ROWS)]
WIDE_RECORDS = [dict(zip(WIDE_NAMES, row, strict=True)) for row in WIDE_ROWS]
WIDE_COLUMNS = {name: [row[i] for row in WIDE_ROWS] for i, name in enumerate(WIDE_NAMES)}
PREDICTIONS = {"predictions": CLASSES}


def lines(*texts):
    return "\n".join(texts).encode()


def csv_lines(rows):
    return [",".join(map(str, row)) for row in rows]


def encode(payload):
    return json.dumps(payload).encode()


NUMBERS = csv_lines(ROWS)
JSON_LINES = [json.dumps(row) for row in ROWS]

# What is sent: path, Content-Type, body; and the JSON that comes back.
ANSWERED = {
    "CSV without a header": (INVOCATIONS, "text/csv", lines(*NUMBERS), CLASSES),
    "CSV with further columns, as pandas writes a frame with its index": (
        INVOCATIONS,
        "text/csv",
        lines(",".join(["", *NAMES]), *csv_lines([[i, *row] for i, row in enumerate(ROWS)])),
        PREDICTIONS,
    ),
    "CSV with a column of words": (
        INVOCATIONS,
        "text/csv; charset=utf-8",
        lines(",".join(WIDE_NAMES), *csv_lines(WIDE_ROWS)),
        PREDICTIONS,
    ),
    "CSV with a further column whose name is a number": (
        INVOCATIONS,
        "text/csv",
        lines(",".join(["2026", *NAMES]), *csv_lines([[i, *row] for i, row in enumerate(ROWS)])),
        PREDICTIONS,
    ),
    "CSV with numbered columns": (
        INVOCATIONS,
        "text/csv",
        lines("0,1,2,3", *NUMBERS),
        PREDICTIONS,
    ),
    "CSV of one row that is 0, 1, 2, 3": (INVOCATIONS, "text/csv", b"0,1,2,3", [0]),
    "CSV whose client says that it has no header": (
        INVOCATIONS,
        "text/csv; header=absent",
        lines("0,1,2,3", *NUMBERS),
        [0, *CLASSES],
    ),
    "CSV whose client says that it has a header": (
        INVOCATIONS,
        "text/csv; header=present",
        lines("0,1,2,3", *NUMBERS),
        PREDICTIONS,
    ),
    "JSON lines of arrays": (INVOCATIONS, "application/jsonlines", lines(*JSON_LINES), CLASSES),
    "JSON lines of objects, with blank lines and a byte order mark": (
        INVOCATIONS,
        "application/jsonlines",
        b"\xef\xbb\xbf" + lines(*map(json.dumps, NAMED_ROWS), "", ""),
        CLASSES,
    ),
    "MLflow's split frame with further columns": (
        INVOCATIONS,
        "application/json",
        encode({"dataframe_split": {"columns": WIDE_NAMES, "data": WIDE_ROWS}}),
        PREDICTIONS,
    ),
    "MLflow's records with further columns": (
        INVOCATIONS,
        "application/json",
        encode({"dataframe_records": WIDE_RECORDS}),
        PREDICTIONS,
    ),
    "MLflow's instances with further columns": (
        INVOCATIONS,
        "application/json",
        encode({"instances": WIDE_RECORDS}),
        PREDICTIONS,
    ),
    "MLflow's inputs with further columns": (
        INVOCATIONS,
        "application/json",
        encode({"inputs": WIDE_COLUMNS}),
        PREDICTIONS,
    ),
    "Azure's MLflow endpoint with further columns": (
        SCORE,
        "application/json",
        encode({"input_data": {"columns": WIDE_NAMES, "index": [0, 1], "data": WIDE_ROWS}}),
        CLASSES,
    ),
    "Azure's MLflow endpoint with rows": (
        SCORE,
        "application/json",
        encode({"input_data": ROWS, "params": {}}),
        CLASSES,
    ),
    "Azure's automated ML": (
        SCORE,
        "application/json",
        encode({"data": NAMED_ROWS, "method": "predict"}),
        CLASSES,
    ),
}

# The same, with the status and what the error says.
REFUSED = {
    "CSV with a missing column": (
        INVOCATIONS,
        "text/csv",
        lines(",".join(["id", *NAMES[1:]]), *NUMBERS),
        400,
        r"Expected the columns .*: `sepal length \(cm\)` is missing - at `line 1`",
    ),
    "CSV with a repeated column": (
        INVOCATIONS,
        "text/csv",
        lines(",".join([*NAMES, NAMES[2]]), *csv_lines([[*row, 1] for row in ROWS])),
        400,
        r"Expected the columns .*: `petal length \(cm\)` is repeated - at `line 1`",
    ),
    "CSV with a row shorter than its header": (
        INVOCATIONS,
        "text/csv",
        lines(",".join(["id", *NAMES]), *NUMBERS),
        400,
        r"Expected 5 numbers, got 4 - at `\$\[0\]`",
    ),
    "CSV with a word among numbers and further columns": (
        INVOCATIONS,
        "text/csv",
        lines(",".join(["id", *NAMES]), "7,5.1,3.5,x,0.2"),
        400,
        r"Expected `float`, got `str` - at `\$\[0\]\[3\]`",
    ),
    "CSV with an unknown parameter for its header": (
        INVOCATIONS,
        "text/csv; header=yes",
        lines(*NUMBERS),
        400,
        "Expected present or absent for the parameter `header` of Content-Type",
    ),
    "JSON lines of different kinds": (
        INVOCATIONS,
        "application/jsonlines",
        lines(json.dumps(ROWS[0]), json.dumps(NAMED_ROWS[0])),
        400,
        r"Expected rows of one kind, or numbers alone - at `\$\[1\]`",
    ),
    "JSON lines with a short row": (
        INVOCATIONS,
        "application/jsonlines",
        lines(JSON_LINES[0], "[1, 2, 3]"),
        400,
        r"Expected 4 numbers, got 3 - at `\$\[1\]`",
    ),
    "JSON lines with a word": (
        INVOCATIONS,
        "application/jsonlines",
        lines(JSON_LINES[0], '[1, 2, "3", 4]'),
        400,
        r"Expected `float`, got `str` - at `\$\[1\]\[2\]`",
    ),
    "JSON lines with a repeated key": (
        INVOCATIONS,
        "application/jsonlines",
        lines(json.dumps(NAMED_ROWS[0]), json.dumps(NAMED_ROWS[1])[:-1] + ', "x": 1, "x": 2}'),
        400,
        "Object contains field `x` twice",
    ),
    "JSON lines without a line": (
        INVOCATIONS,
        "application/jsonlines",
        b"\n\n",
        400,
        "Expected at least one row",
    ),
    "JSON lines that are no JSON": (
        INVOCATIONS,
        "application/jsonlines",
        b"5.1,3.5,1.4,0.2",
        400,
        "JSON is malformed|Expected `object",
    ),
    "JSON lines with too many rows": (
        INVOCATIONS,
        "application/jsonlines",
        b"[1,1,1,1]\n" * 10_001,
        413,
        "at most 10000 rows, got 10001",
    ),
    "MLflow's split frame with a missing column": (
        INVOCATIONS,
        "application/json",
        encode({"dataframe_split": {"columns": ["a", *NAMES[:3]], "data": ROWS}}),
        400,
        r"`petal width \(cm\)` is missing - at `\$.dataframe_split.columns`",
    ),
    "MLflow's split frame with a word in a column of the model": (
        INVOCATIONS,
        "application/json",
        encode({"dataframe_split": {"columns": ["a", *NAMES], "data": [[1, "x", 2, 3, 4]]}}),
        400,
        r"Expected `float`, got `str` - at `\$.dataframe_split.data\[0\]\[1\]`",
    ),
    "MLflow's records with a missing column": (
        INVOCATIONS,
        "application/json",
        encode({"dataframe_records": [{"sepal width": 1}]}),
        400,
        r"missing required field `sepal length \(cm\)` - at `\$.dataframe_records\[0\]`",
    ),
    "MLflow's records with a repeated key in a further column": (
        INVOCATIONS,
        "application/json",
        encode({"dataframe_records": NAMED_ROWS}).replace(b"}]", b', "x": {"y": 1, "y": 2}}]'),
        400,
        "Object contains field `y` twice",
    ),
    "Azure's automated ML with another method": (
        SCORE,
        "application/json",
        encode({"data": ROWS, "method": "decision_function"}),
        400,
        r"Invalid enum value 'decision_function' - at `\$.method`",
    ),
    "KServe's instances with further columns": (
        "/v1/models/iris:predict",
        "application/json",
        encode({"instances": WIDE_RECORDS}),
        400,
        "Object contains unknown field `id`",
    ),
    "TensorFlow Serving's inputs with further columns": (
        "/v1/models/iris:predict",
        "application/json",
        encode({"inputs": WIDE_COLUMNS}),
        400,
        "Object contains unknown field `id`",
    ),
}

"""Rows in a body of CSV, with or without a header.

CSV does not say whether it has a header. MLflow sends one, SageMaker does not, and the parameter
`header` of the media type (RFC 4180) settles it for those who set it.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from serving.api.json_body import Number
from serving.api.rows import RowDecoder
from serving.api.values import parse_csv_field, read_number
from serving.model.arrays import Rows
from serving.model.card import FeatureInfo
from serving.model.errors import InvalidInput

HEADER_PARAMETERS = ("present", "absent")
# Two numbers at the beginning may as well be a row.
MIN_NUMBERED_COLUMNS = 3


def decode_csv(decoder: RowDecoder, body: bytes, header: str | None = None) -> tuple[Rows, bool]:
    """Return the rows of a CSV body, of shape (rows, features), and whether it has a header.

    `header` is "present", "absent", or None if nothing is said. Then the first line is a header if
    it has the names of the features, the numbers from 0 that pandas writes for columns without a
    name, or no field that is a number. Raises InvalidInput.
    """
    records = read_csv(body)
    has_header = bool(records) and _has_header(decoder, records, header)
    columns: Sequence[str | int] = range(decoder.width)
    if has_header:
        columns = [read_index(field) for field in records.pop(0)]
    order = decoder.column_order(columns, "line 1")

    rows: list[list[Any]]
    if decoder.is_plain_numbers:
        rows = read_numbers(records)
    else:
        features: list[FeatureInfo | None] = [None] * len(columns)
        for column, feature in zip(order, decoder.signature.features, strict=True):
            features[column] = feature
        rows = []
        for record in records:
            decoder.check_width(record, f"$[{len(rows)}]", len(columns))
            rows.append(list(map(parse_csv_field, record, features)))
    # Text is refused where a number is expected, but the message for nan and inf is about numbers.
    strict = not decoder.is_plain_numbers
    return decoder.table_to_array(rows, order, len(columns), "$", strict=strict), has_header


def read_index(field: str) -> str | int:
    """Return a field of a header as the number that it is, or as a name."""
    stripped = field.strip()
    if stripped.isdecimal():
        return int(stripped)
    return stripped


def read_numbers(records: list[list[str]]) -> list[list[Any]]:
    """Return the records with numbers in place of those fields that JSON would write otherwise."""
    try:
        return msgspec.convert(records, list[list[Number]], strict=False)
    except msgspec.ValidationError:
        return [list(map(read_number, record)) for record in records]


def read_csv(body: bytes) -> list[list[str]]:
    """Return the fields of each line of a CSV body. Raises InvalidInput."""
    try:
        text = io.StringIO(body.decode("utf-8-sig").rstrip(), newline="")
        return list(csv.reader(text, skipinitialspace=True, strict=True))
    except UnicodeDecodeError as error:
        raise InvalidInput("The body is not UTF-8") from error
    except csv.Error as error:
        raise InvalidInput(f"CSV is malformed: {error}") from error


def encode_csv(lines: Iterable[Sequence[Any]]) -> str:
    """Return lines of CSV; a field for None is empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _has_header(decoder: RowDecoder, records: list[list[str]], header: str | None) -> bool:
    """Return whether the first record of a body is a header."""
    if header is not None:
        if header not in HEADER_PARAMETERS:
            expected = " or ".join(HEADER_PARAMETERS)
            raise InvalidInput(f"Expected {expected} for the parameter `header` of Content-Type")
        return header == "present"

    fields = [field.strip() for field in records[0]]
    if decoder.features and set(decoder.features) <= set(fields):
        return True
    is_numbered = fields == list(map(str, range(decoder.width)))
    if is_numbered and len(fields) >= MIN_NUMBERED_COLUMNS and len(records) > 1:
        return True

    if decoder.is_plain_numbers:
        # float() also reads nan and inf, which are no names.
        return not any(map(_is_float, fields))
    if len(fields) != decoder.width:
        return False

    number_fields = []
    for field, feature in zip(fields, decoder.signature.features, strict=True):
        if feature.type in ("number", "integer"):
            number_fields.append(field)
    return bool(number_fields) and not any(
        field == "" or _is_float(field) for field in number_fields
    )


def _is_float(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True

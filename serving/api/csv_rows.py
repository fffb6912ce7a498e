"""Rows in a body of CSV, with or without a header."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from serving.api.json_body import Number
from serving.api.rows import RowDecoder
from serving.api.values import parse_csv_field, read_number
from serving.model.arrays import Rows
from serving.model.errors import InvalidInput


def decode_csv(decoder: RowDecoder, body: bytes) -> tuple[Rows, bool]:
    """Return the rows of a CSV body, of shape (rows, features), and whether it has a header.

    The first line is a header if it has the names of the features, the numbers from 0 that pandas
    writes for columns without a name, or no field that is a number. Raises InvalidInput.
    """
    records = read_csv(body)
    order = list(range(decoder.width))
    has_header = bool(records) and _is_header(decoder, records)
    if has_header:
        header = [read_index(field) for field in records.pop(0)]
        order = decoder.column_order(header, "line 1")
    if decoder.is_plain_numbers:
        return decoder.ordered_to_array(read_numbers(records), order, "$", strict=False), has_header

    features = [decoder.signature.features[order.index(column)] for column in sorted(order)]
    rows: list[list[Any]] = []
    for record in records:
        decoder.check_width(record, f"$[{len(rows)}]")
        rows.append(list(map(parse_csv_field, record, features)))
    return decoder.ordered_to_array(rows, order, "$", strict=False), has_header


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


def _is_header(decoder: RowDecoder, records: list[list[str]]) -> bool:
    """Return whether the first record of a body is a header."""
    fields = [field.strip() for field in records[0]]
    if set(fields) == set(decoder.features):
        return True
    is_numbered = fields == list(map(str, range(decoder.width)))
    if is_numbered and len(fields) > 1 and len(records) > 1:
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

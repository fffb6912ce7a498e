"""Rows in a body of CSV, with or without a header."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from serving.api.json_body import Number
from serving.api.rows import RowDecoder
from serving.api.values import parse_csv_field
from serving.model.arrays import Rows
from serving.model.errors import InvalidInput


def decode_csv(decoder: RowDecoder, body: bytes) -> tuple[Rows, bool]:
    """Return the rows of a CSV body, of shape (rows, features), and whether it has a header.

    The first line is a header if it has the names of the features, or a field that is no value of
    its feature. Raises InvalidInput.
    """
    records = read_csv(body)
    order = list(range(decoder.width))
    has_header = bool(records) and _is_header(decoder, records[0])
    if has_header:
        order = decoder.column_order(records.pop(0), "line 1")
    if decoder.is_plain_numbers:
        return decoder.ordered_to_array(records, order, "$", strict=False), has_header

    features = [decoder.signature.features[order.index(column)] for column in sorted(order)]
    rows: list[list[str | None]] = []
    for record in records:
        decoder.check_width(record, f"$[{len(rows)}]")
        rows.append(list(map(parse_csv_field, record, features)))
    return decoder.ordered_to_array(rows, order, "$", strict=False), has_header


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


def _is_header(decoder: RowDecoder, fields: list[str]) -> bool:
    if decoder.is_plain_numbers:
        return not _are_numbers(fields)

    if set(fields) == set(decoder.features):
        return True
    if len(fields) != decoder.width:
        return False
    for text, feature, value_type in zip(
        fields, decoder.signature.features, decoder.value_types, strict=True
    ):
        value = parse_csv_field(text, feature)
        try:
            msgspec.convert(value, value_type, strict=False)
        except msgspec.ValidationError:
            return True
    return False


def _are_numbers(fields: list[str]) -> bool:
    try:
        msgspec.convert(fields, list[Number], strict=False)
    except msgspec.ValidationError:
        return False
    return True

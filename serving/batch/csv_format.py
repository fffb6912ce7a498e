"""The format of a CSV file: how it is told, or what its first lines show."""

import codecs
import csv
import io
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from serving.batch.names import match_features
from serving.batch.stats import BatchError

DELIMITERS = ",;\t|"
SAMPLE_LINES = 100
NUMBER = re.compile(r"\s*[-+]?[0-9]*[.,]?[0-9]+(e[-+]?[0-9]+)?\s*", re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"\s*[-+]?[0-9]*,[0-9]+(e[-+]?[0-9]+)?\s*", re.IGNORECASE)
DECIMAL_POINT = re.compile(r"\s*[-+]?[0-9]+\.[0-9]+(e[-+]?[0-9]+)?\s*", re.IGNORECASE)

UTF_16_BY_MARK = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


class ReadOptions(msgspec.Struct, frozen=True):
    """What the command line says about the inputs; None is for what a file shows itself."""

    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    has_header: bool = True
    renames: dict[str, str] = {}


class CsvFormat(msgspec.Struct, frozen=True):
    """The format of a CSV file; `notes` are what was guessed."""

    delimiter: str = ","
    decimal: str = "."
    has_header: bool = True
    encoding: str = "utf-8"
    ends_with_cr: bool = False  # lines end with carriage returns alone
    notes: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Return whether the file is UTF-8 with line feeds, as it is read."""
        return self.encoding == "utf-8" and not self.ends_with_cr

    def encode(self, payload: Any) -> bytes:
        """Return UTF-8 with line feeds as bytes of the file."""
        text = bytes(payload)
        if self.ends_with_cr:
            text = text.replace(b"\n", b"\r")
        if self.encoding != "utf-8":
            text = text.decode().encode(self.encoding)
        return text


def detect_encoding(start: bytes, options: ReadOptions) -> str:
    """Return the encoding of a file that starts with these bytes."""
    encoding = codecs.lookup(options.encoding or "utf-8").name.removesuffix("-sig")
    if encoding not in ("utf-8", "utf-16"):
        return encoding
    default = encoding.replace("utf-16", "utf-16-le")
    return UTF_16_BY_MARK.get(start[:2], default)


def detect_format(
    sample: bytes, encoding: str, ends_with_cr: bool, features: Sequence[str], options: ReadOptions
) -> CsvFormat:
    """Return the format of a file whose first lines are `sample`, in UTF-8 with line feeds."""
    notes = []
    if encoding != "utf-8" and not options.encoding:
        notes.append(f"encoding {encoding}")
    if ends_with_cr:
        notes.append("line ends CR")

    delimiter = options.delimiter
    if delimiter is None:
        delimiter = guess_delimiter(sample, features, options)
        if delimiter != ",":
            notes.append(f"delimiter {delimiter!r}")

    decimal = options.decimal
    if decimal is None:
        decimal = "."
        if delimiter != "," and has_decimal_commas(sample, delimiter, options.has_header):
            decimal = ","
            notes.append("decimal comma")
    return CsvFormat(delimiter, decimal, options.has_header, encoding, ends_with_cr, tuple(notes))


def guess_delimiter(sample: bytes, features: Sequence[str], options: ReadOptions) -> str:
    """Return the delimiter with which the first line has most features, or else most fields.

    Without a header it is the one with a field for each feature.
    """

    def score(delimiter: str) -> tuple[int, bool, int]:
        first_rows = read_rows(sample, delimiter, 1) or [[]]
        names = [options.renames.get(name, name) for name in first_rows[0]]
        is_row = not options.has_header and len(names) == len(features)
        return len(match_features(features, names)), is_row, len(names)

    return max(DELIMITERS, key=score)


def has_decimal_commas(sample: bytes, delimiter: str, has_header: bool) -> bool:
    """Return whether numbers in the sample have a comma, and none has a point."""
    rows = read_rows(sample, delimiter, SAMPLE_LINES)
    if has_header:
        rows = rows[1:]
    fields = [field for row in rows for field in row]
    has_point = any(map(DECIMAL_POINT.fullmatch, fields))
    return not has_point and any(map(DECIMAL_COMMA.fullmatch, fields))


def read_rows(sample: bytes, delimiter: str, n_rows: int) -> list[list[str]]:
    """Return the fields of the first lines that are not blank."""
    text = io.StringIO(sample.decode("utf-8-sig", errors="replace"), newline="")
    reader = filter(None, csv.reader(text, delimiter=delimiter))
    rows = []
    for row, _ in zip(reader, range(n_rows), strict=False):
        rows.append(row)
    return rows


def read_column_names(header: bytes, delimiter: str) -> list[str]:
    """Return the names in the first line of a CSV file. Raises BatchError."""
    try:
        text = header.decode("utf-8-sig").rstrip("\r")
        [names] = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    except (ValueError, csv.Error) as error:
        raise BatchError("line 1: expected the names of columns, in UTF-8") from error
    return names


def format_csv_row(row: Sequence[object], delimiter: str = ",") -> str:
    """Return a line of CSV, without its line end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="", delimiter=delimiter).writerow(row)
    return text.getvalue()

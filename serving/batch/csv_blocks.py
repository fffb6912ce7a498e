"""Scoring of CSV: the features of a block are parsed, its lines are kept as they were written."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from serving.batch.columns import InputColumns
from serving.batch.csv_format import NUMBER, CsvFormat, format_csv_row, read_column_names
from serving.batch.csv_lines import join_columns, select_fields, split_lines
from serving.batch.csv_values import PARSER_WORDS, nullify_missing, read_values
from serving.batch.features import (
    MAX_QUOTED_LENGTH,
    Reasons,
    describe_bad_value,
    find_failing_indices,
    value_kind,
)
from serving.batch.names import unique_names
from serving.batch.scoring import ScoredRows, Scorer, append_predictions
from serving.batch.stats import BadRow, BatchError, BatchStats
from serving.batch.tables import DEFAULT_COMPRESSION

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class CsvScorer:
    """Score blocks of a CSV file, each of which starts with the line end before its first line.

    The result of a block is a table if `as_table`, or else the bytes of its lines with the output
    columns appended. `constants` are columns that the file has not, with one value for all rows.
    """

    def __init__(
        self,
        scorer: Scorer,
        csv_format: CsvFormat,
        first_line: bytes,
        as_table: bool,
        constants: Mapping[str, str | None],
    ) -> None:
        self.scorer = scorer
        self.format = csv_format
        self.as_table = as_table
        self.metadata = scorer.metadata
        self.compression = DEFAULT_COMPRESSION
        self.empty_block = b""

        written_names = read_column_names(first_line, csv_format.delimiter)
        if not csv_format.has_header:
            # The features in the order of the model card, then columns without a name.
            unnamed = [""] * len(written_names)
            written_names = [*scorer.model.features, *unnamed][: len(unnamed)]
        self.names = unique_names(written_names)
        try:
            self.columns = InputColumns(scorer, self.names, constants, written_names)
        except BatchError as error:
            if csv_format.has_header and any(map(NUMBER.fullmatch, self.names)):
                hint = "if the first line has values, use --no-header"
                raise BatchError(f"{error}; {hint}") from error
            raise
        self.notes = (*csv_format.notes, *self.columns.notes)
        self.header = b""
        if csv_format.has_header:
            self.header = self._output_header(first_line)

        self.types = dict.fromkeys(self.names, pa.string())
        for name, feature in self.columns.features.items():
            self.types[name] = value_kind(feature).arrow_type
        parsed = set(self.columns.features)
        if as_table:
            parsed.update(self.columns.kept)
        # Without a column the parser would count no rows.
        self.parsed_columns = [name for name in self.names if name in parsed] or self.names[:1]

    def __call__(self, block: bytes) -> tuple[Any, BatchStats]:
        """Return the block with its predictions, and its counts."""
        wrong_width_rows: Reasons = {}
        reasons: Reasons = {}
        table = self._parse_block(block, wrong_width_rows, reasons)

        features = [self._feature_column(table, name) for name in self.columns.features]
        scored = self.scorer.score_columns(features, reasons)
        stats = scored.stats
        stats.rows += len(wrong_width_rows)
        stats.lines = block.count(b"\n")

        has_bad_rows = bool(wrong_width_rows or stats.bad_rows)
        lines: Any = None
        # Split tables too if they hold quotation marks, in order to find unbalanced ones.
        if not self.as_table or has_bad_rows or b'"' in block:
            lines, line_numbers = split_lines(block, stats.rows)
        if has_bad_rows:
            parsed = np.ones(stats.rows, bool)
            parsed[list(wrong_width_rows)] = False
            stats.set_bad_rows(
                locate_bad_rows(stats.bad_rows, wrong_width_rows, parsed, line_numbers)
            )
            lines = lines.filter(pa.array(parsed))

        if self.as_table:
            return append_predictions(self.columns.select(table), scored), stats
        return self._append_to_lines(lines, scored), stats

    def _output_header(self, header: bytes) -> bytes:
        mark = BYTE_ORDER_MARK * int(header.startswith(BYTE_ORDER_MARK))
        line = pa.array([b"\n" + header.removeprefix(mark)]).cast(pa.string())
        names = format_csv_row(self.scorer.output_columns, self.format.delimiter)
        constants = {name: name for name in self.columns.constants}
        return mark + bytes(self._join_columns(line, [pa.array([names])], constants))[1:]

    def _feature_column(self, table: Any, name: str) -> Any:
        if name in self.columns.constants:
            return self.columns.constant_feature(name, len(table))
        column = table.column(name)
        if column.type == pa.string():
            return nullify_missing(column, self.columns.features[name])
        return column

    def _append_to_lines(self, lines: Any, scored: ScoredRows) -> Any:
        if not scored.keep_mask.all():
            lines = lines.filter(pa.array(scored.keep_mask))
        suffixes = self.scorer.csv_suffixes(scored.columns, self.format)
        return self._join_columns(lines, suffixes, self.columns.constants)

    def _join_columns(
        self, lines: Any, suffixes: list[Any], constants: Mapping[str, str | None]
    ) -> Any:
        """Return lines, or the fields of them that are kept, with constants and suffixes."""
        delimiter = self.format.delimiter
        kept = self.columns.kept
        with_lines = self.scorer.keep is None
        indices = []
        if not with_lines:
            indices = [self.names.index(name) for name in kept if name in self.names]
        fields = select_fields(lines, indices, delimiter)

        columns = []
        for name in kept:
            if name in constants:
                field = constants[name]
                if field:
                    field = format_csv_row([field], delimiter)
                columns.append(pa.scalar(field, pa.string()))
            elif not with_lines:
                columns.append(fields[self.names.index(name)])
        return join_columns(lines, [*columns, *suffixes], delimiter, with_lines)

    def _parse_block(self, block: bytes, wrong_width_rows: Reasons, reasons: Reasons) -> Any:
        try:
            return self._parse(block, self.types, wrong_width_rows)
        except pa.ArrowInvalid:
            # The error names one row of the first column only. Each column is read on its own.
            bytes_types = dict.fromkeys(self.names, pa.binary())
            table = self._parse(block, bytes_types, wrong_width_rows)

        columns = {}
        for name in table.column_names:
            column = table.column(name).combine_chunks()
            columns[name] = self._read_column(name, column, reasons)
        return pa.table(columns)

    def _parse(self, block: bytes, types: dict[str, Any], wrong_width_rows: Reasons) -> Any:
        def skip_row(row: Any) -> str:
            wrong_width_rows[row.number - 1] = (
                f"expected {row.expected_columns} values, got {row.actual_columns}"
            )
            return "skip"

        return pyarrow.csv.read_csv(
            pa.BufferReader(block or b"\n"),
            pyarrow.csv.ReadOptions(
                use_threads=False, column_names=self.names, block_size=len(block) + 1
            ),
            pyarrow.csv.ParseOptions(delimiter=self.format.delimiter, invalid_row_handler=skip_row),
            pyarrow.csv.ConvertOptions(
                column_types=types,
                include_columns=self.parsed_columns,
                decimal_point=self.format.decimal,
                **PARSER_WORDS,
            ),
        )

    def _read_column(self, name: str, column: Any, reasons: Reasons) -> Any:
        """Return a column of bytes in its type; a value that is none is null and has a reason."""
        is_bad = np.zeros(len(column), bool)
        is_bad[
            find_failing_indices(
                lambda span: column[span].cast(pa.string()), len(column), pa.ArrowInvalid
            )
        ] = True
        values = pc.if_else(pa.array(is_bad), None, column).cast(pa.string())

        expected = "UTF-8"
        if self.types[name] != pa.string():
            feature = self.columns.features[name]
            expected = value_kind(feature).one_value
            values, is_no_value = read_values(values, feature, self.format.decimal)
            is_bad |= is_no_value.to_numpy(zero_copy_only=False)

        for row in np.flatnonzero(is_bad).tolist():
            text = column[row].as_py()[:MAX_QUOTED_LENGTH].decode(errors="replace")
            reasons.setdefault(row, describe_bad_value(name, expected, repr(text)))
        return values


def locate_bad_rows(
    bad_rows: Any,
    wrong_width_rows: Reasons,
    parsed: NDArray[np.bool_],
    line_numbers: NDArray[np.int64],
) -> list[BadRow]:
    """Return all bad rows of a block in order, with their place among all its rows and lines.

    `bad_rows` are counted among the rows that were `parsed`, `wrong_width_rows` among all rows.
    """
    parsed_indices = np.flatnonzero(parsed)
    reasons = dict(wrong_width_rows)
    for bad_row in bad_rows:
        reasons[int(parsed_indices[bad_row.row])] = bad_row.reason
    return [BadRow(row, int(line_numbers[row]), reasons[row]) for row in sorted(reasons)]

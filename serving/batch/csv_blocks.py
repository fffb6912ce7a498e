"""Scoring of CSV: the features of a block are parsed, its lines are kept as they were written."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from serving.batch.columns import unique_names
from serving.batch.csv_format import CsvFormat, format_csv_row, read_column_names
from serving.batch.csv_lines import join_columns, select_fields, split_lines
from serving.batch.features import (
    MAX_QUOTED_LENGTH,
    NULL_VALUES,
    Reasons,
    column_type,
    constant_column,
    describe_bad_value,
    find_failing_indices,
    missing_texts,
    value_kind,
)
from serving.batch.scoring import ScoredRows, Scorer, append_predictions, select_columns
from serving.batch.stats import BadRow, BatchStats
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
        constants: Mapping[str, str | None] | None = None,
    ) -> None:
        self.scorer = scorer
        self.format = csv_format
        self.as_table = as_table
        self.constants = constants or {}
        self.metadata = scorer.metadata
        self.compression = DEFAULT_COMPRESSION

        written_names = read_column_names(first_line, csv_format.delimiter)
        if not csv_format.has_header:
            # The features in the order of the model card, then columns without a name.
            unnamed = [""] * len(written_names)
            written_names = [*scorer.model.features, *unnamed][: len(unnamed)]
        self.names = unique_names(written_names)
        columns, notes = scorer.match_columns(written_names, self.names, self.constants)
        self.notes = (*csv_format.notes, *notes)
        self.passthrough_columns = scorer.passthrough_columns(self.names)
        self.header = b""
        if csv_format.has_header:
            self.header = self._output_header(first_line)

        features = scorer.model.signature.features
        self.features = {columns[feature.name]: feature for feature in features}
        self.types = {name: pa.string() for name in self.names}
        self.types |= {name: column_type(feature) for name, feature in self.features.items()}
        self.byte_types = {name: pa.binary() for name in self.names}
        self.parsed_columns = [name for name in self.features if name not in self.constants]
        if as_table:
            self.parsed_columns += self.passthrough_columns
        # Without a column the parser would count no rows.
        self.parsed_columns = list(dict.fromkeys(self.parsed_columns)) or self.names[:1]

    def __call__(self, block: bytes) -> tuple[Any, BatchStats]:
        """Return the block with its predictions, and its counts."""
        wrong_width_rows: Reasons = {}
        reasons: Reasons = {}
        table = self._parse_block(block, wrong_width_rows, reasons)

        features = [self._feature_column(table, name) for name in self.features]
        scored = self.scorer.score(self.scorer.to_rows(features, reasons), reasons)
        stats = scored.stats
        stats.rows += len(wrong_width_rows)
        stats.lines = block.count(b"\n")

        has_bad_rows = bool(wrong_width_rows or stats.bad_rows)
        lines: Any = None
        # Split tables too if they hold quotation marks, in order to find unbalanced ones.
        if not self.as_table or has_bad_rows or b'"' in block:
            lines, line_numbers = split_lines(block, stats.rows)
        if has_bad_rows:
            parsed = mask_without(wrong_width_rows, stats.rows)
            stats.set_bad_rows(
                locate_bad_rows(stats.bad_rows, wrong_width_rows, parsed, line_numbers)
            )
            lines = lines.filter(pa.array(parsed))

        if self.as_table:
            kept = select_columns(table, self.passthrough_columns, self.constants)
            return append_predictions(kept, scored), stats
        return self._append_to_lines(lines, scored), stats

    def _output_header(self, header: bytes) -> bytes:
        mark = BYTE_ORDER_MARK * int(header.startswith(BYTE_ORDER_MARK))
        names = format_csv_row(self.scorer.output_columns, self.format.delimiter)
        line = pa.array([b"\n" + header.removeprefix(mark)]).cast(pa.string())
        constant_names = {name: name for name in self.constants}
        return mark + bytes(self._join_columns(line, [pa.array([names])], constant_names))[1:]

    def _feature_column(self, table: Any, name: str) -> Any:
        """Return the column of a feature, in which missing texts are null."""
        feature = self.features[name]
        if name in self.constants:
            return constant_column(feature, self.constants[name], len(table))

        column = table.column(name)
        missing = missing_texts(feature)
        if column.type != pa.string() or not missing:
            return column
        is_missing = pc.is_in(pc.utf8_trim_whitespace(column), pa.array(missing))
        return pc.if_else(is_missing, None, column)

    def _append_to_lines(self, lines: Any, scored: ScoredRows) -> Any:
        if not scored.keep_mask.all():
            lines = lines.filter(pa.array(scored.keep_mask))
        suffixes = self.scorer.csv_suffixes(scored.columns, self.format)
        return self._join_columns(lines, suffixes, self.constants)

    def _join_columns(
        self, lines: Any, suffixes: list[Any], constants: Mapping[str, str | None]
    ) -> Any:
        """Return lines, or the fields of them that are kept, with suffixes."""
        delimiter = self.format.delimiter
        if self.scorer.keep is None:
            return join_columns(lines, suffixes, delimiter)

        indices = [self.names.index(name) for name in self.scorer.keep if name in self.names]
        fields = dict(zip(indices, select_fields(lines, indices, delimiter), strict=True))
        columns = []
        for name in self.scorer.keep:
            if name in self.names:
                columns.append(fields[self.names.index(name)])
            else:
                columns.append(pa.scalar(constants[name], pa.string()))
        return join_columns(lines, [*columns, *suffixes], delimiter, with_lines=False)

    def _parse_block(self, block: bytes, wrong_width_rows: Reasons, reasons: Reasons) -> Any:
        try:
            return self._parse(block, self.types, wrong_width_rows)
        except pa.ArrowInvalid:
            # The error names one row of the first column only. Each column is cast on its own.
            table = self._parse(block, self.byte_types, wrong_width_rows)

        for i, name in enumerate(table.column_names):
            column = table.column(name).combine_chunks()
            table = table.set_column(i, name, self._cast_valid_values(name, column, reasons))
        return table

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
                null_values=NULL_VALUES,
                decimal_point=self.format.decimal,
            ),
        )

    def _cast_valid_values(self, name: str, column: Any, reasons: Reasons) -> Any:
        target = self.types[name]
        texts = column
        if target != pa.string():
            texts = as_value_texts(column, self.format.decimal)

        failing = find_failing_indices(
            lambda span: texts[span].cast(target), len(texts), (pa.ArrowInvalid,)
        )
        for i in failing:
            value = column[i].as_py()[:MAX_QUOTED_LENGTH].decode(errors="replace")
            expected = "UTF-8"
            if target != pa.string():
                expected = value_kind(self.features[name])
            reasons.setdefault(i, describe_bad_value(name, expected, repr(value)))

        is_failing = np.zeros(len(texts), bool)
        is_failing[failing] = True
        return pc.if_else(pa.array(is_failing), None, texts).cast(target)


def as_value_texts(column: Any, decimal: str) -> Any:
    """Return a column of bytes as the parser reads values: without white space, and with nulls."""
    any_text = pc.CastOptions(pa.string(), allow_invalid_utf8=True)
    texts = pc.ascii_trim_whitespace(pc.cast(column, options=any_text))
    if decimal != ".":
        texts = pc.replace_substring(texts, decimal, ".")
    return pc.if_else(pc.is_in(texts, pa.array(NULL_VALUES)), None, texts)


def mask_without(rows: Reasons, n_rows: int) -> NDArray[np.bool_]:
    """Return a mask of `n_rows` rows that leaves out `rows`."""
    mask = np.ones(n_rows, bool)
    mask[list(rows)] = False
    return mask


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

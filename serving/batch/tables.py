"""Scoring of Arrow tables, as Parquet files hold them."""

from typing import Any

import pyarrow as pa

from serving.batch.scoring import Reasons, Scorer, append_predictions
from serving.batch.stats import BatchError, BatchStats

DEFAULT_COMPRESSION = "snappy"


class ArrowScorer:
    """Score tables of one Parquet file, with its schema and its metadata."""

    def __init__(self, scorer: Scorer, schema: Any, file_metadata: Any) -> None:
        scorer.check_columns(schema.names)
        self.scorer = scorer
        self.metadata = (schema.metadata or {}) | scorer.metadata
        self.compression = DEFAULT_COMPRESSION
        if file_metadata.num_row_groups:
            self.compression = file_metadata.row_group(0).column(0).compression

        self.feature_types = {name: number_type(schema, name) for name in scorer.model.features}
        self.passthrough_columns = scorer.passthrough_columns(schema.names)
        self.columns = list(dict.fromkeys([*self.passthrough_columns, *scorer.model.features]))

    def __call__(self, table: Any) -> tuple[Any, BatchStats]:
        """Return the table with its predictions, and its counts."""
        numbers = []
        for name, column_type in self.feature_types.items():
            # A dictionary is cast to its values first; decimals and integers may be rounded.
            column = table.column(name).cast(column_type)
            numbers.append(column.cast(pa.float64(), safe=False))

        reasons: Reasons = {}
        rows = self.scorer.to_matrix(numbers, reasons)
        scored = self.scorer.score(rows, reasons)
        return append_predictions(table.select(self.passthrough_columns), scored), scored.stats


def number_type(schema: Any, name: str) -> Any:
    """Return the type of a column of numbers, or of the values in its dictionary.

    Raises BatchError for another type.
    """
    column_type = schema.field(name).type
    if pa.types.is_dictionary(column_type):
        column_type = column_type.value_type
    is_number = (
        pa.types.is_integer(column_type)
        or pa.types.is_floating(column_type)
        or pa.types.is_decimal(column_type)
    )
    if not is_number:
        raise BatchError(f"column {name!r}: expected numbers, got {column_type}")
    return column_type

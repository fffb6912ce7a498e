"""Scoring of Arrow tables, as Parquet files hold them."""

from collections.abc import Mapping
from typing import Any

from serving.batch.columns import InputColumns
from serving.batch.features import cast_column
from serving.batch.scoring import Scorer, append_predictions
from serving.batch.stats import BatchError, BatchStats

DEFAULT_COMPRESSION = "snappy"


class ArrowScorer:
    """Score tables of one Parquet file, with its schema and its metadata."""

    def __init__(
        self,
        scorer: Scorer,
        schema: Any,
        file_metadata: Any,
        constants: Mapping[str, str | None],
    ) -> None:
        self.scorer = scorer
        self.metadata = (schema.metadata or {}) | scorer.metadata
        self.compression = DEFAULT_COMPRESSION
        if file_metadata.num_row_groups:
            compression = file_metadata.row_group(0).column(0).compression
            # What a file without compression calls it is not what its writer is asked with.
            self.compression = compression.replace("UNCOMPRESSED", "NONE")

        for name in schema.names:
            if schema.names.count(name) > 1:
                raise BatchError(f"column {name!r} occurs {schema.names.count(name)} times")
        self.columns = InputColumns(scorer, schema.names, constants)
        needed = {*self.columns.kept, *self.columns.features}
        self.parsed_columns = [name for name in schema.names if name in needed]
        self.empty_block = schema.empty_table()
        self(self.empty_block)  # columns of a wrong type are an error before the first row

    def __call__(self, table: Any) -> tuple[Any, BatchStats]:
        """Return the table with its predictions, and its counts. Raises BatchError."""
        features = []
        for name, feature in self.columns.features.items():
            if name in self.columns.constants:
                features.append(self.columns.constant_feature(name, len(table)))
            else:
                features.append(cast_column(table.column(name), feature))

        scored = self.scorer.score_columns(features, {})
        return append_predictions(self.columns.select(table), scored), scored.stats

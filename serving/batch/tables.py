"""Scoring of Arrow tables, as Parquet files hold them."""

from collections.abc import Mapping
from typing import Any

from serving.batch.features import Reasons, cast_column, constant_column
from serving.batch.scoring import Scorer, append_predictions, select_columns
from serving.batch.stats import BatchError, BatchStats

DEFAULT_COMPRESSION = "snappy"


class ArrowScorer:
    """Score tables of one Parquet file, with its schema and its metadata."""

    def __init__(
        self,
        scorer: Scorer,
        schema: Any,
        file_metadata: Any,
        constants: Mapping[str, str | None] | None = None,
    ) -> None:
        self.scorer = scorer
        self.constants = constants or {}
        self.metadata = (schema.metadata or {}) | scorer.metadata
        self.compression = DEFAULT_COMPRESSION
        if file_metadata.num_row_groups:
            compression = file_metadata.row_group(0).column(0).compression
            # What a file without compression calls it is not what its writer is asked with.
            self.compression = compression.replace("UNCOMPRESSED", "NONE")

        for name in schema.names:
            if schema.names.count(name) > 1:
                raise BatchError(f"column {name!r} occurs {schema.names.count(name)} times")
        columns, self.notes = scorer.match_columns(schema.names, schema.names, self.constants)
        features = scorer.model.signature.features
        self.features = {columns[feature.name]: feature for feature in features}
        self.passthrough_columns = scorer.passthrough_columns(schema.names)
        needed = dict.fromkeys([*self.passthrough_columns, *self.features])
        self.columns = [name for name in needed if name in schema.names]
        self(schema.empty_table())  # columns of a wrong type are an error before the first row

    def __call__(self, table: Any) -> tuple[Any, BatchStats]:
        """Return the table with its predictions, and its counts. Raises BatchError."""
        columns = []
        for name, feature in self.features.items():
            if name in table.column_names:
                columns.append(cast_column(table.column(name), feature))
            else:
                columns.append(constant_column(feature, self.constants[name], len(table)))

        reasons: Reasons = {}
        scored = self.scorer.score(self.scorer.to_rows(columns, reasons), reasons)
        kept = select_columns(table, self.passthrough_columns, self.constants)
        return append_predictions(kept, scored), scored.stats

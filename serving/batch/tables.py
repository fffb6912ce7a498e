"""Scoring of Arrow tables, as Parquet files hold them."""

from typing import Any

from serving.batch.features import Reasons, cast_column
from serving.batch.scoring import Scorer, append_predictions
from serving.batch.stats import BatchStats

DEFAULT_COMPRESSION = "snappy"


class ArrowScorer:
    """Score tables of one Parquet file, with its schema and its metadata."""

    def __init__(self, scorer: Scorer, schema: Any, file_metadata: Any) -> None:
        scorer.check_columns(schema.names)
        self.scorer = scorer
        self.metadata = (schema.metadata or {}) | scorer.metadata
        self.compression = DEFAULT_COMPRESSION
        if file_metadata.num_row_groups:
            compression = file_metadata.row_group(0).column(0).compression
            # What a file without compression calls it is not what its writer is asked with.
            self.compression = compression.replace("UNCOMPRESSED", "NONE")

        self.passthrough_columns = scorer.passthrough_columns(schema.names)
        self.columns = list(dict.fromkeys([*self.passthrough_columns, *scorer.model.features]))
        self(schema.empty_table())  # columns of a wrong type are an error before the first row

    def __call__(self, table: Any) -> tuple[Any, BatchStats]:
        """Return the table with its predictions, and its counts. Raises BatchError."""
        features = self.scorer.model.signature.features
        columns = [cast_column(table.column(feature.name), feature) for feature in features]

        reasons: Reasons = {}
        scored = self.scorer.score(self.scorer.to_rows(columns, reasons), reasons)
        return append_predictions(table.select(self.passthrough_columns), scored), scored.stats

"""Scoring of NDJSON: lines with one JSON object each, which are kept as they were written."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from serving.api.decoders import PredictDecoder
from serving.api.rows import RowDecoder
from serving.batch.features import Reasons
from serving.batch.scoring import ScoredRows, Scorer
from serving.batch.stats import BadRow, BatchError, BatchStats
from serving.model.arrays import Rows
from serving.model.card import FeatureValue
from serving.model.errors import InvalidInput


class Body(msgspec.Struct):
    """A body of POST /predict, which may have members of its own beside the row."""

    features: msgspec.Raw


class NdjsonScorer:
    """Score lines of JSON objects that have the features among their members."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.signature = scorer.model.signature
        row_decoder = RowDecoder(scorer.model)
        self.decoder: Any = msgspec.json.Decoder(row_decoder.record)
        self.body_decoder = PredictDecoder(row_decoder)
        # Stands for a row that is bad, and is not predicted.
        self.placeholder = tuple(scorer.reference_features)

        self.output_members = ["prediction"]
        if scorer.model.labels:
            self.output_members.append("label")
        if scorer.proba:
            self.output_members.append("probability")
        self.quoted_features = [msgspec.json.encode(name) for name in scorer.model.features]
        self.quoted_outputs = [msgspec.json.encode(name) for name in self.output_members]

    def __call__(self, block: bytes) -> tuple[bytes, BatchStats]:
        """Return each line with its prediction, after a line end as in `block`, and the counts."""
        lines = []
        line_numbers = []
        for number, line in enumerate(block.split(b"\n")):
            stripped = line.strip()
            if stripped:
                lines.append(stripped)
                line_numbers.append(number)

        if not lines:
            return b"", BatchStats(lines=block.count(b"\n"))

        rows, reasons = self.decode_lines(lines)
        scored = self.scorer.score(rows, reasons)
        stats = scored.stats
        stats.lines = block.count(b"\n")
        stats.set_bad_rows(
            [BadRow(row, line_numbers[row], reason) for row, _, reason in stats.bad_rows]
        )
        return self._append_members(lines, scored), stats

    def decode_lines(self, lines: Sequence[bytes]) -> tuple[Rows, Reasons]:
        """Return the rows of lines, and why a row is bad, which is then any good row."""
        decoded = []
        reasons: Reasons = {}
        for i, line in enumerate(lines):
            try:
                decoded.append(self._decode_line(line))
            except (msgspec.MsgspecError, UnicodeDecodeError, BatchError, InvalidInput) as error:
                reasons[i] = str(error)
                decoded.append(self.placeholder)
            except RecursionError:
                reasons[i] = "JSON is nested too deeply"
                decoded.append(self.placeholder)
        return self.signature.to_rows(decoded), reasons

    def _decode_line(self, line: bytes) -> Sequence[FeatureValue]:
        values = self._decode_row(line)
        # Only a line in which a name occurs too often can have a duplicate or an existing output.
        repeats_feature = any(line.count(name) > 1 for name in self.quoted_features)
        if repeats_feature or any(name in line for name in self.quoted_outputs):
            self._check_keys(line)
        return values

    def _decode_row(self, line: bytes) -> Sequence[FeatureValue]:
        try:
            row = self.decoder.decode(line)
        except msgspec.ValidationError as error:
            try:
                body = msgspec.json.decode(line, type=Body)
            except msgspec.ValidationError:
                raise error from None
            rows, _ = self.body_decoder.decode(b'{"features":%b}' % bytes(body.features))
            if len(rows) != 1:
                raise BatchError(f"Expected one row, got {len(rows)} - at `$.features`") from None
            return self.signature.to_values(rows)[0]
        values: tuple[FeatureValue, ...] = msgspec.structs.astuple(row)
        return values

    def _check_keys(self, line: bytes) -> None:
        keys = [key for key, _ in json.loads(line, object_pairs_hook=list)]
        for key in keys:
            if key in self.output_members:
                raise BatchError(f"Object contains field `{key}` already")
            if keys.count(key) > 1:
                raise BatchError(f"Object contains field `{key}` twice")

    def _append_members(self, lines: list[bytes], scored: ScoredRows) -> bytes:
        bad_indices = {bad_row.row for bad_row in scored.stats.bad_rows}
        records = self.output_records(scored)

        scored_lines = []
        for i in np.flatnonzero(scored.keep_mask).tolist():
            record = next(records)
            if i in bad_indices:
                scored_lines.append(self._null_record(lines[i]))
            else:
                members = msgspec.json.encode(record)
                scored_lines.append(lines[i][:-1] + b"," + members[1:])
        return b"".join(b"\n" + line for line in scored_lines)

    def output_records(self, scored: ScoredRows) -> Iterator[dict[str, Any]]:
        """Yield the members that each row which is kept gains."""
        for values in zip(*self._output_values(scored.columns), strict=True):
            yield dict(zip(self.output_members, values, strict=True))

    def _output_values(self, columns: dict[str, Any]) -> list[list[Any]]:
        values = [columns[name].to_pylist() for name in self.scorer.prediction_columns]
        if self.scorer.model.has_several_outputs:
            values = [list(zip(*values, strict=True))]
        if self.scorer.proba:
            by_class = [columns[name].to_pylist() for name in self.scorer.probability_columns]
            values.append(list(zip(*by_class, strict=True)))
        return values

    def _null_record(self, line: bytes) -> bytes:
        nulls = dict.fromkeys(self.output_members)
        try:
            members = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return msgspec.json.encode(nulls)
        return msgspec.json.encode(members | nulls)

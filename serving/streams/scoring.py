"""Scoring of messages: many at once, with an answer for each."""

import logging
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from serving.api.decoders import PredictDecoder
from serving.api.rows import RowDecoder
from serving.batch.ndjson import NdjsonScorer
from serving.batch.scoring import Scorer
from serving.model.errors import InvalidInput
from serving.model.model import Model
from serving.monitoring.prediction_counters import PredictionCounters
from serving.streams.messages import Answer, Message

INTERNAL_ERROR = "Internal Server Error"

log = logging.getLogger(__name__)


@dataclass
class MessageCounts:
    """How many messages were answered, by what became of them."""

    scored: int = 0
    rejected: int = 0  # as a request that is answered 4xx
    failed: int = 0  # as a request that is answered 500

    @property
    def total(self) -> int:
        """Return the number of all messages."""
        return self.scored + self.rejected + self.failed


class MessageScorer:
    """Score messages as `batch.py - -` scores lines, with the error messages of POST /predict."""

    def __init__(self, model: Model, proba: bool, max_body_bytes: int) -> None:
        self.model = model
        self.max_body_bytes = max_body_bytes
        self.counts = MessageCounts()
        self._scorer = Scorer(model, "null", proba, None)
        self._lines = NdjsonScorer(self._scorer)
        self._predict_decoder = PredictDecoder(RowDecoder(model))
        # Rows are counted as those of requests are.
        self._counters: PredictionCounters | None = None

    def count_rows_in(self, counters: PredictionCounters) -> None:
        """Count the rows of messages in these counters."""
        self._counters = counters

    def score(self, messages: list[Message]) -> list[Answer]:
        """Return an answer for each message."""
        try:
            return self._score(messages)
        except Exception:  # of whatever the estimator is made of; a request would be answered 500
            if len(messages) > 1:
                return [answer for message in messages for answer in self.score([message])]
            log.exception("message %s cannot be scored", messages[0].id)
            self.counts.failed += 1
            return [Answer(messages[0], {"error": INTERNAL_ERROR})]

    def _score(self, messages: list[Message]) -> list[Answer]:
        reasons = {}
        bodies = []
        for index, message in enumerate(messages):
            bodies.append(message.body.strip())
            if message.reason:
                reasons[index] = message.reason
            elif len(message.body) > self.max_body_bytes:
                reasons[index] = f"Expected at most {self.max_body_bytes} bytes of body"

        rows, bad_lines = self._lines.decode_lines(
            [b"" if index in reasons else body for index, body in enumerate(bodies)]
        )
        scored = self._scorer.score(rows, bad_lines | reasons)
        for bad_row in scored.stats.bad_rows:
            reasons.setdefault(bad_row.row, self._describe(bodies[bad_row.row], bad_row.reason))
        records = list(self._lines.output_records(scored))

        self._count(rows, records, reasons)
        answers = []
        for index, message in enumerate(messages):
            members = records[index]
            if index in reasons:
                members = {"error": reasons[index]}
            answers.append(Answer(message, members))
        return answers

    def _count(self, rows: Any, records: list[dict[str, Any]], reasons: dict[int, str]) -> None:
        valid = np.ones(len(records), bool)
        valid[list(reasons)] = False
        if self._counters is not None and valid.any():
            predictions = [records[index]["prediction"] for index in np.flatnonzero(valid)]
            self._counters.record(rows[valid], predictions)
        self.counts.scored += int(valid.sum())
        self.counts.rejected += len(reasons)

    def _describe(self, body: bytes, reason: str) -> str:
        """Return what POST /predict says of a body; of a row alone, whose place differs, `reason`.

        The place of a row is that in the message: `$.petal width (cm)`, not `$.features...`.
        """
        try:
            members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            members = {}
        except RecursionError:
            members = {}
            if not body.startswith(b'{"features"'):
                return reason
        if members and "features" not in members:
            return self._describe_row(body, reason)
        if members:
            body = b'{"features":%b}' % bytes(members["features"])
        try:
            rows, _ = self._predict_decoder.decode(body)
            self.model.predict(rows)
        except InvalidInput as error:
            return str(error)
        if len(rows) > 1:
            return f"Expected one row in a message, got {len(rows)} - at `$.features`"
        return reason

    def _describe_row(self, body: bytes, reason: str) -> str:
        rows, bad_lines = self._lines.decode_lines([body])
        if bad_lines:
            return reason
        try:
            self.model.predict(rows)
        except InvalidInput as error:
            return str(error)
        return reason

"""Decoders of request bodies: our own prediction, and the platforms' tables."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from serving.api.csv_rows import encode_csv
from serving.api.json_body import decode_json, reject_duplicate_keys
from serving.api.messages import CSV, JSON, JSON_LINES
from serving.api.rows import RowDecoder, with_json_schema
from serving.model.arrays import Rows
from serving.model.errors import InvalidInput

OutputName = Literal["label", "probability"]


class PredictDecoder:
    """Decode `{"features": ROW or [ROW, ...], "outputs": [...]}`; ROW is an array or an object."""

    def __init__(self, row_decoder: RowDecoder) -> None:
        self.row_decoder = row_decoder
        self.available_outputs = {
            "label": row_decoder.model.has_labels,
            "probability": row_decoder.model.has_probabilities,
        }
        self.request: Any = msgspec.defstruct(
            "PredictRequest",
            [
                ("features", row_decoder.rows_or_row | row_decoder.named),
                ("outputs", list[OutputName] | UnsetType, UNSET),
            ],
            forbid_unknown_fields=True,
        )
        self.decoder = msgspec.json.Decoder(self.request)

    def examples(self) -> dict[str, Any]:
        """Return an example body for each media type."""
        return {JSON: {"features": self.row_decoder.example_row()}}

    def decode(self, body: bytes) -> tuple[Rows, list[OutputName]]:
        """Return the rows, of shape (rows, features), and the requested outputs.

        Raises InvalidInput.
        """
        request = decode_json(
            self.decoder,
            body,
            nan_is_null=self.row_decoder.signature.has_missing,
            names=self.row_decoder.features,
        )
        features = request.features
        outputs: list[OutputName] = []
        n_keys = 1

        if isinstance(features, self.row_decoder.named):
            features = [features]
        if features and isinstance(features[0], self.row_decoder.named):
            n_keys += len(features) * self.row_decoder.width
        if request.outputs is not UNSET:
            outputs = request.outputs
            n_keys += 1

        for i, output in enumerate(outputs):
            if not self.available_outputs[output]:
                raise InvalidInput(f"This model has no {output} - at `$.outputs[{i}]`")
        reject_duplicate_keys(body, n_keys)
        return self.row_decoder.to_array(features, "$.features"), outputs


class TabularDecoder:
    """Decode an object with rows in exactly one of `members`, or bare rows if `allow_bare_rows`.

    Other members of the object are the platform's own and are ignored, except those of
    `parameters`, with their types. With `ignore_extra_columns` a row may have columns that the
    model does not have. `accept_lines` documents that the platform sends lines of CSV or JSON as
    well, which `decode_csv` and `decode_lines` read.
    """

    def __init__(
        self,
        row_decoder: RowDecoder,
        name: str,
        members: tuple[str, ...],
        *,
        parameters: Mapping[str, Any] = MappingProxyType({}),
        allow_bare_rows: bool = False,
        ignore_extra_columns: bool = False,
        accept_lines: bool = False,
    ) -> None:
        self.row_decoder = row_decoder
        self.members = members
        self.accept_lines = accept_lines

        rows = row_decoder.row_list
        columns = row_decoder.columns
        if ignore_extra_columns:
            rows = row_decoder.rows_or_records
            columns = row_decoder.frame
        types = {
            "instances": rows,
            "inputs": rows | columns,
            "dataframe_split": row_decoder.split,
            "dataframe_records": row_decoder.records,
            "data": rows,
            "input_data": row_decoder.split | rows,
        }
        fields: list[tuple[str, Any, Any]] = []
        for member in members:
            fields.append((member, types[member] | UnsetType, UNSET))
        for parameter, value_type in parameters.items():
            fields.append((parameter, value_type | None, None))
        one_member = {"oneOf": [{"required": [member]} for member in members]}
        self.request = with_json_schema(msgspec.defstruct(name, fields), one_member)
        if allow_bare_rows:
            self.request |= row_decoder.unnamed_rows
        self.decoder = msgspec.json.Decoder(self.request)
        self.line_decoder = msgspec.json.Decoder(row_decoder.line)

    def examples(self) -> dict[str, Any]:
        """Return an example body for each media type."""
        row = self.row_decoder.example_row()
        [member] = {"instances", "data"}.intersection(self.members)
        examples: dict[str, Any] = {JSON: {member: [row]}}
        if self.accept_lines:
            examples[CSV] = encode_csv([row]).rstrip("\n")
            examples[JSON_LINES] = msgspec.json.encode(row).decode()
        return examples

    def decode(self, body: bytes) -> tuple[Rows, Any]:
        """Return the rows, of shape (rows, features), and the request, a list for bare rows.

        Raises InvalidInput.
        """
        request = decode_json(
            self.decoder,
            body,
            nan_is_null=self.row_decoder.signature.has_missing,
            names=self.row_decoder.features,
        )
        if isinstance(request, list):
            reject_duplicate_keys(body, 0)
            return self.row_decoder.to_array(request, "$"), request

        reject_duplicate_keys(body, 1)
        present = [member for member in self.members if getattr(request, member) is not UNSET]
        if len(present) != 1:
            expected = ", ".join(self.members)
            actual = " and ".join(present) or "none"
            raise InvalidInput(f"Expected exactly one of {expected}, got {actual} - at `$`")

        [member] = present
        return self.row_decoder.to_array(getattr(request, member), f"$.{member}"), request

    def decode_lines(self, body: bytes) -> Rows:
        """Return the rows of a body with a row of JSON in each line. Raises InvalidInput."""
        rows = decode_json(
            self.line_decoder,
            body,
            lines=True,
            nan_is_null=self.row_decoder.signature.has_missing,
        )
        for line in body.splitlines():
            if line:
                reject_duplicate_keys(line, 0)
        return self.row_decoder.to_array(rows, "$")

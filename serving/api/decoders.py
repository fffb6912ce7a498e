"""Decoders of request bodies: our own prediction, and the platforms' tables."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from serving.api.csv_rows import encode_csv
from serving.api.json_body import decode_json, reject_duplicate_keys
from serving.api.messages import CSV, JSON
from serving.api.rows import RowDecoder, with_json_schema
from serving.model.arrays import Rows
from serving.model.errors import InvalidInput

OutputName = Literal["label", "probability"]


class PredictDecoder:
    """Decode `{"features": ROW or [ROW, ...], "outputs": [...]}`; ROW is an array or an object."""

    def __init__(self, row_decoder: RowDecoder) -> None:
        self.row_decoder = row_decoder
        self.available_outputs = {
            "label": bool(row_decoder.model.labels),
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

    Other members of the object are the platform's own and are ignored. `accept_csv` documents
    that the platform sends CSV as well, which `decode_csv` reads.
    """

    def __init__(
        self,
        row_decoder: RowDecoder,
        name: str,
        members: tuple[str, ...],
        allow_bare_rows: bool = False,
        accept_csv: bool = False,
    ) -> None:
        self.row_decoder = row_decoder
        self.members = members
        self.accept_csv = accept_csv

        types = {
            "instances": row_decoder.row_list,
            "inputs": row_decoder.row_list | row_decoder.columns,
            "dataframe_split": row_decoder.split,
            "dataframe_records": row_decoder.records,
            "data": row_decoder.row_list,
            "input_data": row_decoder.split | row_decoder.row_list,
        }
        fields = [(member, types[member] | UnsetType, UNSET) for member in members]
        one_member = {"oneOf": [{"required": [member]} for member in members]}
        self.request = with_json_schema(msgspec.defstruct(name, fields), one_member)
        if allow_bare_rows:
            self.request |= row_decoder.unnamed_rows
        self.decoder = msgspec.json.Decoder(self.request)

    def examples(self) -> dict[str, Any]:
        """Return an example body for each media type."""
        row = self.row_decoder.example_row()
        [member] = {"instances", "data"}.intersection(self.members)
        examples: dict[str, Any] = {JSON: {member: [row]}}
        if self.accept_csv:
            examples[CSV] = encode_csv([row]).rstrip("\n")
        return examples

    def decode(self, body: bytes) -> tuple[Rows, bool]:
        """Return the rows, of shape (rows, features), and whether they were in an object.

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
            return self.row_decoder.to_array(request, "$"), False

        reject_duplicate_keys(body, 1)
        present = [member for member in self.members if getattr(request, member) is not UNSET]
        if len(present) != 1:
            expected = ", ".join(self.members)
            actual = " and ".join(present) or "none"
            raise InvalidInput(f"Expected exactly one of {expected}, got {actual} - at `$`")

        [member] = present
        return self.row_decoder.to_array(getattr(request, member), f"$.{member}"), True

"""Entries of a Redis stream: the message in their fields, and the fields of its answer."""

from collections.abc import Mapping
from typing import Any

import msgspec

from serving.api.values import parse_csv_field
from serving.model.signature import Signature
from serving.streams.messages import Answer, Message

# More words than these are not passed on in one call of the server's script.
MAX_FIELDS = 1000

Fields = Mapping[bytes, bytes]


class EntryDecoder:
    """Messages from the fields of entries.

    An entry has the features among its fields, by name; or it is JSON, in the field called
    `json_field` or, without that name, in its only field.
    """

    def __init__(self, signature: Signature, json_field: str) -> None:
        self._features = {feature.name.encode(): feature for feature in signature.features}
        self._json_field = json_field.encode()

    def decode(self, entry_id: str, fields: Fields) -> Message:
        """Return the message in an entry."""
        if len(fields) > MAX_FIELDS:
            reason = f"Expected at most {MAX_FIELDS} fields, got {len(fields)}"
            return Message(entry_id, b"", ({}, b""), reason)

        name = self._find_json_field(fields)
        if name is not None and name in fields:
            return Message(entry_id, fields[name], (fields, name))
        if name is not None:
            reason = f"Entry has no field `{name.decode(errors='replace')}`"
            return Message(entry_id, b"", (fields, b""), reason)
        if not self._features.keys() & fields.keys():
            expected = "one field with JSON, or the features by name"
            reason = f"Expected {expected}, got {len(fields)} fields"
            return Message(entry_id, b"", (fields, b""), reason)
        try:
            body = self._encode_features(fields)
        except UnicodeDecodeError:
            return Message(entry_id, b"", (fields, b""), "The fields are not UTF-8")
        return Message(entry_id, body, (fields, b""))

    def _find_json_field(self, fields: Fields) -> bytes | None:
        if self._json_field:
            return self._json_field
        if len(fields) == 1 and not self._features.keys() & fields.keys():
            return next(iter(fields))
        return None

    def _encode_features(self, fields: Fields) -> bytes:
        """Return the fields that are features as the members of a JSON object."""
        row = {}
        for name, feature in self._features.items():
            if name in fields:
                row[feature.name] = parse_csv_field(fields[name].decode(), feature)
        return msgspec.json.encode(row)


def answer_fields(answer: Answer, model_version: str) -> dict[bytes, bytes]:
    """Return the fields of an answer: those of its entry, changed or with more."""
    fields, json_field = answer.message.source
    answered = {b"message_id": answer.message.id.encode(), b"model_version": model_version.encode()}
    if json_field:
        return {json_field: answer.to_json(), **answered}
    gained = {name.encode(): to_text(value) for name, value in answer.members.items()}
    return {**fields, **gained, **answered}


def to_text(value: Any) -> bytes:
    """Return a text as it is, and any other value as JSON."""
    if isinstance(value, str):
        return value.encode()
    return msgspec.json.encode(value)

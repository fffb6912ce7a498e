"""JSON bodies: decode them strictly, and say what is wrong and where."""

import codecs
import json
import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from serving.model.errors import InvalidInput
from serving.model.model import FLOAT32_MAX

# Characters. The ends of a longer message are kept: its last part is the path.
MAX_MESSAGE_LENGTH = 300
MESSAGE_START_LENGTH = 150
MESSAGE_END_LENGTH = 100

Number = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]

# What the shells of Windows make of '{"features": ...}'.
LOST_QUOTES = re.compile(rb"\s*(?:'|\{\s*[A-Za-z_])")

UNKNOWN_FIELD = re.compile("contains unknown field `(.{1,100})`")
MAX_SUGGESTIONS = 3

# A string, closed or not, or what Python's json writes for a missing number. Possessive, and with
# an optional end, so that no body is scanned twice.
STRING_OR_NAN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|NaN', re.DOTALL)


def decode_json(
    decoder: msgspec.json.Decoder[Any],
    body: bytes | memoryview,
    *,
    lines: bool = False,
    nan_is_null: bool = False,
    names: Sequence[str] = (),
) -> Any:
    """Return the value that `decoder` reads from `body`, or with `lines` one from each line.

    JSON has no NaN. With `nan_is_null` it is read as null. `names`, of the features, are suggested
    for an unknown one. A byte order mark is skipped. Raises InvalidInput.
    """
    if body[: len(codecs.BOM_UTF8)] == codecs.BOM_UTF8:
        body = body[len(codecs.BOM_UTF8) :]
    if nan_is_null and b"NaN" in bytes(body):
        body = STRING_OR_NAN.sub(replace_nan, body)
    decode = decoder.decode_lines if lines else decoder.decode
    try:
        return decode(body)
    except UnicodeDecodeError as error:
        raise InvalidInput("The body is not UTF-8") from error
    except RecursionError as error:
        raise InvalidInput("The body is nested too deeply") from error
    except msgspec.MsgspecError as error:
        if not body:
            raise InvalidInput("The body is empty") from error
        if " - at " not in str(error):
            names = getattr(decoder.type, "__struct_fields__", ())
        hint = suggest_names(error, names)
        if LOST_QUOTES.match(body):
            hint = "; a shell changed the quotation marks: send a file, such as -d @body.json"
        raise InvalidInput(truncate_middle(str(error)) + hint) from error


def suggest_names(error: Exception, names: Sequence[str]) -> str:
    """Return the names that were expected instead of an unknown one, the nearest first."""
    match = UNKNOWN_FIELD.search(str(error))
    if match is None or not names:
        return ""

    def distance(name: str) -> float:
        return -SequenceMatcher(None, match[1].lower(), name.lower()).ratio()

    nearest = sorted(names, key=distance)[:MAX_SUGGESTIONS]
    return f"; expected {', '.join(nearest)}"[:MESSAGE_END_LENGTH]


def replace_nan(match: re.Match[bytes]) -> bytes:
    """Return null for NaN, and a string as it is."""
    if match[0] == b"NaN":
        return b"null"
    return match[0]


def reject_duplicate_keys(body: bytes, n_expected_keys: int) -> None:
    """Raise InvalidInput if an object in the JSON `body` has a key twice.

    msgspec takes the last of two equal keys. `n_expected_keys` is the number of keys that it
    decoded: with as many colons no key can be a duplicate, and the body is not parsed again.
    """
    if body.count(b":") == n_expected_keys:
        return

    # One more colon is in a string, in an ignored member, or follows a duplicate key.
    try:
        json.loads(body, object_pairs_hook=check_unique_keys, parse_int=str, parse_float=str)
    except RecursionError as error:
        raise InvalidInput("The body is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise InvalidInput("The body is not UTF-8") from error
    except json.JSONDecodeError as error:  # in an ignored member, which msgspec skips
        raise InvalidInput(f"JSON is malformed: {error.msg} (character {error.pos})") from error


def check_unique_keys(members: list[tuple[str, Any]]) -> None:
    """Raise InvalidInput if two `members` of an object have the same key."""
    keys = [key for key, _ in members]
    if len(set(keys)) == len(keys):
        return

    duplicate = next(key for key in keys if keys.count(key) > 1)
    raise InvalidInput(f"Object contains field `{truncate_middle(duplicate)}` twice")


def truncate_middle(text: str) -> str:
    """Return `text`, or only its ends if it is long."""
    if len(text) < MAX_MESSAGE_LENGTH:
        return text
    return f"{text[:MESSAGE_START_LENGTH]} ... {text[-MESSAGE_END_LENGTH:]}"

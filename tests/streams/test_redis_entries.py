"""Entries of Redis that other clients wrote, and the answers to them."""

import json

import msgspec
import pytest

from consumers import SETOSA_BODY, wait_for_length
from fixture_models import model_file
from helpers import JSON, NAMES, VERSION, predict
from serving.model.loading import load_model
from serving.streams.messages import Answer
from serving.streams.redis_entries import MAX_FIELDS, EntryDecoder, answer_fields
from serving.streams.scoring import MessageScorer

SETOSA_ROW = dict(zip(NAMES, ["5.1", "3.5", "1.4", ".2"], strict=True))

MAX_BODY_BYTES = 10_000


def words(fields):
    return [word for pair in fields.items() for word in pair]


def test_answers_have_form_of_entries(server, consume):
    """JSON is answered as JSON, whatever its field is called, and fields as fields."""
    as_json = server.cli("XADD", "in", "*", "row", SETOSA_BODY.decode())
    pretty = json.dumps({"id": 7, "features": [6.3, 3.3, 6.0, 2.5]}, indent=2)
    as_object = server.cli("XADD", "in", "*", "body", pretty)
    by_name = server.cli("XADD", "in", "*", "id", "8", *words(SETOSA_ROW))
    consume(server.url("in"), server.url("out"))
    wait_for_length(server, "out", 3)

    answers = server.answers("out")
    version = {b"model_version": VERSION.encode()}
    body = b'{"features": [5.1, 3.5, 1.4, 0.2],"prediction":0,"label":"setosa"}'
    assert answers[as_json.decode()] == {b"row": body, **version}
    answered = answers[as_object.decode()].pop(b"body")
    assert msgspec.json.decode(answered) == {
        **json.loads(pretty),
        "prediction": 2,
        "label": "virginica",
    }
    expected = {"id": "8", **SETOSA_ROW, "prediction": "0", "label": "setosa"}
    encoded = {name.encode(): value.encode() for name, value in expected.items()}
    assert answers[by_name.decode()] == encoded | version


def test_field_option_names_json(server, consume):
    """With several fields an option of the address names the one with JSON; others are dropped."""
    server.cli("XADD", "in", "*", "trace", "abc", "row", SETOSA_BODY.decode())
    server.cli("XADD", "in", "*", "trace", "abc")
    consume(server.url("in", "&field=row"), server.url("out"), "--proba")
    wait_for_length(server, "out", 2)
    scored, rejected = [fields for _, fields in server.client.xrange("out")]
    record = msgspec.json.decode(scored[b"row"])
    assert record["prediction"] == 0
    assert len(record["probability"]) == 3
    assert rejected[b"error"] == b"Entry has no field `row`"
    assert rejected[b"trace"] == b"abc"


BODIES = [
    b"",
    b"nope",
    b"\xff\xfe",
    b"3",
    b'{"features": [5.1, 3.5, 1.4]}',
    b'{"features": [5.1, 3.5, 1.4, "x"]}',
    b'{"features": [5.1, 3.5, 1.4, null]}',
    b'{"features": [5.1, 3.5, 1.4, 1e39]}',
    b'{"features": [5.1, 3.5, 1.4, NaN]}',
    b'{"features": {"sepal length (cm)": true}}',
    b'{"features": {"petal width (cm)": 1}}',
    b'{"features": []}',
]


def test_bad_messages_get_texts_of_predict(server, consume, call):
    """A bad message is answered with the error of POST /predict, and the next one is answered."""
    ids = server.add("in", [*BODIES, SETOSA_BODY])
    consume(server.url("in"), server.url("out"), MAX_BODY_BYTES=str(MAX_BODY_BYTES))
    wait_for_length(server, "out", len(ids))
    answers = server.answers("out")
    for message_id, body in zip(ids, BODIES, strict=False):
        expected = call("POST", "/predict", body, JSON)
        assert expected.status == 400, body
        answered = msgspec.json.decode(answers[message_id][b"message"])
        assert answered["error"] == expected.json["error"], body
    assert b'"prediction":0' in answers[ids[-1]][b"message"]
    assert server.pending("in") == 0


@pytest.fixture
def score():
    """Return a function that scores bodies with a model, and the scorer."""

    def score_bodies(name, *bodies):
        model = load_model(model_file(name))
        scorer = MessageScorer(model, False, MAX_BODY_BYTES)
        decoder = EntryDecoder(model.signature, "")
        messages = [decoder.decode(str(i), {b"m": body}) for i, body in enumerate(bodies)]
        return scorer.score(messages), scorer

    return score_bodies


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"a":' + b"[" * 4000 + b"]" * 4000 + b"}", "JSON is nested too deeply"),
        (b'{"features":' + b"[" * 4000, "Expected `float`, got `array` - at `$.features[0][0]`"),
        (b" " * MAX_BODY_BYTES + SETOSA_BODY, f"Expected at most {MAX_BODY_BYTES} bytes of body"),
        (
            b'{"features": [[5.1, 3.5, 1.4, 0.2], [5.1, 3.5, 1.4, 0.2]]}',
            "Expected one row in a message, got 2 - at `$.features`",
        ),
        (
            json.dumps({**dict.fromkeys(NAMES, 1), NAMES[3]: "x"}).encode(),
            "Expected `float`, got `str` - at `$.petal width (cm)`",
        ),
        (
            json.dumps({**dict.fromkeys(NAMES, 1), "label": "x"}).encode(),
            "Object contains field `label` already",
        ),
    ],
)
def test_bad_message_is_described(score, body, error):
    """What is no body of POST /predict is described as well, with its place in the message."""
    [answer], scorer = score("iris", body)
    assert answer.members["error"].startswith(error)
    assert msgspec.json.decode(answer.to_json())["error"] == answer.members["error"]
    assert (scorer.counts.scored, scorer.counts.rejected, scorer.counts.failed) == (0, 1, 0)


def test_failing_estimator_answers_others(score, monkeypatch, caplog):
    """An error that nobody foresaw is answered as a 500, in the message that caused it alone."""
    _, scorer = score("iris", SETOSA_BODY)
    predict_rows = scorer.model.predict

    def fail_above_100(rows):
        if rows.max() > 100:
            raise KeyError("secret")
        return predict_rows(rows)

    monkeypatch.setattr(scorer.model, "predict", fail_above_100)
    decoder = EntryDecoder(scorer.model.signature, "")
    bodies = [SETOSA_BODY, b'{"features": [101, 3.5, 1.4, 0.2]}', SETOSA_BODY]
    messages = [decoder.decode(str(i), {b"m": body}) for i, body in enumerate(bodies)]
    answers = scorer.score(messages)
    assert [answer.members.get("prediction") for answer in answers] == [0, None, 0]
    assert answers[1].members == {"error": "Internal Server Error"}
    assert scorer.counts.failed == 1
    assert [record.getMessage() for record in caplog.records] == ["message 1 cannot be scored"]


PENGUIN = {
    "bill_length_mm": "39.1",
    "bill_depth_mm": "18.7",
    "flipper_length_mm": "181",
    "body_mass_g": "3750",
    "island": "Torgersen",
    "sex": "MALE",
}


@pytest.mark.parametrize(
    "changes",
    [{}, {"sex": ""}, {"bill_depth_mm": "NA"}, {"body_mass_g": "3.75e3"}, {"island": "elsewhere"}],
)
def test_fields_have_types_of_signature(score, changes):
    """Fields of text are the values that their features take: missing, categories, numbers."""
    row = PENGUIN | changes
    values = {name: value for name, value in row.items() if value not in ("", "NA")}
    for name in list(PENGUIN)[:4]:
        if name in values:
            values[name] = float(values[name])
    [expected], scorer = score("penguins", msgspec.json.encode({"features": values}))
    assert not expected.is_error

    decoder = EntryDecoder(scorer.model.signature, "")
    fields = {name.encode(): value.encode() for name, value in row.items()}
    [answer] = scorer.score([decoder.decode("1", fields)])
    assert answer.members == expected.members
    written = answer_fields(answer, "v")
    assert written[b"label"].decode() == answer.members["label"]
    assert fields.items() <= written.items()


@pytest.mark.parametrize("text", ["x", "nan", "inf", "1_0", "true", "0x10", "-1e400"])
def test_text_is_no_number(score, text):
    """A text that JSON or CSV would not take for a number is an error with its place."""
    _, scorer = score("iris", SETOSA_BODY)
    decoder = EntryDecoder(scorer.model.signature, "")
    fields = {name.encode(): b"1" for name in NAMES} | {NAMES[2].encode(): text.encode()}
    [answer] = scorer.score([decoder.decode("1", fields)])
    assert answer.members["error"].endswith("- at `$.petal length (cm)`")


def test_odd_entries_are_rejected(score):
    """Entries with too many fields, or with other ones than UTF-8, are answered with an error."""
    _, scorer = score("iris", SETOSA_BODY)
    decoder = EntryDecoder(scorer.model.signature, "")
    many = {str(i).encode(): b"1" for i in range(MAX_FIELDS + 1)}
    binary = {name.encode(): b"\xff" for name in NAMES}
    answers = scorer.score([decoder.decode("1", many), decoder.decode("2", binary)])
    assert [answer.members["error"] for answer in answers] == [
        f"Expected at most {MAX_FIELDS} fields, got {MAX_FIELDS + 1}",
        "The fields are not UTF-8",
    ]
    assert len(answer_fields(answers[0], "v")) == 3
    assert isinstance(answers[1], Answer)


def test_every_kind_of_model_answers(score):
    """Other kinds of models answer as well: a number, several numbers, the class of a text."""
    for name in ("diabetes", "linnerud", "languages"):
        row = load_model(model_file(name)).card.reference[0]
        [answer], scorer = score(name, msgspec.json.encode({"features": row.features}))
        assert answer.members["prediction"] == pytest.approx(row.prediction)
        assert scorer.counts.scored == 1


def test_predict_is_answered_alike(score, call):
    """A message gets the prediction of POST /predict."""
    [answer], _ = score("iris", SETOSA_BODY)
    assert predict(call, features=[5.1, 3.5, 1.4, 0.2]).json["prediction"] == [
        answer.members["prediction"]
    ]

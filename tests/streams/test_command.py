"""The command line of a consumer: options, addresses, errors of the start, signals."""

import signal

import pytest

from batches import MODEL, run_batch
from consumers import SETOSA_BODY, wait_for_length
from helpers import free_port, wait_until
from serving.batch.stats import BatchError
from serving.streams.command import open_broker
from serving.streams.redis_streams import server_of
from serving.streams.urls import parse_stream_url

PASSWORD = "s3cret/pass#word"

QUOTED_PASSWORD = "s3cret%2Fpass%23word"

STREAM = "redis://localhost:1/0?stream=s"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_after_answers(server, consume, number):
    """A signal ends the consumer with status 0; what it had read is answered."""
    server.add("in", [SETOSA_BODY] * 3000)
    consumer = consume(server.url("in", "&count=100"), server.url("out"))
    wait_for_length(server, "out", 100)
    status, records = consumer.stop(number)
    assert status == 0
    n_answered = server.client.xlen("out")
    assert n_answered % 100 == 0
    assert records[-1]["message"].startswith(f"stopped after {n_answered} messages, of which 0 ")
    assert server.pending("in") == 0
    [group] = server.client.xinfo_groups("in")
    assert group["consumers"] == 0


def test_stopped_while_broker_is_away(server, consume):
    """If the server is away with answers in hand, a signal ends with status 1 and says so."""
    consumer = consume(server.url("in"), server.url("out"))
    wait_until(lambda: b'stream_lag{broker="redis"} 0.0\n' in consumer.call("/metrics").body)
    # From the next message on the server has no memory for answers.
    with server.client.pipeline(transaction=True) as pipeline:
        pipeline.xadd("in", {"message": SETOSA_BODY})
        pipeline.config_set("maxmemory", 1)
        [message_id, _] = pipeline.execute()

    wait_until(lambda: b"stream_broker_up 0.0\n" in consumer.call("/metrics").body)
    consumer.process.send_signal(signal.SIGTERM)
    status, lines = consumer.wait()
    assert status == 1
    assert "the broker is away, trying again: " in lines[-2]
    assert lines[-1].endswith(
        "stopped while the broker was away: 1 messages were read and not answered, "
        "and will be delivered again"
    )

    server.client.config_set("maxmemory", 0)
    consume(server.url("in", "&claim=1"), server.url("out"))
    wait_for_length(server, "out", 1)
    assert server.answers("out").keys() == {message_id.decode()}


def test_batch_is_one_call(server, consume):
    """Many messages are read by one command, and answered by one."""
    server.add("in", [SETOSA_BODY] * 1000)
    server.client.config_resetstat()
    consumer = consume(server.url("in"), server.url("out"))
    wait_for_length(server, "out", 1000)
    assert consumer.stop()[0] == 0
    calls = {name: stats["calls"] for name, stats in server.client.info("commandstats").items()}
    assert calls["cmdstat_evalsha"] <= 3
    assert calls["cmdstat_xadd"] == 1000


def test_existing_group_goes_on(server, consume):
    """A group that exists decides where to begin, such as after all earlier entries."""
    server.add("in", [SETOSA_BODY] * 5)
    server.cli("XGROUP", "CREATE", "in", "scorers", "$")
    consume(server.url("in", "&group=scorers"), server.url("out"))
    [later] = server.add("in", [SETOSA_BODY])
    wait_for_length(server, "out", 1)
    assert server.answers("out").keys() == {later}


def test_output_is_bounded(server, consume):
    """With `maxlen` the output keeps about as many answers."""
    server.add("in", [SETOSA_BODY] * 3000)
    consumer = consume(server.url("in"), server.url("out", "&maxlen=500"))
    wait_until(lambda: b'outcome="scored"} 3000.0' in consumer.call("/metrics").body)
    assert 500 <= server.client.xlen("out") < 800


def only_line(consumer):
    status, lines = consumer.wait()
    [line] = lines
    assert status == 1
    return line


def test_unreachable_server_is_one_line(consume):
    """A server that is not there at the start ends the program."""
    port = free_port()
    address = f"redis://me:{QUOTED_PASSWORD}@127.0.0.1:{port}/0?stream=in"
    line = only_line(consume(address, f"redis://127.0.0.1:{port}/0?stream=out"))
    assert line.startswith(f"redis://127.0.0.1:{port}/0?stream=in: Error ")
    assert "refused" in line
    assert "s3cret" not in line


def test_refused_password_is_one_line(start_server, consume):
    """A wrong password ends the program, and is not printed; the right one is taken."""
    server = start_server("--requirepass", PASSWORD)
    target = server.url("out", user=f":{QUOTED_PASSWORD}@")
    line = only_line(consume(server.url("in", user=":s3cret%21@"), target))
    assert "invalid username-password pair" in line
    assert "s3cret" not in line
    line = only_line(consume(server.url("in"), target))
    assert "Authentication required" in line

    consumer = consume(server.url("in", user=f":{QUOTED_PASSWORD}@"), target)
    wait_until(lambda: consumer.call("/healthz").status == 200)
    status, records = consumer.stop()
    assert status == 0
    assert "s3cret" not in str(records)


def test_wrong_keys_are_one_line(server, consume):
    """Keys that are no streams end the program."""
    server.client.set("text", "x")
    stream = server.url("in")
    line = only_line(consume(stream, server.url("text")))
    assert line.endswith("'text' is no stream but a string")
    assert "WRONGTYPE" in only_line(consume(server.url("text"), stream))


@pytest.mark.parametrize(
    "address",
    [
        "redis://:s3cret/x@localhost:6379/0?stream=s",
        "redis://:s3cret#x@localhost:6379/0?stream=s",
        "redis://:s3cret?x@localhost:6379/0?stream=s",
        "redis://user:12/s3cret@localhost/0?stream=s",
        "redis://[s3cret/0?stream=s",
        "redis://localhost:6379/s3cret?stream=s",
        "redis://a,b/0?stream=s3cret",
        "redis://localhost:6379/0",
        "kafka://me:s3cret/x@localhost/topic",
        "kafka://localhost:9092",
        "kafka://localhost:9092/a/s3cret",
    ],
)
def test_malformed_address_is_not_printed(address):
    """What has not the form of an address may have a password anywhere, and is not quoted."""
    with pytest.raises(BatchError) as raised:
        parse_stream_url(address)
    assert str(raised.value).startswith("expected an address such as ")
    assert "s3cret" not in str(raised.value)


def test_one_server_has_several_addresses():
    """The database 0 need not be named; another database or user is another connection."""
    addresses = ["redis://h:1?stream=a", "redis://h:1/0?stream=b", "redis://:x@h:1/?stream=c"]
    servers = {server_of(parse_stream_url(address)) for address in addresses}
    assert len(servers) == 1
    others = ["redis://h:1/1?stream=a", "redis://me@h:1/0?stream=a", "redis://h:2/0?stream=a"]
    servers |= {server_of(parse_stream_url(address)) for address in others}
    assert len(servers) == 4


def test_address_hides_its_password():
    """The text of an address has neither its user nor its options."""
    url = parse_stream_url(
        f"rediss://me:{QUOTED_PASSWORD}@h:1/2?stream=a{{b}}:c&ssl_keyfile=s3cret"
    )
    assert (url.username, url.password, url.name) == ("me", PASSWORD, "a{b}:c")
    assert str(url) == "rediss://h:1/2?stream=a{b}:c"
    assert "s3cret" not in repr(url)
    assert str(parse_stream_url("kafka://me:x@a:1,b:2/t?group=g")) == "kafka://a:1,b:2/t"


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        ("&count=0", "2", "count"),
        ("&count=x", "2", "count"),
        ("&claim=-1", "2", "claim"),
        ("&count=1&count=2", "2", "count"),
        ("", "2&maxlen=1.5", "maxlen"),
    ],
)
def test_bad_option_is_named(source, target, name):
    """A bad option of an address is named."""
    with pytest.raises(BatchError, match=f"the option '{name}' of the address"):
        open_broker(
            parse_stream_url(f"{STREAM}{source}"), parse_stream_url(f"{STREAM}{target}"), MODEL
        )


def test_brokers_are_not_mixed():
    """Both streams are of one kind of broker."""
    with pytest.raises(BatchError, match="OUTPUT is a stream of kafka, expected one of redis"):
        open_broker(parse_stream_url(STREAM), parse_stream_url("kafka://localhost:1/t"), MODEL)


def test_streams_differ():
    """One stream is not both INPUT and OUTPUT, and an option that nobody knows is named."""
    url = parse_stream_url(STREAM)
    with pytest.raises(BatchError, match="INPUT and OUTPUT are the same stream"):
        open_broker(url, url, MODEL)
    with pytest.raises(BatchError, match="unexpected keyword argument 'unknown'"):
        open_broker(parse_stream_url(f"{STREAM}&unknown=x"), url, MODEL)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([STREAM, "out.csv"], "use one address of a stream for INPUT, and another one for OUTPUT"),
        (["in.csv", STREAM], "use one address of a stream for INPUT, and another one for OUTPUT"),
        ([STREAM, STREAM, STREAM], "use one address of a stream for INPUT"),
        ([STREAM, STREAM, "--format", "csv"], "--format: not for streams of a broker"),
        ([STREAM, STREAM, "--no-header", "--on-error", "skip"], "--no-header, --on-error: not"),
    ],
)
def test_options_of_files_are_refused(words, error):
    """Options of files end with the usage."""
    assert error in run_batch(*words, status=2)


def test_used_metrics_port_is_one_line(server, consume):
    """A port that is in use ends the program."""
    line = only_line(consume(server.url("in"), server.url("out"), METRICS_PORT=server.port))
    assert "Address already in use" in line

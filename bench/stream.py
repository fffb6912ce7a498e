"""Messages/s of batch.py between two streams of Redis, and of a loop that predicts for each one.

The loop is what a tutorial has: redis-py reads a message, scikit-learn predicts, the answer is
added, the message acknowledged. Both find the same messages in a server of their own, and the time
counts from the first answer to the last. Needs redis-server.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

ROOT = Path(__file__).parent.parent
PORT = "18788"
URL = f"redis://127.0.0.1:{PORT}/0?stream="
LOOP = f"""
import json, joblib, redis
model = joblib.load("{ROOT}/model.pkl")
client = redis.Redis(port={PORT})
client.xgroup_create("in", "loop", id="0", mkstream=True)
while True:
    for _, messages in client.xreadgroup("loop", "one", {{"in": ">"}}, count=COUNT, block=1000):
        for message_id, fields in messages:
            row = json.loads(fields[b"message"])["features"]
            prediction = model.predict([row]).tolist()
            client.xadd("out", {{"message": json.dumps({{"prediction": prediction}})}})
            client.xack("in", "loop", message_id)
"""


def measure(client, command, n_messages):
    """Return the messages/s of a program, and its peak of memory in MB."""
    client.flushall()
    with client.pipeline(transaction=False) as pipeline:
        for n in range(n_messages):
            body = json.dumps({"features": [5.1, 3.5, 1.4, 0.2], "n": n})
            pipeline.xadd("in", {"message": body})
        pipeline.execute()

    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    first = wait_for(client, 1)
    started_at = time.perf_counter()
    last = wait_for(client, n_messages)
    seconds = time.perf_counter() - started_at
    process.terminate()
    _, _, usage = os.wait4(process.pid, 0)
    return (last - first) / seconds, usage.ru_maxrss / 1024


def wait_for(client, n_answers):
    """Return the number of answers, which is at least `n_answers`."""
    while (length := client.xlen("out")) < n_answers:
        time.sleep(0.002)
    return length


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--messages", type=int, default=50_000)
options = parser.parse_args()
with tempfile.TemporaryDirectory() as directory:
    server = subprocess.Popen(
        ["redis-server", "--port", PORT, "--save", ""], cwd=directory, stdout=subprocess.DEVNULL
    )
    client = redis.Redis(port=int(PORT))
    time.sleep(1)
    ours = [sys.executable, ROOT / "batch.py", f"{URL}in", f"{URL}out"]
    rate, megabytes = measure(client, ours, options.messages)
    print(f"batch.py: {rate:.0f} messages/s, {megabytes:.0f} MB at most")
    for count in (1, 500):
        loop = [sys.executable, "-c", LOOP.replace("COUNT", str(count))]
        loop_rate, megabytes = measure(client, loop, options.messages // 10)
        text = f"{rate / loop_rate:.1f} times slower, {megabytes:.0f} MB"
        print(f"a loop that reads {count} at a time: {text}")
    server.terminate()
    server.wait()

"""The service with a view that computes, and then waits while the file HOLD_FILE exists."""

import os
import time
from pathlib import Path

from app import create_app
from serving.api.messages import json_response, read_body

app = create_app()
HOLD_FILE = Path(os.environ["HOLD_FILE"])


@app.post("/hold")
def hold():
    """Compute for 20 ms if the body is short; then wait until the file is removed."""
    seconds = 0.0
    if len(read_body()) < 100:
        seconds = 0.02
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    while HOLD_FILE.exists():
        time.sleep(0.001)
    return json_response({})

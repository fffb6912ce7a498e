"""The service with a view that waits, in a worker's event loop, until a file exists."""

import os
import time
from pathlib import Path

from app import create_app

app = create_app()
directory = Path(os.environ["SIGNAL_DIRECTORY"])


@app.get("/waiting")
def waiting():
    """Say that the view has begun, wait to be released, and return."""
    (directory / "begun").touch()
    while not (directory / "released").exists():
        time.sleep(0.01)
    return ""

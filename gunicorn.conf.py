"""The process model: `gunicorn app:app` reads this file, so that it is the whole production command."""

import os
import sys
from pathlib import Path

# Before numpy is imported: a worker is a core's worth of work, and a BLAS that threads does not survive the fork.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

wsgi_app = "app:app"
port = os.environ.get("PORT", "5000")
bind = [f"0.0.0.0:{port}"]
if Path(sys.argv[0]).name == "serve":
    # So SageMaker starts it, and calls port 8080; the image's HEALTHCHECK goes on asking where it always does.
    bind = ["0.0.0.0:8080", f"127.0.0.1:{port}"]

# Two, not one a core: in a container the cores that Python counts are the node's, not ours.
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
# Threads are for waiting, on a client that sends slowly; the arithmetic holds the interpreter's lock.
worker_class = "gthread"
threads = 4

# The model is loaded and checked once, before the fork: a bad one ends the whole process, with one line and a status
# that an orchestrator sees, and the workers share its memory.
preload_app = True

# Longer than a proxy keeps an idle connection (60 s is usual): it must never send on one that we have just closed.
keepalive = 65
# Below the pod's grace period less its preStop wait; tests/test_deploy.py holds the three against each other.
graceful_timeout = 25
# A worker that says nothing for so long is killed and replaced.
timeout = 30

# The root file system may be read-only and there may be no HOME: heartbeats go to memory, nothing else is written.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a heartbeat, opened and unlinked
control_socket_disable = True

loglevel = os.environ.get("LOG_LEVEL", "info").lower()

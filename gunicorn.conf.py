"""The process model: `gunicorn app:app` reads this file, so that it is the whole production command."""

import gc
import itertools
import os
import sys
from pathlib import Path
from typing import Any

# Before numpy is imported: a worker is a core's worth of work, and a BLAS that threads does not survive the fork.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from gunicorn.glogging import Logger  # noqa: E402

from serving.api.service import service_of  # noqa: E402
from serving.config import ConfigurationError, Settings  # noqa: E402
from serving.model.errors import ModelError  # noqa: E402
from serving.monitoring.request_log import logging_config  # noqa: E402

wsgi_app = "app:app"

try:
    settings = Settings.from_env(os.environ)
except ConfigurationError as error:
    sys.exit(str(error))


def print_startup_error(kind: Any, error: BaseException, traceback: Any) -> None:
    """Print one line, without a traceback, if the model or a setting is invalid."""
    if isinstance(error, ConfigurationError | ModelError):
        sys.stderr.write(f"{error}\n")
    else:
        sys.__excepthook__(kind, error, traceback)


# gunicorn loads the application in its own main thread, and such an error ends the process.
sys.excepthook = print_startup_error

public_port = settings.aip_http_port or settings.port
if Path(sys.argv[0]).name == "serve":  # the command with which SageMaker starts the image
    public_port = settings.sagemaker_bind_to_port
bind = [f"0.0.0.0:{public_port}"]
if public_port != settings.port:
    bind.append(f"127.0.0.1:{settings.port}")  # the HEALTHCHECK of the image asks PORT
if settings.metrics_port:
    bind.append(f"0.0.0.0:{settings.metrics_port}")

# Two, not one a core: in a container the cores that Python counts are the node's, not ours.
workers = settings.web_concurrency
# An event loop, so that a slow or idle client occupies a socket but no thread.
worker_class = "serving.server.worker.Worker"
# For long bodies and slow models. Four: the worst body costs 35 MB while it is decoded, and the pod's memory has to do.
threads = 4
# Clients at a time, in each worker; one more is told 503, so that a balancer goes elsewhere.
worker_connections = 1000

# The model is loaded and checked once, before the fork: a bad one ends the whole process, with one line and a status
# that an orchestrator sees, and the workers share its memory.
preload_app = True

# Longer than a proxy keeps an idle connection (60 s is usual): it must never send on one that we have just closed.
keepalive = 65
# Below the pod's grace period less its preStop wait; tests/deployment/test_manifests.py holds the three against each other.
graceful_timeout = 25
# A worker that says nothing for so long is killed and replaced, and a request that takes so long to arrive is refused.
timeout = 30

# The root file system may be read-only and there may be no HOME: heartbeats go to memory, nothing else is written.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a heartbeat, opened and unlinked
control_socket_disable = True

loglevel = settings.log_level
logconfig_dict = logging_config(loglevel.upper(), sys.stderr.isatty())


class logger_class(Logger):  # type: ignore[misc]  # noqa: N801 - gunicorn's name for it
    """gunicorn's, but for its line a request: serving/monitoring/request_log.py writes it, with what only it knows."""

    def access(self, *_: Any) -> None:
        """Write nothing."""


def when_ready(_: Any) -> None:
    """Keep what was loaded out of the garbage collector: it never goes, and pages that nobody marks stay shared."""
    gc.collect()
    gc.freeze()


def pre_fork(server: Any, worker: Any) -> None:
    """Give the worker the first row of the counts that no living worker has: that of the one it replaces."""
    used_slots = {peer.slot for peer in server.WORKERS.values()}
    worker.slot = next(slot for slot in itertools.count(1) if slot not in used_slots)


def post_fork(server: Any, worker: Any) -> None:
    """Count in that row; the application was loaded before the fork."""
    service_of(server.app.wsgi()).telemetry.attach(worker.slot)


def on_reload(server: Any) -> None:
    """Have the workers that are about to be made serve what lies at MODEL_PATH now; those there are finish as they are.

    With preload_app gunicorn itself keeps the application that it has.
    """
    import app

    gc.unfreeze()
    app.app = server.app.callable = app.reload_app(
        server.app.wsgi()
    )  # under both names, so that the old one goes
    when_ready(server)

"""The worker processes and their limits, for `gunicorn app:app`: each setting has its reason."""

import atexit
import gc
import itertools
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any


def print_startup_error(kind: Any, error: BaseException, traceback: Any) -> None:
    """Print one line if the model or a setting is invalid, and nothing for Ctrl-C."""
    if isinstance(error, KeyboardInterrupt):
        return
    if isinstance(error, ConfigurationError | ModelError):
        sys.stderr.write(f"{error}\n")
    else:
        sys.__excepthook__(kind, error, traceback)


# gunicorn loads the application in its own main thread, and such an error ends the process.
sys.excepthook = print_startup_error

# So that gunicorn may be started in another directory, with --config.
sys.path.insert(0, str(Path(__file__).resolve().parent))

# Before numpy is imported: a worker is for one core, and the threads of OpenMP do not survive a
# fork. The self-test starts them before it, and each worker would wait for them forever. LightGBM
# asks for as many threads as there are cores, unless OMP_THREAD_LIMIT forbids it.
for name in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    n_threads = os.environ.setdefault(name, "1")
    if n_threads != "1":
        sys.exit(f"{name}: expected 1, got {n_threads!r}; WEB_CONCURRENCY is for more cores")

from serving.config import ConfigurationError, Settings  # noqa: E402

# Before the service is imported, which takes a second: an invalid setting ends the process at once.
try:
    settings = Settings.from_env(os.environ)
except ConfigurationError as error:
    sys.exit(str(error))

from flask import Flask  # noqa: E402
from gunicorn.glogging import Logger  # noqa: E402

from serving.api.service import service_of  # noqa: E402
from serving.model.errors import ModelError  # noqa: E402
from serving.monitoring.request_log import logging_config  # noqa: E402
from serving.page.views import compile_templates  # noqa: E402
from serving.server.cores import count_usable_cores  # noqa: E402
from serving.server.sockets import all_interfaces, find_bind_error  # noqa: E402

log = logging.getLogger("serving")

MACOS_AIRPLAY_PORT = 5000

wsgi_app = "app:app"


public_port = settings.aip_http_port or settings.port
if Path(sys.argv[0]).name == "serve":  # the command with which SageMaker starts the image
    public_port = settings.sagemaker_bind_to_port
bind = [f"{all_interfaces()}:{public_port}"]
if public_port != settings.port:
    bind.append(f"127.0.0.1:{settings.port}")  # the HEALTHCHECK of the image asks PORT
if settings.metrics_port == public_port:
    sys.exit(f"METRICS_PORT: {public_port} is the public port already")
if settings.metrics_port:
    bind.append(f"{all_interfaces()}:{settings.metrics_port}")

# A second worker on the same core would only delay the first one's answers. Without a limit the
# cores are those of the node, which other pods use as well.
workers = settings.web_concurrency or min(count_usable_cores(), 2)
# An event loop, so that a slow or idle client occupies a socket but no thread.
worker_class = "serving.server.worker.Worker"
# For long bodies and slow models. The worst body takes 35 MB while it is decoded, so four of them
# fit into the memory of the pod.
threads = 4
# Clients of one worker. Further clients receive 503, so that a load balancer tries another pod.
worker_connections = 1000

# The model is loaded and verified once, before the fork. An invalid one ends the process with one
# line and a status that an orchestrator sees, and the workers share the memory of a valid one.
preload_app = True

# Longer than a proxy keeps an idle connection (usually 60 s), so that a proxy never sends a request
# on a connection that has just been closed here.
keepalive = 65
# Below the pod's grace period minus its preStop wait. A test compares the three.
graceful_timeout = 25
# A worker without a heartbeat for this time is replaced. A client that is silent for this time, in
# the middle of a request or of a response, is disconnected; a slow one that goes on is not.
timeout = 30

# Of a request's head, whose size the worker limits to 64 KiB as well.
limit_request_line = 4094
limit_request_fields = 100
limit_request_field_size = 8190

# The root file system may be read-only, and there may be no HOME. So heartbeats go to memory, and
# nothing else is written.
worker_tmp_dir = None
if os.access("/dev/shm", os.W_OK | os.X_OK):  # noqa: S108 - the file is unlinked once it is open
    worker_tmp_dir = "/dev/shm"  # noqa: S108
control_socket_disable = True

loglevel = settings.log_level
logconfig_dict = logging_config(loglevel.upper(), sys.stderr.isatty())


class logger_class(Logger):  # type: ignore[misc]  # noqa: N801 - gunicorn's name for it
    """gunicorn's logger without its access log: serving/monitoring/request_log.py has its own."""

    def access(self, *_: Any) -> None:
        """Write nothing."""


def on_starting(server: Any) -> None:
    """End the process with one line if options exclude each other."""
    if server.cfg.reload:
        sys.exit("reload: has no effect with preload_app; send SIGHUP to load the files anew")
    if server.cfg.accesslog:
        sys.exit("accesslog: the service has a request log, on stderr; see LOG_LEVEL")

    ports = [address[1] for address in server.cfg.address if isinstance(address, tuple)]
    if settings.metrics_port and settings.metrics_port not in ports:
        port = settings.metrics_port
        sys.exit(f"METRICS_PORT: --bind replaces it; add --bind {all_interfaces()}:{port}")

    # gunicorn would try five times. A master that replaces another one has its sockets.
    if not server.cfg.reuse_port and not {"GUNICORN_FD", "LISTEN_FDS"} & os.environ.keys():
        check_ports(server.cfg.address)


def check_ports(addresses: Any) -> None:
    """End the process with one line if one of the ports cannot be listened on."""
    names = {settings.metrics_port: "METRICS_PORT", settings.aip_http_port: "AIP_HTTP_PORT"}
    for address in addresses:
        if not isinstance(address, tuple):  # a Unix socket, or a descriptor
            continue
        error = find_bind_error(address)
        if error is None:
            continue

        port = address[1]
        name = names.get(port, "PORT")
        message = f"port {port}: {error.strerror}; choose another one, such as {name}=8000 make run"
        if port == MACOS_AIRPLAY_PORT:
            message += "; on macOS, AirPlay Receiver listens on this port"
        sys.exit(message)


def when_ready(server: Any) -> None:
    """Say where the service is, or end the process with one line if it is another application."""
    app = server.app.wsgi()
    if "service" not in getattr(app, "extensions", {}):
        expected = "expected what create_app() returns, with middleware around its wsgi_app only"
        sys.exit(f"{server.app.app_uri}: {expected}")
    prepare_fork(app)
    service = service_of(app)
    address = server.LISTENERS[0].sock.getsockname()
    if isinstance(address, tuple):
        model = f"{service.model_name} {service.model.version}"
        log.info("%s: open http://localhost:%d (Ctrl-C stops it)", model, address[1])


def prepare_fork(app: Any) -> None:
    """Do once what each worker would do, and keep the memory pages of what is loaded shared."""
    if isinstance(app, Flask):  # and no other WSGI application, which an owner may wrap around it
        compile_templates(app)
    gc.collect()  # garbage collection of a worker would write to the pages of all objects
    gc.freeze()


STOP_SIGNALS = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}


def unblock_stop_signals() -> None:
    """Deliver the signals that have arrived meanwhile, and those to come."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


os.register_at_fork(after_in_parent=unblock_stop_signals)


def pre_fork(server: Any, worker: Any) -> None:
    """Hold back the signals that stop the worker, and give it the first slot that is free.

    Until the worker has handlers of its own, the copy of the master's would swallow such a signal,
    and the master would wait for the whole graceful timeout. A slot becomes free when its worker
    ends, so that the one which replaces it goes on counting there.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    used_slots = {peer.slot for peer in server.WORKERS.values()}
    worker.slot = next(slot for slot in itertools.count(1) if slot not in used_slots)


def post_fork(server: Any, worker: Any) -> None:
    """Let the application, which was loaded before the fork, know its worker."""
    service = service_of(server.app.wsgi())
    service.telemetry.n_workers = server.num_workers
    service.telemetry.attach(worker.slot)
    worker.probe_paths = service.probe_paths  # of the default worker class


def post_worker_init(worker: Any) -> None:
    """Let signals stop the worker, and its event loop, if it has one, write the log."""
    unblock_stop_signals()
    if hasattr(worker, "loop"):
        service_of(worker.app.wsgi()).telemetry.write_log_in(worker.loop)


def worker_exit(_: Any, __: Any) -> None:
    """End the process of a worker that has finished, without the end of its interpreter.

    That writes to nearly every object, so that each worker would copy the memory that the workers
    share, at the moment at which all of them end.
    """
    if getattr(sys.exception(), "code", None) != 0:
        return  # it has failed: the interpreter says why
    atexit._run_exitfuncs()  # closes the log, and calls what the application has registered
    sys.stdout.flush()
    os._exit(0)


def on_reload(server: Any) -> None:
    """Load the files now at MODEL_PATH for the workers that are forked next.

    With preload_app gunicorn itself loads nothing. The workers of the old model finish their
    requests.
    """
    from app import reload_model

    gc.unfreeze()
    reload_model(server.app.wsgi())
    prepare_fork(server.app.wsgi())

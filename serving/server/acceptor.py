"""Accepting connections: as many as there are descriptors for, and none while the worker stops."""

import asyncio
import errno
from typing import Any

from serving.server.http11 import Connection

ACCEPTS_PER_TURN = 8  # so that the other workers, and the clients of this one, have their turn
EXCESS_CONNECTIONS = 100  # that receive 503 and are closed; the next ones wait in the kernel
RESERVED_DESCRIPTORS = 64  # for listeners, files, and the connections of the application


class Acceptor:
    """Accepts connections on the listening sockets of a worker."""

    def __init__(self, worker: Any, listeners: list[Any], n_descriptors: int) -> None:
        self.worker = worker
        self.listeners = listeners
        self.tasks: set[asyncio.Task[Any]] = set()  # that set up a connection
        self.is_paused = True
        self.has_warned = False

        available = n_descriptors - RESERVED_DESCRIPTORS - EXCESS_CONNECTIONS
        self.max_clients = max(1, min(worker.cfg.worker_connections, available))
        self.max_connections = self.max_clients + EXCESS_CONNECTIONS
        if n_descriptors > 0:
            self.max_connections = min(
                self.max_connections, max(1, n_descriptors - RESERVED_DESCRIPTORS)
            )

    def resume(self) -> None:
        """Accept connections, if there is room for them."""
        if self.is_paused and self.n_connections() < self.max_connections:
            self.is_paused = False
            for listener in self.listeners:
                listener.setblocking(False)
                self.worker.loop.add_reader(listener.fileno(), self.accept, listener)

    def pause(self) -> None:
        """Leave new connections in the kernel."""
        self.is_paused = True
        for listener in self.listeners:
            self.worker.loop.remove_reader(listener.fileno())

    async def stop(self) -> None:
        """Accept no more, and return once the accepted connections are set up."""
        self.pause()
        if self.tasks:
            await asyncio.wait(self.tasks)
        for listener in self.listeners:
            listener.close()

    def n_connections(self) -> int:
        """Return how many connections are open, or set up at the moment."""
        return len(self.worker.connections) + len(self.tasks)

    def accept(self, listener: Any) -> None:
        """Accept the connections that wait; called by the loop."""
        for _ in range(ACCEPTS_PER_TURN):
            if self.n_connections() >= self.max_connections:
                self.pause()
                return
            try:
                client, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self.wait_for_descriptors(error)
                return

            client.setblocking(False)
            setup = self.worker.loop.connect_accepted_socket(self.new_connection, client)
            task = self.worker.loop.create_task(setup)
            self.tasks.add(task)
            task.add_done_callback(self.finish_setup)

    def new_connection(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self.worker)

    def finish_setup(self, task: asyncio.Task[Any]) -> None:
        """Forget a task that has set up a connection; a client may have left meanwhile."""
        self.tasks.discard(task)
        error = task.exception()
        if error is not None:
            self.worker.log.info("connection lost before its first request: %s", error)

    def wait_for_descriptors(self, error: OSError) -> None:
        """Accept no more until the next heartbeat. Raises an error of another kind."""
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            raise error
        self.pause()
        if not self.has_warned:
            self.has_warned = True
            self.worker.log.warning("connections wait for descriptors or memory: %s", error)

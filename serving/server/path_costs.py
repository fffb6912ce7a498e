"""Which requests the event loop may handle itself, from what earlier ones of their path cost."""

import resource
import time

SLOW_REQUEST_SECONDS = 0.01
MIN_QUICK_RUNS = 3  # in a thread, before the loop handles a path
MAX_QUICK_RUNS = 10_000
MAX_PATHS = 1000
# Only Linux counts for a single thread. Elsewhere another thread's waiting counts as well.
RUSAGE_WHO = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)


class RunTimer:
    """Measures a run in a thread: its seconds, and whether it waited for anything."""

    def __init__(self) -> None:
        self.started_at = time.perf_counter()
        self.n_waits = self.count_waits()

    def count_waits(self) -> int:
        """Return how often this thread has given up its core to wait."""
        return resource.getrusage(RUSAGE_WHO).ru_nvcsw

    def is_quick(self) -> bool:
        """Return whether the run took little time until now, and never waited."""
        if time.perf_counter() - self.started_at > SLOW_REQUEST_SECONDS:
            return False
        return self.count_waits() == self.n_waits


class PathCosts:
    """Paths that have been shown to be quick; a thread handles any other path.

    A run in a thread shows that a path is quick if it takes less than 10 ms and does not wait: for
    a lock, a database, a sleep. A path that turns out to be slow in the loop has to show four times
    as often that it is quick.
    """

    def __init__(self) -> None:
        self.quick_paths: set[str] = set()
        self.n_quick_runs: dict[str, int] = {}
        self.n_required_runs: dict[str, int] = {}

    def record_thread_run(self, path: str, *, is_quick: bool) -> None:
        """Note a run in a thread."""
        if not is_quick:
            return
        if path not in self.n_quick_runs and len(self.n_quick_runs) >= MAX_PATHS:
            self.forget()

        n_runs = self.n_quick_runs.get(path, 0) + 1
        self.n_quick_runs[path] = n_runs
        if n_runs >= self.n_required_runs.get(path, MIN_QUICK_RUNS):
            self.quick_paths.add(path)

    def record_loop_run(self, path: str, seconds: float) -> None:
        """Note a run in the loop."""
        if seconds <= SLOW_REQUEST_SECONDS:
            return
        n_runs = 4 * self.n_required_runs.get(path, MIN_QUICK_RUNS)
        self.n_required_runs[path] = min(n_runs, MAX_QUICK_RUNS)
        self.n_quick_runs[path] = 0
        self.quick_paths.discard(path)

    def forget(self) -> None:
        """Forget all paths, so that a client who invents paths occupies no memory."""
        self.quick_paths.clear()
        self.n_quick_runs.clear()
        self.n_required_runs.clear()

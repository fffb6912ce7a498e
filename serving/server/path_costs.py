"""Which requests the event loop may handle itself, from what earlier ones of their path cost."""

import resource

SLOW_REQUEST_SECONDS = 0.01
MIN_QUICK_RUNS = 3  # in a thread, before the loop handles a path
MAX_QUICK_RUNS = 1000
MAX_PATHS = 1000
# Only Linux counts for a single thread. Elsewhere another thread's work counts as well.
RUSAGE_WHO = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)


def measure_usage() -> resource.struct_rusage:
    """Return what the current thread has used so far."""
    return resource.getrusage(RUSAGE_WHO)


def is_quick_since(before: resource.struct_rusage) -> bool:
    """Return whether the current thread has neither waited nor computed for long since `before`.

    The time for which the kernel ran something else instead is not the request's fault.
    """
    now = resource.getrusage(RUSAGE_WHO)
    cpu_seconds = now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime
    n_waits = now.ru_nvcsw - before.ru_nvcsw  # how often it has given up its core to wait
    return cpu_seconds <= SLOW_REQUEST_SECONDS and n_waits == 0


class PathCosts:
    """Paths that have been shown to be quick; a thread handles any other path.

    A run in a thread shows that a path is quick if it computes for less than 10 ms and does not
    wait: for a lock, a database, a sleep. A path that turns out to be slow in the loop has to show
    four times as often that it is quick.
    """

    def __init__(self) -> None:
        self.quick_paths: set[str] = set()
        self.n_quick_runs: dict[str, int] = {}
        self.n_required_runs: dict[str, int] = {}

    def record_quick_run(self, path: str) -> None:
        """Note a quick run in a thread."""
        if path not in self.n_quick_runs and len(self.n_quick_runs) >= MAX_PATHS:
            self.forget()

        n_runs = self.n_quick_runs.get(path, 0) + 1
        self.n_quick_runs[path] = n_runs
        if n_runs >= self.n_required_runs.get(path, MIN_QUICK_RUNS):
            self.quick_paths.add(path)

    def record_slow_run(self, path: str) -> None:
        """Note a slow run in the loop."""
        n_runs = 4 * self.n_required_runs.get(path, MIN_QUICK_RUNS)
        self.n_required_runs[path] = min(n_runs, MAX_QUICK_RUNS)
        self.n_quick_runs[path] = 0
        self.quick_paths.discard(path)

    def forget(self) -> None:
        """Forget all paths, so that a client who invents paths occupies no memory."""
        self.quick_paths.clear()
        self.n_quick_runs.clear()
        self.n_required_runs.clear()

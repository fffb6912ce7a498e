"""What the kernel says of a running worker: memory, descriptors, threads, limits."""

import re
from pathlib import Path


def the_worker(service):
    """Return the directory in /proc of the one worker of a service."""
    [pid] = service.workers()
    return Path(f"/proc/{pid}")


def n_descriptors(service):
    """Return how many files and sockets the worker has open."""
    return len(list((the_worker(service) / "fd").iterdir()))


def n_threads(service):
    """Return how many threads the worker has."""
    return len(list((the_worker(service) / "task").iterdir()))


def reset_peak(service):
    """Return the resident bytes of the worker, and begin a new peak."""
    worker = the_worker(service)
    (worker / "clear_refs").write_text("5")
    return peak_bytes(service)


def peak_bytes(service):
    """Return the most bytes that were resident since the last reset_peak()."""
    status = (the_worker(service) / "status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def descriptor_limit(service):
    """Return how many descriptors the worker may open."""
    limits = (the_worker(service) / "limits").read_text()
    return int(re.search(r"Max open files +(\d+)", limits)[1])

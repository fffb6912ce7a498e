"""The cores that this process may use."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def count_usable_cores(cgroups: Path = CGROUPS) -> int:
    """Return the number of cores that the process may run on, or its container's share of them.

    `cgroups` has the control group of the container, of version 2 or 1. A share is rounded up.
    """
    n_cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        n_cores = len(os.sched_getaffinity(0))

    try:
        if (cgroups / "cpu.max").exists():
            quota, period = (cgroups / "cpu.max").read_text().split()
        else:
            quota = (cgroups / "cpu/cpu.cfs_quota_us").read_text()
            period = (cgroups / "cpu/cpu.cfs_period_us").read_text()
        share = int(quota) / int(period)
    except (OSError, ValueError):  # not in a container, or "max"
        return n_cores
    if share <= 0:  # version 1 has -1 for no limit
        return n_cores
    return min(n_cores, math.ceil(share))

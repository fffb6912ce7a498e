"""The number of workers follows from the cores that the container may use."""

import os
import runpy
import sys

import joblib
import pytest

from helpers import ROOT, gunicorn
from serving.server.cores import count_usable_cores

QUOTAS = [
    ({"cpu.max": "50000 100000\n"}, 1),
    ({"cpu.max": "100000 100000\n"}, 1),
    ({"cpu.max": "150000 100000\n"}, 2),
    ({"cpu.max": "25000 10000\n"}, 3),
    ({"cpu.max": "max 100000\n"}, 4),
    ({"cpu.max": "800000 100000\n"}, 4),
    ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ({"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ({}, 4),
]


@pytest.mark.parametrize(("files", "expected"), QUOTAS)
def test_quota_limits_cores(tmp_path, monkeypatch, files, expected):
    """A part of a core counts as one, and no quota is more than the cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert count_usable_cores(tmp_path) == expected


def test_cores_are_those_of_joblib():
    """`joblib.cpu_count` finds the same number on this machine."""
    assert count_usable_cores() == joblib.cpu_count()


@pytest.mark.parametrize(("variable", "expected"), [("", 2), ("5", 5)])
def test_workers_follow_from_cores(monkeypatch, variable, expected):
    """There are at most two workers, unless the setting says how many."""
    monkeypatch.setenv("WEB_CONCURRENCY", variable)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # gunicorn.conf.py sets its own
    monkeypatch.setattr("serving.server.cores.count_usable_cores", lambda: 8)
    assert runpy.run_path(str(ROOT / "gunicorn.conf.py"))["workers"] == expected


@pytest.mark.skipif(sys.platform != "linux", reason="needs taskset")
def test_one_core_has_one_worker(serve):
    """A second worker would wait for the first one."""
    first_core = str(min(os.sched_getaffinity(0)))
    service = serve(command=gunicorn("taskset", "--cpu-list", first_core))
    assert service.call("GET", "/execution-parameters").json["MaxConcurrentTransforms"] == 1

"""The locks hold what pyproject.toml declares, with hashes, and agree with each other."""

import re
from importlib.metadata import distribution

from helpers import ROOT
from manifests import MAKEFILE, PROJECT

GROUPS = PROJECT["dependency-groups"]

LOCKS = ("requirements.txt", *sorted(path.name for path in (ROOT / "requirements").iterdir()))


def read_lock(name):
    path = ROOT / name
    return (path if path.exists() else ROOT / "requirements" / name).read_text()


def pinned_versions(name):
    """Return the version of each package in a lock; each must have a hash."""
    versions = {}
    for requirement in re.split(r"\n(?=[a-z0-9])", read_lock(name)):
        if match := re.match(r"([a-z0-9-]+)(?:\[.+?\])?==([^ ;\\]+)", requirement):
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", requirement), requirement
            versions[match[1]] = match[2]

    return versions


def package_names(requirements):
    return {re.match("[a-z0-9-]+", requirement)[0] for requirement in requirements}


def test_locks_hold_declared_packages():
    """Every declared package is in the lock of its group."""
    serving = pinned_versions("requirements.txt")
    registry = pinned_versions("registry.txt")
    registry_dev = pinned_versions("registry-dev.txt")
    assert package_names(PROJECT["project"]["dependencies"]) <= serving.keys()
    assert package_names(GROUPS["model"]) <= serving.keys()
    assert package_names(GROUPS["dev"]) <= pinned_versions("dev.txt").keys()
    assert package_names(GROUPS["registry"]) <= registry.keys()
    assert package_names(GROUPS["registry-dev"]) <= registry_dev.keys()
    assert package_names(GROUPS["browser"]) <= pinned_versions("browser.txt").keys()
    assert set(GROUPS["batch"]) <= pinned_versions("batch.txt").keys()
    assert set(GROUPS["batch-dev"]) <= pinned_versions("batch-dev.txt").keys()
    assert set(GROUPS["bench"]) <= pinned_versions("bench.txt").keys()


def test_locks_agree_on_versions():
    """What serves has the same version in every lock that contains it."""
    serving = pinned_versions("requirements.txt").items()
    registry = pinned_versions("registry.txt").items()
    batch = pinned_versions("batch.txt")
    development = pinned_versions("dev.txt")
    assert serving <= development.items()
    assert serving <= registry <= pinned_versions("registry-dev.txt").items()
    assert serving <= batch.items() <= pinned_versions("bench.txt").items()
    # `make test-batch` installs both, and more.
    assert batch.items() | development.items() <= pinned_versions("batch-dev.txt").items()


def test_edge_lock_has_what_serves_but_for_pickles():
    """The edge image has the versions of the service, without scikit-learn and what that brings."""
    serving = pinned_versions("requirements.txt")
    edge = pinned_versions("edge.txt")
    assert edge.items() <= serving.items()

    only_for_pickles = {"scikit-learn"}
    while needed := required_by(only_for_pickles) - only_for_pickles:
        only_for_pickles |= needed
    declared = package_names(PROJECT["project"]["dependencies"]) - only_for_pickles
    assert declared <= edge.keys()
    only_for_pickles.remove("numpy")
    assert not only_for_pickles & edge.keys()


def required_by(names):
    """Return the packages that these require, without their extras."""
    found = set()
    for name in names:
        requirements = distribution(name).requires or ()
        found |= package_names(item for item in requirements if "extra ==" not in item)
    return found


def test_locks_name_extras():
    """What a package requires with an extra is locked with it.

    pip looks for the newest version of `coverage[toml]` if the lock has `coverage` only, and stops
    at its missing hash.
    """
    lock = read_lock("dev.txt")
    for name in pinned_versions("dev.txt").keys() & package_names(GROUPS["dev"]):
        for requirement in distribution(name).requires or ():
            if match := re.match(r"[a-z0-9-]+\[[a-z]+\]", requirement):
                assert "extra ==" in requirement or f"\n{match[0]}==" in lock, requirement
    assert "--no-strip-extras" in MAKEFILE  # for the locks that are not installed here


def test_locks_name_no_index():
    """No lock contains an address, and each says how it was made."""
    assert set(LOCKS) >= {"requirements.txt", "dev.txt", "clients.txt", "registry.txt"}
    assert set(LOCKS) >= {"edge.txt", "registry-dev.txt", "batch.txt", "batch-dev.txt", "bench.txt"}
    for name in LOCKS:
        text = read_lock(name)
        assert "://" not in text
        assert "--index-url" not in text
        assert "make lock" in text


def test_model_group_is_in_every_lock_of_the_service():
    """`make lock` adds what the estimator needs to each lock of a program that loads the model."""
    lines = re.findall(r"^\t(\$\(LOCK.*) --output-file (\S+)", MAKEFILE, re.MULTILINE)
    assert ("$(LOCK_SERVING)", "requirements.txt") in lines
    assert [lock for command, lock in lines if command == "$(LOCK)"] == [
        "requirements/clients.txt",
        "requirements/browser.txt",
    ]
    assert ("$(LOCK) pyproject.toml", "requirements/edge.txt") in lines  # it loads no estimator
    assert "\nLOCK_SERVING = $(LOCK) pyproject.toml --group model\n" in MAKEFILE


def test_service_installs_no_tools():
    """What serves contains no tool, no package of the batch, and at most 21 packages."""
    serving = pinned_versions("requirements.txt").keys() - package_names(GROUPS["model"])
    assert not serving & set(GROUPS["dev"])
    # scikit-learn needs threadpoolctl.
    assert not serving & (set(GROUPS["batch"]) - {"threadpoolctl"})
    if not GROUPS["model"]:  # whose packages depend on others
        assert not serving & {"pandas", "mlflow-skinny", "boto3", "pip", "setuptools"}
        assert len(serving) <= 21

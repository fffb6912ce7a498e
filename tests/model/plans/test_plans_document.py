"""The estimators and transformers that docs/your-model.md says have a plan."""

import re

import pytest

from fitted_estimators import ESTIMATORS, fitted_estimator
from helpers import ROOT
from serving.model.plans.building import PREDICTORS, SEARCHES, build_plan
from serving.model.plans.columns import NoPlanError
from serving.model.plans.transformers import TRANSFORMERS
from serving.model.signature import Signature

DOCUMENT = (ROOT / "docs" / "your-model.md").read_text()
SECTION = DOCUMENT.split("\n## Prediction plans\n")[1].split("\n## ")[0]


def class_names(text):
    return set(re.findall(r"`([A-Z]\w+)`", text))


def table_row(plan):
    [row] = [line for line in SECTION.splitlines() if line.startswith(f"| `{plan}` |")]
    return class_names(row)


def plan_name(name):
    try:
        return build_plan(fitted_estimator(name), Signature([]), 4).name
    except NoPlanError:
        return None


PLANS = re.findall(r"^\| `([a-zA-Z ]+)` \|", SECTION, re.MULTILINE)
DOCUMENTED = {name for plan in PLANS for name in table_row(plan)}


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_documented_estimator_has_its_plan(name):
    """Each estimator of the table has the plan of its row."""
    assert name in table_row(plan_name(name))


def test_table_is_complete():
    """No other estimator of scikit-learn has a plan, but for those that contain others."""
    assert {name for name in ESTIMATORS if plan_name(name)} == DOCUMENTED | SEARCHES | {"Pipeline"}
    assert DOCUMENTED - table_row("linear") == set(PREDICTORS)


def test_documented_transformers_have_a_plan():
    """The transformers of the text are those that a plan knows."""
    [sentence] = re.findall(r"Before them(.*?)\n\n", SECTION, re.DOTALL)
    documented = class_names(sentence) - SEARCHES
    assert documented == set(TRANSFORMERS)

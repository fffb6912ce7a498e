"""Prediction plans beside their estimators."""

import numpy as np

from serving.model.plans.building import build_plan
from serving.model.plans.plan_file import decode_plan, encode_plan
from serving.model.signature import Signature


def plan_of(estimator, n_features=4, signature=None):
    return build_plan(estimator, signature or Signature([]), n_features)


def assert_same_answers(plan, estimator, rows, estimator_input=None):
    """Compare some rows, at once and one by one, and those of the plan file."""
    if estimator_input is None:
        estimator_input = rows
    step = len(rows) // 60 + 1
    rows = rows[::step]
    estimator_input = estimator_input[::step]
    from_file = decode_plan(encode_plan(plan, "digest"), "digest")
    np.testing.assert_array_equal(from_file.predict(rows), plan.predict(rows))
    assert (from_file.name, from_file.max_rows) == (plan.name, plan.max_rows)

    methods = [(plan.predict, estimator.predict)]
    if plan.has_probabilities:
        methods.append((plan.probabilities, estimator.predict_proba))
        probabilities = plan.probabilities(rows)
        np.testing.assert_array_equal(from_file.probabilities(rows), probabilities)
    for of_plan, of_estimator in methods:
        expected = of_estimator(estimator_input)
        one_by_one = np.concatenate([of_plan(rows[i : i + 1]) for i in range(len(rows))])
        for answer in (of_plan(rows), one_by_one):
            assert answer.dtype == expected.dtype
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(answer, expected, rtol=1e-9, atol=1e-9)
            else:
                np.testing.assert_array_equal(answer, expected)

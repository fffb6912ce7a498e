"""Compare prediction plans with libraries that compile a fitted estimator.

Prints for each estimator how many times faster than its own `predict` one row and 100 rows are, and
the largest difference of the predictions or probabilities. Needs .venv-bench.
"""

import sys
import timeit
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import treelite.sklearn
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from treelite import gtil

sys.path.insert(0, str(Path(__file__).parent.parent))
from serving.model.plans.building import build_plan
from serving.model.signature import Signature

DATA = {
    "iris": load_iris,
    "breast cancer": load_breast_cancer,
    "diabetes": load_diabetes,
    "digits": load_digits,
}
CASES = [
    ("iris", make_pipeline(StandardScaler(), LogisticRegression())),
    ("breast cancer", RandomForestClassifier(100, random_state=0)),
    ("digits", RandomForestClassifier(100, random_state=0)),
    ("diabetes", RandomForestRegressor(100, random_state=0)),
    ("iris", GradientBoostingClassifier(random_state=0)),
    ("breast cancer", HistGradientBoostingClassifier(random_state=0)),
    ("digits", HistGradientBoostingClassifier(random_state=0)),
]


def main():
    warnings.simplefilter("ignore")
    print("| Estimator | Data | Program | 1 row | 100 rows | Largest difference |")
    print("| --- | --- | --- | --- | --- | --- |")
    with threadpool_limits(1):
        for data_name, estimator in CASES:
            data = DATA[data_name]()
            estimator.fit(data.data, data.target)
            for program, compile_estimator in PROGRAMS.items():
                columns = compare(estimator, data.data, compile_estimator)
                name = type(getattr(estimator, "steps", [[None, estimator]])[-1][1]).__name__
                print(f"| {name} | {data_name} | {program} | {columns} |", flush=True)


def compare(estimator, X, compile_estimator):
    """Return the columns of the table for one program."""
    try:
        predict = compile_estimator(estimator, X)
        difference = np.abs(predict(X[:100]) - answers(estimator, X[:100])).max()
    except Exception as error:  # whatever a library raises, it cannot take the estimator
        return f"refused: {type(error).__name__} | |"

    columns = []
    for rows in (X[:1], X[:100]):
        ratios = []
        for _ in range(7):
            number = 100 // len(rows) + 2
            own = timeit.timeit(lambda rows=rows: answers(estimator, rows), number=3) / 3
            other = timeit.timeit(lambda rows=rows: predict(rows), number=number) / number
            ratios.append(own / other)
        columns.append(f"{np.median(ratios):.1f}")
    return f"{' | '.join(columns)} | {difference:.0e}"


def answers(estimator, rows):
    """Return what is compared: the probabilities, or the predictions of a regressor."""
    if hasattr(estimator, "predict_proba"):
        return estimator.predict_proba(rows)
    return estimator.predict(rows)


def with_plan(estimator, X):
    plan = build_plan(estimator, Signature([]), X.shape[1])
    return plan.probabilities if plan.has_probabilities else plan.predict


def with_treelite(estimator, X):
    model = treelite.sklearn.import_model(estimator)
    is_classifier = hasattr(estimator, "predict_proba")

    def predict(rows):
        values = np.asarray(gtil.predict(model, rows, nthread=1)).reshape(len(rows), -1)
        if not is_classifier:
            return values[:, 0]
        return np.hstack([1 - values, values]) if values.shape[1] == 1 else values

    return predict


def with_onnxruntime(estimator, X):
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
    converted = to_onnx(estimator, X[:1].astype(np.float32), options=options)
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(converted.SerializeToString(), session_options)
    name = session.get_inputs()[0].name

    def predict(rows):
        outputs = session.run(None, {name: rows.astype(np.float32)})
        return outputs[-1] if options else outputs[0][:, 0]

    return predict


PROGRAMS = {
    "prediction plan": with_plan,
    "treelite": with_treelite,
    "onnxruntime": with_onnxruntime,
}

if __name__ == "__main__":
    main()

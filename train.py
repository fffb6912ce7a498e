"""Train the model, measure it, and write model.pkl with its model card; refuse to write a bad one."""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split

from serving.model.card import ClassInfo, FeatureInfo
from serving.model.storage import save_model
from serving.monitoring.drift import bin_shares, quantile_edges

SEED = 0
FOLDS = 5


def main() -> None:
    """Train, report, and write, or end with status 1 and leave the old files as they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("model.pkl"), metavar="PATH"
    )
    parser.add_argument(
        "--min-accuracy", type=float, default=0.9, metavar="SHARE", help="default: %(default)s"
    )
    parser.add_argument(
        "--held-out",
        type=Path,
        metavar="PATH",
        help="write the held-out rows' classes here, as CSV",
    )
    parser.add_argument(
        "--register", metavar="NAME", help="register it as a version of this name, in MLflow"
    )
    options = parser.parse_args()
    if options.register:
        from serving import registry  # brings MLflow, which nothing else here needs

    data = load_iris()
    X, y = data.data, data.target
    labels = [str(label) for label in data.target_names]
    estimator = LogisticRegression(max_iter=200)

    # Two looks at rows that the estimator has not seen: every row once, and a fifth of them in detail.
    folds = cross_val_score(
        estimator, X, y, cv=StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    )
    X_fit, X_held, y_fit, y_held = train_test_split(
        X, y, test_size=0.2, stratify=y, random_state=SEED
    )
    answer = estimator.fit(X_fit, y_fit).predict(X_held)
    accuracy = float(accuracy_score(y_held, answer))
    confusion = confusion_matrix(y_held, answer)

    print(f"{estimator} on {len(X)} rows of {data.data.shape[1]} features, {len(labels)} classes")
    print(
        f"  cross-validation  accuracy {folds.mean():.3f} +- {folds.std():.3f} over {FOLDS} folds"
    )
    print(
        f"  held out          accuracy {accuracy:.3f} over {len(X_held)} rows; rows true, columns predicted:"
    )
    for label, row in zip(labels, confusion, strict=True):
        print(f"    {label:>12} {' '.join(f'{count:4d}' for count in row)}")
    if min(accuracy, folds.mean()) < options.min_accuracy:
        sys.exit(
            f"refused: an accuracy is below {options.min_accuracy}; {options.output} is left as it was"
        )

    # What is served has seen every row, like the model measured in each fold but with all the data.
    estimator.fit(X, y)
    card = save_model(
        options.output,
        estimator,
        name="iris",
        features=[
            FeatureInfo(
                name=name,
                unit=name.partition("(")[2].rstrip(")") or None,
                minimum=float(column.min()),
                maximum=float(column.max()),
                edges=(edges := quantile_edges(column)).tolist(),
                shares=bin_shares(column, edges).tolist(),
            )
            for name, column in zip(data.feature_names, X.T, strict=True)
        ],
        classes=[
            ClassInfo(value=int(value), label=label, share=float((y == value).mean()))
            for value, label in zip(estimator.classes_, labels, strict=True)
        ],
        rows=len(X),
        metrics={
            "cross_validation": {
                "accuracy": float(folds.mean()),
                "std": float(folds.std()),
                "folds": folds.tolist(),
            },
            "held_out": {
                "accuracy": accuracy,
                "rows": len(X_held),
                "confusion_matrix": confusion.tolist(),
            },
        },
        data={
            "source": "sklearn.datasets.load_iris",
            "sha256": digest(X, y),
            "held_out_sha256": digest(X_held, y_held),
        },
        reference=X[[int(np.argmax(y == value)) for value in estimator.classes_]],
    )
    print(
        f"wrote {options.output} and {options.output.with_suffix('.json').name}, version {card.sha256[:12]}"
    )
    if options.held_out:
        names = dict(zip(estimator.classes_, labels, strict=True))
        lines = [
            f"{names[true]},{names[predicted]}\n"
            for true, predicted in zip(y_held, answer, strict=True)
        ]
        options.held_out.write_text("".join(["actual,predicted\n", *lines]))
    if options.register:
        registry.main(["register", options.register, "--model", str(options.output)])


def digest(*arrays: NDArray[Any]) -> str:
    """Return the SHA-256 of the bytes of `arrays`, one after the other."""
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


if __name__ == "__main__":
    main()

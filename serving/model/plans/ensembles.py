"""Predictors of trees, forests and gradient boosting.

The values of the trees are added one after the other, as scikit-learn does, so that sums that are
equal there are equal here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.model.arrays import Array, Floats
from serving.model.plans.columns import NoPlanError
from serving.model.plans.links import LINKS, sigmoid, softmax, two_classes
from serving.model.plans.trees import MISSING_CODE, FlatTrees, Tree, flatten

# With more rows the compiled loops of scikit-learn are quicker (`bench/plans.py`).
MAX_ROWS = 100


class ForestPredictor:
    """A tree, or the mean of several."""

    name = "trees"
    max_rows = MAX_ROWS

    def __init__(self, trees: FlatTrees, classes: Array | None, *, takes_missing: bool) -> None:
        self.trees = trees
        self.n_trees = len(trees.roots)
        self.classes = classes
        self.takes_missing = takes_missing
        self.has_probabilities = classes is not None

    def predict(self, rows: Floats) -> Array:
        """Return the class with the largest probability of each row, or the mean."""
        means = self.probabilities(rows)
        if self.classes is None:
            return means[:, 0]
        return self.classes[means.argmax(axis=1)]  # type: ignore[no-any-return]

    def probabilities(self, rows: Floats) -> Floats:
        """Return the mean of the trees' values, of shape (rows, outputs)."""
        # scikit-learn's trees compare float32 with the thresholds, which are float64.
        leaves = self.trees.leaves(rows.astype(np.float32).astype(np.float64))
        return _sums(self.trees.values.take(leaves, axis=0)) / self.n_trees


class BoostingPredictor:
    """The sum of the values of trees, of which each stage has one for each score.

    `link` is the name of the link, if there is one.
    """

    name = "trees"
    max_rows = MAX_ROWS

    def __init__(
        self,
        trees: FlatTrees,
        baseline: Floats,
        classes: Array | None,
        *,
        takes_missing: bool,
        uses_float32: bool,
        link: str | None,
        zero_is_second_class: bool,
    ) -> None:
        self.trees = trees
        self.baseline = baseline
        self.classes = classes
        self.takes_missing = takes_missing
        self.has_probabilities = classes is not None
        self.uses_float32 = uses_float32
        self.link = link
        self.zero_is_second_class = zero_is_second_class

    def predict(self, rows: Floats) -> Array:
        """Return the class with the largest score of each row, or the score."""
        scores = self._scores(rows)
        if self.classes is None:
            return self._linked(scores)[:, 0]
        if scores.shape[1] > 1:
            return self.classes[scores.argmax(axis=1)]  # type: ignore[no-any-return]
        is_second = scores[:, 0] > 0
        if self.zero_is_second_class:
            is_second = scores[:, 0] >= 0
        return self.classes[is_second.astype(int)]  # type: ignore[no-any-return]

    def probabilities(self, rows: Floats) -> Floats:
        """Return the class probabilities, of shape (rows, classes)."""
        scores = self._scores(rows)
        if scores.shape[1] > 1:
            return softmax(scores)
        return two_classes(sigmoid(self._linked(scores)))

    def _linked(self, scores: Floats) -> Floats:
        if self.link is None:
            return scores
        return LINKS[self.link](scores)

    def _scores(self, rows: Floats) -> Floats:
        if self.uses_float32:
            rows = rows.astype(np.float32).astype(np.float64)
        values = self.trees.values.take(self.trees.leaves(rows))
        n_scores = len(self.baseline)
        stages = values.reshape(len(rows), -1, n_scores)
        baseline = np.broadcast_to(self.baseline, (len(rows), 1, n_scores))
        return _sums(np.concatenate([baseline, stages], axis=1))


def _sums(values: Floats) -> Floats:
    """Return the sums over the second axis, added from the first to the last."""
    return values.cumsum(axis=1)[:, -1]


def decision_tree(estimator: Any) -> ForestPredictor:
    """Return the predictor of one tree. Raises NoPlanError for several outputs."""
    return _forest(estimator, [estimator])


def forest(estimator: Any) -> ForestPredictor:
    """Return the predictor of a forest. Raises NoPlanError for several outputs."""
    return _forest(estimator, estimator.estimators_)


def _forest(estimator: Any, trees: Sequence[Any]) -> ForestPredictor:
    if estimator.n_outputs_ > 1:
        raise NoPlanError("trees with several outputs")
    takes_missing = estimator.__sklearn_tags__().input_tags.allow_nan
    flat_trees = flatten([_tree(fitted.tree_) for fitted in trees])
    classes = getattr(estimator, "classes_", None)
    return ForestPredictor(flat_trees, classes, takes_missing=takes_missing)


def gradient_boosting(estimator: Any) -> BoostingPredictor:
    """Return the predictor of a GradientBoosting estimator. Raises NoPlanError."""
    if estimator.init is not None and estimator.init != "zero":
        raise NoPlanError("gradient boosting that starts with another estimator")

    trees = []
    for stage in estimator.estimators_:
        for fitted in stage:
            trees.append(_tree(fitted.tree_, estimator.learning_rate))
    origin = np.zeros((1, estimator.n_features_in_), dtype=np.float32)

    link = None
    if estimator.loss == "exponential":
        link = "double"
    return BoostingPredictor(
        flatten(trees),
        estimator._raw_predict_init(origin)[0],
        getattr(estimator, "classes_", None),
        takes_missing=False,
        uses_float32=True,
        link=link,
        zero_is_second_class=True,
    )


def histogram_boosting(estimator: Any) -> BoostingPredictor:
    """Return the predictor of a HistGradientBoosting estimator."""
    known_categories = estimator._bin_mapper.bin_thresholds_
    is_categorical = estimator._bin_mapper.is_categorical_
    trees = []
    for stage in estimator._predictors:
        for predictor in stage:
            trees.append(_histogram_tree(predictor, known_categories, is_categorical))

    link = None
    classes = getattr(estimator, "classes_", None)
    if classes is None and estimator.loss in ("gamma", "poisson"):
        link = "exp"
    return BoostingPredictor(
        flatten(trees),
        estimator._baseline_prediction.reshape(-1),
        classes,
        takes_missing=True,
        uses_float32=False,
        link=link,
        zero_is_second_class=False,
    )


def _tree(tree: Any, learning_rate: float = 1.0) -> Tree:
    """Return a tree of scikit-learn's `tree_`, its values times the learning rate."""
    missing_right = tree.missing_go_to_left == 0
    return Tree(
        left=tree.children_left,
        right=tree.children_right,
        feature=tree.feature,
        threshold=tree.threshold,
        missing_right=missing_right,
        values=tree.value[:, 0] * learning_rate,
    )


def _histogram_tree(
    predictor: Any, known_categories: Sequence[Floats], is_categorical: Array
) -> Tree:
    nodes = predictor.nodes
    is_leaf = nodes["is_leaf"].astype(bool)
    goes_left_by_code = {}
    for node in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~is_leaf).tolist():
        bits = predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]]
        known = known_categories[nodes["feature_idx"][node]].astype(int)
        goes_left = np.full(MISSING_CODE + 1, bool(nodes["missing_go_to_left"][node]))
        goes_left[known] = _bits(bits)[known]
        goes_left_by_code[node] = goes_left

    return Tree(
        left=np.where(is_leaf, -1, nodes["left"].astype(np.intp)),
        right=np.where(is_leaf, -1, nodes["right"].astype(np.intp)),
        feature=nodes["feature_idx"].astype(np.intp),
        threshold=nodes["num_threshold"],
        missing_right=nodes["missing_go_to_left"] == 0,
        values=nodes["value"].reshape(-1, 1),
        goes_left_by_code=goes_left_by_code,
    )


def _bits(words: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Return the bits of 8 words of 32, the lowest first."""
    return np.unpackbits(words.view(np.uint8), bitorder="little").astype(bool)

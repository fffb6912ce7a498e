"""Trees as flat arrays: one array for each attribute of the nodes of all trees.

The children of a node are neighbours, so that the next node is the left child, plus one if the row
goes right. A leaf is its own child. A row goes down all trees at once, one level in a step.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.model.arrays import Floats
from serving.model.plans.columns import NoPlanError

Indices = NDArray[np.intp]
Flags = NDArray[np.bool_]

# Up to this number of nodes, comparing one row with all of them is quicker than level by level.
MAX_COMPARED_NODES = 30_000
# Elements in a step with many rows: more would leave the cache of a core.
MAX_STEP_ELEMENTS = 20_000
# Numbers in the leaves and nodes of all trees, which are copied: 40 MB.
MAX_VALUES = 5_000_000
# A category is a code from 0 to 255; this one stands for a missing or unknown category.
MISSING_CODE = 256


@dataclass(frozen=True)
class Tree:
    """A fitted tree: node 0 is its root, and the children of a leaf are -1.

    A row goes right if its value is above the threshold, or if it is missing and `missing_right`.
    At the nodes of `goes_left_by_code` it goes left for the codes that are set. `values` has the
    shape (nodes, outputs).
    """

    left: Indices
    right: Indices
    feature: Indices
    threshold: Floats
    missing_right: Flags
    values: Floats
    goes_left_by_code: dict[int, Flags] = field(default_factory=dict)


class FlatTrees:
    """The nodes of several trees; `roots` are the indices of their roots.

    `goes_left_by_code` has a row for each node that compares categories, which
    `code_table_index` tells of each node; it is -1 for the others.
    """

    def __init__(
        self,
        *,
        roots: Indices,
        depth: int,
        left: Indices,
        feature: Indices,
        threshold: Floats,
        missing_right: Flags,
        values: Floats,
        code_table_index: Indices,
        goes_left_by_code: Flags,
    ) -> None:
        self.roots = roots
        self.depth = depth
        self.left = left
        self.feature = feature
        self.threshold = threshold
        self.missing_right = missing_right
        self.values = values
        self.code_table_index = code_table_index
        self.goes_left_by_code = goes_left_by_code

    def thresholds(self) -> Iterable[tuple[int, float]]:
        """Return the feature and the threshold of each comparison, each once."""
        is_split = np.isfinite(self.threshold)
        pairs = np.column_stack([self.feature[is_split], self.threshold[is_split]])
        for feature, threshold in np.unique(pairs, axis=0).tolist():
            yield int(feature), threshold

    def leaves(self, rows: Floats) -> Indices:
        """Return the leaf of each tree that each row ends in, of shape (rows, trees)."""
        has_missing = bool(np.isnan(rows).any())
        if len(rows) == 1 and len(self.left) <= MAX_COMPARED_NODES:
            return self._leaves_of_one_row(rows[0], has_missing)[np.newaxis]

        step_rows = max(1, MAX_STEP_ELEMENTS // len(self.roots))
        blocks = [rows[start : start + step_rows] for start in range(0, len(rows), step_rows)]
        return np.concatenate([self._leaves_level_by_level(rows, has_missing) for rows in blocks])

    def _leaves_of_one_row(self, row: Floats, has_missing: bool) -> Indices:
        every_node = slice(None)
        children = self.left + self._goes_right(row.take(self.feature), every_node, has_missing)
        nodes = self.roots
        for _ in range(self.depth):
            nodes = children.take(nodes)
        return nodes

    def _leaves_level_by_level(self, rows: Floats, has_missing: bool) -> Indices:
        n_rows, n_features = rows.shape
        elements = np.ascontiguousarray(rows).ravel()
        starts = np.arange(0, rows.size, n_features)[:, np.newaxis]
        nodes = np.broadcast_to(self.roots, (n_rows, len(self.roots)))
        for _ in range(self.depth):
            values = elements.take(self.feature.take(nodes) + starts)
            nodes = self.left.take(nodes) + self._goes_right(values, nodes, has_missing)
        return nodes

    def _goes_right(self, values: Floats, nodes: Any, has_missing: bool) -> Flags:
        """Return whether the value at each of `nodes`, of the same shape, leads to the right."""
        goes_right: Flags = values > self.threshold[nodes]
        if has_missing:
            goes_right |= np.isnan(values) & self.missing_right[nodes]
        if len(self.goes_left_by_code):
            index = self.code_table_index[nodes]
            by_code = index >= 0
            codes = _category_codes(values[by_code])
            goes_right[by_code] = ~self.goes_left_by_code[index[by_code], codes]
        return goes_right


def flatten(trees: Sequence[Tree]) -> FlatTrees:
    """Return the nodes of all trees. Raises NoPlanError if they are too many to be copied."""
    if sum(tree.values.size for tree in trees) > MAX_VALUES:
        raise NoPlanError("trees of so many nodes that a copy would be large")
    layouts = [_children_side_by_side(tree) for tree in trees]
    sizes = [len(order) for order, _ in layouts]
    roots = np.cumsum([0, *sizes[:-1]])

    left: list[Indices] = []
    feature: list[Indices] = []
    threshold: list[Floats] = []
    missing_right: list[Flags] = []
    values: list[Floats] = []
    code_tables: list[Flags] = []
    code_table_index = np.full(sum(sizes), -1)
    for tree, (order, _), root in zip(trees, layouts, roots.tolist(), strict=True):
        position = np.empty(len(order), dtype=np.intp)
        position[order] = np.arange(len(order))
        is_leaf = tree.left[order] < 0

        left.append(root + position[np.where(is_leaf, order, tree.left[order])])
        feature.append(np.where(is_leaf, 0, tree.feature[order]))
        threshold.append(np.where(is_leaf, np.inf, tree.threshold[order]))
        missing_right.append(~is_leaf & tree.missing_right[order])
        values.append(tree.values[order])
        for node, goes_left in tree.goes_left_by_code.items():
            code_table_index[root + position[node]] = len(code_tables)
            code_tables.append(goes_left)

    return FlatTrees(
        roots=roots,
        depth=max(depth for _, depth in layouts),
        left=np.concatenate(left),
        feature=np.concatenate(feature),
        threshold=np.concatenate(threshold),
        missing_right=np.concatenate(missing_right),
        values=np.concatenate(values),
        code_table_index=code_table_index,
        goes_left_by_code=np.array(code_tables),
    )


def _children_side_by_side(tree: Tree) -> tuple[Indices, int]:
    """Return the nodes in an order in which the right child follows the left, and the depth."""
    left = tree.left.tolist()
    right = tree.right.tolist()
    order = [0]
    depths = [0]
    position = 0
    while position < len(order):
        node = order[position]
        if left[node] >= 0:
            order += [left[node], right[node]]
            depths += [depths[position] + 1] * 2
        position += 1
    return np.array(order, dtype=np.intp), max(depths)


def _category_codes(values: Floats) -> Indices:
    is_code = (values >= 0) & (values < MISSING_CODE)
    return np.where(is_code, values, MISSING_CODE).astype(np.intp)

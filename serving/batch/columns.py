"""Columns of an input: which one holds which feature, and which are in the output."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from serving.batch.csv_values import nullify_missing, read_values
from serving.batch.features import describe_bad_value, value_kind
from serving.batch.names import describe_missing, match_features, rename_columns
from serving.batch.scoring import Scorer
from serving.batch.stats import BatchError
from serving.model.card import FeatureInfo


class InputColumns:
    """The columns of an input, called `names`, and `constants`, which have one value for all rows.

    `written_names` are those in the file, in which a name may occur twice. `features` has the
    feature of a column, `kept` are the columns that the output has as well, and `notes` are what
    was matched. Raises BatchError unless tables with these columns can be scored.
    """

    def __init__(
        self,
        scorer: Scorer,
        names: Sequence[str],
        constants: Mapping[str, str | None],
        written_names: Sequence[str] = (),
    ) -> None:
        self.constants = {name: constants[name] for name in constants if name not in names}
        renamed = rename_columns(written_names or names, scorer.reading.renames)
        available = [*renamed, *self.constants]
        column_names = [*names, *self.constants]

        matches = match_features(scorer.model.features, available)
        missing = [name for name in scorer.model.features if name not in matches]
        missing += [name for name in scorer.keep or [] if name not in column_names]
        if missing:
            raise BatchError(describe_missing(missing, available))

        self.features: dict[str, FeatureInfo] = {}
        self.notes: list[str] = []
        for feature in scorer.model.signature.features:
            match = matches[feature.name]
            if available.count(match) > 1:
                raise BatchError(f"column {match!r} occurs {available.count(match)} times")
            name = column_names[available.index(match)]
            self.features[name] = feature
            if name != feature.name:
                self.notes.append(f"column {name!r} for {feature.name!r}")

        self.kept = list(names)
        if scorer.keeps_partitions:
            self.kept = column_names
        if scorer.keep is not None:
            self.kept = scorer.keep
        existing = set(scorer.output_columns).intersection(self.kept)
        if existing:
            raise BatchError(
                f"output column {min(existing)!r} already exists; exclude it with --keep"
            )

    def select(self, table: Any) -> dict[str, Any]:
        """Return the columns of the output that an input has, by name."""
        columns = {}
        for name in self.kept:
            if name in self.constants:
                value = pa.scalar(self.constants[name], pa.string())
                columns[name] = pa.repeat(value, len(table))
            else:
                columns[name] = table.column(name)
        return columns

    def constant_feature(self, name: str, n_rows: int) -> Any:
        """Return the column of a feature that the name of a folder has. Raises BatchError."""
        feature = self.features[name]
        text = self.constants[name]
        kind = value_kind(feature)
        values = pa.array([text], pa.string())
        if kind.arrow_type == pa.string():
            return pa.repeat(nullify_missing(values, feature)[0], n_rows)
        values, [is_bad] = read_values(values, feature)
        if is_bad.as_py():
            reason = describe_bad_value(feature.name, kind.one_value, repr(text))
            raise BatchError(f"the folder's name: {reason}")
        return pa.repeat(values[0], n_rows)

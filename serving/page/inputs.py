"""The form of the page: a control for each feature, with the distribution of the training rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from serving.api.values import has_numbers
from serving.model.card import FeatureInfo, FeatureValue
from serving.model.model import Model
from serving.page.bars import Bar, histogram

# The steps of a slider over the observed range, at least.
MIN_STEPS = 100
MAX_DECIMALS = 9
# The numbers of a model with more features, such as pixels, have no slider, so that the page stays
# light.
MAX_SLIDERS = 100


@dataclass(frozen=True)
class Choice:
    """One value of a list; `json` is what a request has for it."""

    label: str
    json: str


@dataclass(frozen=True)
class FeatureInput:
    """The control of one feature.

    `control` is "slider", "number" (without a range), "list", "switch" or "text". `decimals` is how
    precise the values of a slider are. `value` is what the control has at first, None for a
    missing value.
    """

    name: str
    control: str
    value: FeatureValue
    nullable: bool = False
    minimum: float = 0.0
    maximum: float = 0.0
    decimals: int = 0
    bars: list[Bar] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Return what the control shows at first: 1001 and not 1001.0, as scripts write it."""
        if self.value is None:
            return ""
        if isinstance(self.value, float):
            return repr(self.value).removesuffix(".0")
        return str(self.value)


@dataclass(frozen=True)
class Preset:
    """A row of real values, for a button."""

    label: str
    row: list[FeatureValue]


def describe_inputs(model: Model) -> list[FeatureInput]:
    """Return the control of each feature; without a model card each is a plain number."""
    if model.card is None:
        return [
            FeatureInput(f"feature {index}", "number", value)
            for index, value in enumerate(model.example_rows()[0].tolist())
        ]

    first_row = model.card.reference[0].features
    inputs: list[FeatureInput] = []
    for feature, value in zip(model.card.features, first_row, strict=True):
        control = _describe_input(feature, value)
        if len(inputs) >= MAX_SLIDERS and control.control == "slider":
            control = FeatureInput(feature.name, "number", value, feature.nullable)
        inputs.append(control)
    return inputs


def _describe_input(feature: FeatureInfo, value: FeatureValue) -> FeatureInput:
    if feature.type == "category":
        choices = [Choice(str(category), to_json(category)) for category in feature.categories]
        return _list_input(feature, value, choices)
    if feature.type == "boolean" and feature.nullable:
        choices = [Choice("false", "false"), Choice("true", "true")]
        return _list_input(feature, value, choices)
    if feature.type == "boolean":
        return FeatureInput(feature.name, "switch", value)
    if feature.type == "text":
        return FeatureInput(feature.name, "text", value, feature.nullable)
    if feature.minimum is None or feature.maximum is None:
        return FeatureInput(feature.name, "number", value, feature.nullable)

    return FeatureInput(
        feature.name,
        "slider",
        value,
        feature.nullable,
        feature.minimum,
        feature.maximum,
        count_decimals(feature),
        histogram(feature.edges, feature.shares),
    )


def _list_input(feature: FeatureInfo, value: FeatureValue, choices: list[Choice]) -> FeatureInput:
    if feature.nullable:
        choices = [*choices, Choice("missing", to_json(None))]
    return FeatureInput(feature.name, "list", value, feature.nullable, choices=choices)


def count_decimals(feature: FeatureInfo) -> int:
    """Return how many decimals the values of a slider have, so that it has MIN_STEPS or more."""
    extent = (feature.maximum or 0.0) - (feature.minimum or 0.0)
    if feature.type == "integer" or extent <= 0:
        return 0
    return min(max(0, math.ceil(math.log10(MIN_STEPS / extent))), MAX_DECIMALS)


def list_presets(model: Model) -> list[Preset]:
    """Return the reference rows of the model card, each with its prediction as label."""
    if model.card is None:
        return []

    presets = []
    for reference in model.card.reference:
        label = describe_prediction(model, reference.prediction)
        if None in reference.features:
            label += ", values missing"
        presets.append(Preset(label, reference.features))
    return presets


def describe_prediction(model: Model, prediction: Any) -> str:
    """Return the label of a class, or any other prediction as text."""
    if isinstance(prediction, list):
        return ", ".join(map(str, prediction))
    if prediction in model.labels:
        return model.labels[prediction]
    if isinstance(prediction, float):
        return f"{prediction:.4g}"
    return str(prediction)


def list_numeric_features(model: Model) -> list[str]:
    """Return the names of the features whose values are numbers."""
    return [feature.name for feature in model.signature.features if has_numbers(feature)]


def to_json(value: FeatureValue | Sequence[FeatureValue]) -> str:
    """Return `value` as JSON."""
    return msgspec.json.encode(value).decode()

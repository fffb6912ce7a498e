"""Thirty models as owners bring them: an estimator and its data each, of every task and input."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.impute import KNNImputer
from sklearn.linear_model import (
    ElasticNetCV,
    LinearRegression,
    LogisticRegression,
    QuantileRegressor,
    Ridge,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OrdinalEncoder,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier

from fixture_models import (
    MEASUREMENTS,
    build_languages_estimator,
    build_penguins_estimator,
    load_penguins,
    load_texts,
)
from serving.training.dataset import Dataset

Builder = Callable[[], Any]


def iris() -> Dataset:
    return Dataset.from_sklearn(datasets.load_iris())


def iris_with_gaps() -> Dataset:
    iris = datasets.load_iris()
    X = iris.data.copy()
    X[::10, 2] = np.nan
    return Dataset(X, iris.target, feature_names=iris.feature_names)


def iris_frame() -> Dataset:
    return Dataset.from_sklearn(datasets.load_iris(as_frame=True))


def two_species() -> Dataset:
    iris = datasets.load_iris()
    return Dataset(iris.data, np.where(iris.target == 2, "virginica", "other"))


def diabetes() -> Dataset:
    return Dataset.from_sklearn(datasets.load_diabetes())


def linnerud() -> Dataset:
    return Dataset.from_sklearn(datasets.load_linnerud())


def two_outputs() -> Dataset:
    iris = datasets.load_iris()
    return Dataset(iris.data, np.column_stack([iris.target, iris.target == 2]))


def penguins() -> Dataset:
    frame = load_penguins()
    return Dataset(frame[[*MEASUREMENTS, "island", "sex"]], frame["species"])


def texts() -> Dataset:
    return Dataset(*load_texts())


def unlabelled() -> Dataset:
    return Dataset(datasets.load_iris().data)


def encode_penguins() -> Any:
    """Return a pipeline whose trees take missing values and the codes of categories."""
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer([("codes", encoder, ["island", "sex"])], remainder="passthrough")
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=10))


def stack() -> Any:
    return StackingClassifier([("nb", GaussianNB()), ("tree", DecisionTreeClassifier(max_depth=3))])


def gaussian_process() -> Any:
    return GaussianProcessRegressor(RBF() + WhiteKernel(), normalize_y=True)


def vote() -> Any:
    return VotingRegressor([("linear", LinearRegression()), ("ridge", Ridge())])


def log_target() -> Any:
    return TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1)


def search_grid() -> Any:
    return GridSearchCV(SVC(), {"C": [1, 10]}, cv=3)


def search_at_random() -> Any:
    parameters = {"max_depth": [2, 3, 4]}
    return RandomizedSearchCV(
        DecisionTreeClassifier(random_state=0), parameters, n_iter=2, random_state=0
    )


def pipe(*steps: Any) -> Builder:
    return lambda: make_pipeline(*steps)


ZOO: dict[str, tuple[Callable[[], Dataset], Builder]] = {
    "LogisticRegression": (iris, LogisticRegression),
    "LogisticRegression, two classes of words": (two_species, LogisticRegression),
    "LinearDiscriminantAnalysis": (iris, LinearDiscriminantAnalysis),
    "SGDClassifier": (iris, partial(SGDClassifier, random_state=0)),
    "LinearSVC": (iris, LinearSVC),
    "CalibratedClassifierCV": (iris, lambda: CalibratedClassifierCV(LinearSVC())),
    "SVC, GridSearchCV": (iris, search_grid),
    "DecisionTreeClassifier, RandomizedSearchCV": (iris, search_at_random),
    "GaussianNB on a DataFrame": (iris_frame, GaussianNB),
    "KNeighborsClassifier": (iris, KNeighborsClassifier),
    "RandomForestClassifier": (iris, partial(RandomForestClassifier, 10, random_state=0)),
    "ExtraTreesClassifier": (iris, partial(ExtraTreesClassifier, 10, random_state=0)),
    "AdaBoostClassifier": (iris, partial(AdaBoostClassifier, n_estimators=5, random_state=0)),
    "StackingClassifier": (iris, stack),
    "HistGradientBoostingClassifier with gaps": (
        iris_with_gaps,
        partial(HistGradientBoostingClassifier, max_iter=5),
    ),
    "KNNImputer, SelectKBest, LogisticRegression": (
        iris_with_gaps,
        pipe(KNNImputer(), SelectKBest(k=3), LogisticRegression(max_iter=500)),
    ),
    "ColumnTransformer, LogisticRegression on a DataFrame": (penguins, build_penguins_estimator),
    "OrdinalEncoder, HistGradientBoostingClassifier on a DataFrame": (penguins, encode_penguins),
    "TfidfVectorizer, LogisticRegression": (texts, build_languages_estimator),
    "MultiOutputClassifier": (
        two_outputs,
        lambda: MultiOutputClassifier(DecisionTreeClassifier(random_state=0)),
    ),
    "Ridge": (diabetes, Ridge),
    "ElasticNetCV": (diabetes, ElasticNetCV),
    "QuantileRegressor": (diabetes, partial(QuantileRegressor, alpha=0.1)),
    "PolynomialFeatures, LinearRegression": (
        diabetes,
        pipe(MinMaxScaler(), PolynomialFeatures(2), LinearRegression()),
    ),
    "SplineTransformer, KBinsDiscretizer, Ridge": (
        diabetes,
        pipe(SplineTransformer(), KBinsDiscretizer(3), Ridge()),
    ),
    "FunctionTransformer, Ridge": (diabetes, pipe(FunctionTransformer(np.arctan), Ridge())),
    "TransformedTargetRegressor": (diabetes, log_target),
    "RandomForestRegressor": (diabetes, partial(RandomForestRegressor, 5, random_state=0)),
    "GradientBoostingRegressor": (
        diabetes,
        partial(GradientBoostingRegressor, n_estimators=5, random_state=0),
    ),
    "HistGradientBoostingRegressor": (diabetes, partial(HistGradientBoostingRegressor, max_iter=5)),
    "BaggingRegressor": (diabetes, partial(BaggingRegressor, n_estimators=3, random_state=0)),
    "VotingRegressor": (diabetes, vote),
    "GaussianProcessRegressor": (linnerud, gaussian_process),
    "StandardScaler, MLPRegressor": (
        diabetes,
        pipe(StandardScaler(), MLPRegressor(hidden_layer_sizes=5, max_iter=50, random_state=0)),
    ),
    "LinearRegression, three outputs": (linnerud, LinearRegression),
    "IsolationForest": (unlabelled, partial(IsolationForest, n_estimators=5, random_state=0)),
    "OneClassSVM": (unlabelled, OneClassSVM),
    "LocalOutlierFactor": (unlabelled, partial(LocalOutlierFactor, novelty=True)),
}

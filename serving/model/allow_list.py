"""The names that the pickle of an estimator may import, and what it may do with each.

- A constructor is called while the pickle is loaded, with arguments from the pickle.
- A class gets an instance without a call of `__init__`.
- A reference is a value. The estimator may call it later, with any arguments.

Everything here must be harmless whatever the arguments are: it must not write, import or execute.
To serve an estimator of another library, add its classes to OTHER_LIBRARIES.
"""

from enum import Enum

# The module for transformers of your own: every class and function that is defined in it.
OWN_MODULE = "serving.model.transformers"

# The classes in the pickles of other libraries, by module: docs/your-model.md.
OTHER_LIBRARIES = {
    "catboost.core": frozenset({"CatBoostClassifier", "CatBoostRegressor"}),
    "lightgbm.basic": frozenset({"Booster"}),
    "lightgbm.sklearn": frozenset({"LGBMClassifier", "LGBMRegressor"}),
    "xgboost.core": frozenset({"Booster"}),
    "xgboost.sklearn": frozenset(
        {"XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor"}
    ),
}


class Use(Enum):
    """What a pickle may do with a name."""

    CONSTRUCTOR = "constructor"
    CLASS = "class"
    REFERENCE = "reference"


# Subclasses of BaseEstimator in these packages.
_ESTIMATOR_PACKAGES = """
    base calibration cluster compose covariance cross_decomposition decomposition
    discriminant_analysis dummy ensemble feature_extraction feature_selection frozen
    gaussian_process impute isotonic kernel_approximation kernel_ridge linear_model manifold mixture
    model_selection multiclass multioutput naive_bayes neighbors neural_network pipeline
    preprocessing random_projection semi_supervised svm tree
"""
ESTIMATOR_PACKAGES = frozenset(_ESTIMATOR_PACKAGES.split())

# Every class that is defined in these modules.
CLASS_MODULES = frozenset(
    {
        "sklearn._loss.link",
        "sklearn._loss.loss",
        "sklearn.gaussian_process.kernels",
        "sklearn.model_selection._split",
        "sklearn.neural_network._stochastic_optimizers",
    }
)

CLASSES = frozenset(
    {
        ("scipy.interpolate._bsplines", "BSpline"),
        ("scipy.interpolate._cubic", "Akima1DInterpolator"),
        ("scipy.interpolate._cubic", "CubicSpline"),
        ("scipy.interpolate._cubic", "PchipInterpolator"),
        ("scipy.interpolate._interpolate", "PPoly"),
        ("scipy.stats._distn_infrastructure", "rv_continuous_frozen"),
        ("scipy.stats._distn_infrastructure", "rv_discrete_frozen"),
        ("sklearn.calibration", "_CalibratedClassifier"),
        ("sklearn.cluster._birch", "_CFNode"),
        ("sklearn.cluster._birch", "_CFSubcluster"),
        ("sklearn.cluster._bisect_k_means", "_BisectingTree"),
        ("sklearn.compose._column_transformer", "make_column_selector"),
        ("sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor"),
        ("sklearn.impute._iterative", "_ImputerTriplet"),
        ("sklearn.metrics._scorer", "_CurveScorer"),
        ("sklearn.metrics._scorer", "_MultimetricScorer"),
        ("sklearn.metrics._scorer", "_PassthroughScorer"),
        ("sklearn.metrics._scorer", "_Scorer"),
        ("sklearn.utils._bunch", "Bunch"),
        ("sklearn.utils._metadata_requests", "MetadataRequest"),
        ("sklearn.utils._metadata_requests", "MethodMetadataRequest"),
    }
)

# Subclasses of a sparse container and of a distribution.
SPARSE_MODULES = frozenset(
    {
        "scipy.sparse._bsr",
        "scipy.sparse._coo",
        "scipy.sparse._csc",
        "scipy.sparse._csr",
        "scipy.sparse._dia",
        "scipy.sparse._lil",
    }
)
DISTRIBUTION_MODULES = frozenset({"scipy.stats._continuous_distns", "scipy.stats._discrete_distns"})

# Compiled classes are called to be rebuilt, or one of these functions is.
COMPILED_MODULES = frozenset(
    {
        "sklearn._loss._loss",
        "sklearn.linear_model._sgd_fast",
        "sklearn.metrics._dist_metrics",
        "sklearn.neighbors._ball_tree",
        "sklearn.neighbors._kd_tree",
    }
)
COMPILED_PREFIXES = ("newObj", "__pyx_unpickle_")

# The parts of arrays, scalars, random states and column ranges.
CONSTRUCTORS = frozenset(
    {
        ("builtins", "bytearray"),
        ("builtins", "complex"),
        ("builtins", "frozenset"),
        ("builtins", "range"),
        ("builtins", "set"),
        ("builtins", "slice"),
        ("collections", "OrderedDict"),
        ("collections", "defaultdict"),
        ("functools", "partial"),
        ("numpy", "dtype"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy.ma.core", "_mareconstruct"),
        ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"),
        ("sklearn.tree._tree", "Tree"),
    }
)

# Types that an estimator has as a parameter, such as `dtype`, or that a constructor is given.
TYPES = frozenset(
    {
        ("builtins", "bool"),
        ("builtins", "dict"),
        ("builtins", "float"),
        ("builtins", "int"),
        ("builtins", "list"),
        ("builtins", "object"),
        ("builtins", "str"),
        ("builtins", "tuple"),
        ("numpy", "ndarray"),
        ("numpy.ma", "MaskedArray"),
        ("numpy.random._mt19937", "MT19937"),
        ("numpy.random._pcg64", "PCG64"),
        ("numpy.random._pcg64", "PCG64DXSM"),
        ("numpy.random._philox", "Philox"),
        ("numpy.random._sfc64", "SFC64"),
        ("numpy.random.bit_generator", "SeedSequence"),
    }
)

# Arithmetic on arrays. `numpy.save` writes, and `numpy.apply_along_axis` calls its argument.
_NUMPY_FUNCTIONS = """
    abs amax amin argmax argmin argsort around array asarray ascontiguousarray asfortranarray
    atleast_1d atleast_2d average broadcast_to clip column_stack concatenate cumprod cumsum diff
    digitize dot expand_dims flip full_like hstack imag interp isclose max mean median min
    nan_to_num nanmax nanmean nanmedian nanmin nanstd nansum ones_like percentile prod ptp quantile
    ravel real reshape round searchsorted sort squeeze stack std sum take transpose unwrap var
    vstack where zeros_like
"""
NUMPY_FUNCTIONS = frozenset(_NUMPY_FUNCTIONS.split())

UFUNC_MODULES = frozenset(
    {"numpy", "scipy.special", "scipy.special._special_ufuncs", "scipy.special._ufuncs"}
)

FUNCTIONS = frozenset(
    {
        ("scipy._lib.array_api_compat.numpy._aliases", "asarray"),
        ("sklearn.cluster._kmeans", "_kmeans_single_elkan"),
        ("sklearn.cluster._kmeans", "_kmeans_single_lloyd"),
        ("sklearn.metrics._scorer", "negative_likelihood_ratio"),
        ("sklearn.metrics._scorer", "positive_likelihood_ratio"),
        ("sklearn.utils.validation", "check_array"),
    }
)

# Functions that these packages export and define themselves.
FUNCTION_PACKAGES = (
    "sklearn.feature_extraction.text",
    "sklearn.feature_selection",
    "sklearn.metrics",
    "sklearn.metrics.pairwise",
    "sklearn.preprocessing",
)
# These call a method that an argument names, or give out a table of the package itself.
EXCLUDED_FUNCTIONS = frozenset(
    {
        "check_scoring",
        "distance_metrics",
        "get_scorer",
        "kernel_metrics",
        "make_scorer",
        "metric_at_thresholds",
        "pairwise_distances_chunked",
    }
)

# Attributes that name a method, and the methods that they may name.
METHOD_ATTRIBUTES = frozenset(
    {
        "_response_method",
        "chain_method",
        "chain_method_",
        "response_method",
        "stack_method",
        "stack_method_",
    }
)
METHODS = frozenset(
    {"auto", "decision_function", "predict", "predict_log_proba", "predict_proba", "transform"}
)

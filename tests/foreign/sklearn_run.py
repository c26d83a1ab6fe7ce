"""Fits models of scikit-learn on the backend "mob" of joblib, and compares with loky: `sklearn_run.py [--kill]`.

This file is a script, so its transformer belongs to `__main__`. With `--kill` a random worker is killed each second,
and tasks are repeated.
"""

from __future__ import annotations

import os
import sys
import unittest
from contextlib import nullcontext
from typing import Any

import joblib
import numpy
import pytest
from joblib.parallel import ThreadingBackend
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.feature_selection import RFECV
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mob.joblib
from mob.joblib import warm
from tests.foreign.counting import Result
from tests.foreign.killer import Killer
from tests.foreign.pools import Watched

IS_KILLED = "--kill" in sys.argv
PRELOAD = ("mob.joblib", "sklearn.ensemble", "sklearn.feature_selection", "sklearn.inspection", "sklearn.pipeline")
"""What workers would have to import again after each death."""
OPTIONS: dict[str, Any] = {"retries": 20, "preload": PRELOAD} if IS_KILLED else {}
SEED = int(os.environ.get("SEED", "19"))

X, y = load_breast_cancer(return_X_y=True)


class Clipped(TransformerMixin, BaseEstimator):
    """A transformer that no worker can import."""

    def __init__(self, most: float = 3.0) -> None:
        self.most = most

    def fit(self, X: Any, y: Any = None) -> Clipped:  # noqa: N803  the names are scikit-learn's
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        return numpy.clip(X, -self.most, self.most)


def model() -> Any:
    """Return a model with a part of every origin."""
    return make_pipeline(StandardScaler(), Clipped(), LogisticRegression())


def forest() -> Any:
    return RandomForestClassifier(20, random_state=SEED, n_jobs=2)


GRID = {"logisticregression__C": [0.01, 0.1, 1.0, 10.0], "clipped__most": [1.0, 3.0]}


class SklearnTest(unittest.TestCase):
    """What takes `n_jobs`, as its users call it."""

    def check(self, compute: Any) -> None:
        """Compare what is computed on the two backends."""
        with joblib.parallel_config("loky", n_jobs=2):
            expected = compute()
        with joblib.parallel_config("mob", n_jobs=2, **OPTIONS):
            numpy.testing.assert_equal(compute(), expected)

    def test_cross_val_score(self) -> None:
        self.check(lambda: cross_val_score(model(), X, y))

    def test_cross_val_predict(self) -> None:
        self.check(lambda: cross_val_predict(model(), X, y, method="predict_proba"))

    def test_cross_validate_with_several_scores(self) -> None:
        def compute() -> Any:
            found = cross_validate(model(), X, y, scoring=["accuracy", "roc_auc"], return_train_score=True)
            return {name: values for name, values in found.items() if not name.endswith("_time")}

        self.check(compute)

    def test_grid_search(self) -> None:
        def compute() -> Any:
            search = GridSearchCV(model(), GRID, scoring="roc_auc").fit(X, y)
            return search.best_params_, search.cv_results_["mean_test_score"], search.predict(X)

        self.check(compute)

    def test_randomized_search(self) -> None:
        def compute() -> Any:
            search = RandomizedSearchCV(model(), GRID, n_iter=4, random_state=SEED).fit(X, y)
            return search.best_params_, search.cv_results_["mean_test_score"]

        self.check(compute)

    def test_search_over_forests_whose_trees_are_nested(self) -> None:
        def compute() -> Any:
            return GridSearchCV(forest(), {"max_depth": [2, 4]}, cv=3).fit(X, y).cv_results_["mean_test_score"]

        self.check(compute)

    def test_learning_curve(self) -> None:
        self.check(lambda: learning_curve(model(), X, y, train_sizes=numpy.array([0.5, 1.0])))

    def test_permutation_importance(self) -> None:
        fitted = model().fit(X, y)
        self.check(lambda: permutation_importance(fitted, X, y, n_repeats=2, random_state=SEED)["importances"])

    def test_recursive_elimination_of_features(self) -> None:
        self.check(lambda: RFECV(LogisticRegression(), step=5, cv=3).fit(StandardScaler().fit_transform(X), y).ranking_)

    def test_bagging(self) -> None:
        self.check(lambda: BaggingClassifier(model(), 8, random_state=SEED).fit(X, y).predict_proba(X))

    def test_one_against_rest(self) -> None:
        classes = numpy.digitize(X[:, 0], [11.0, 14.0, 17.0])
        self.check(lambda: OneVsRestClassifier(model()).fit(X, classes).predict(X))

    def test_large_data(self) -> None:
        many = numpy.tile(X, (40, 1))  # 5 MB, which travel through shared memory
        self.check(lambda: cross_val_score(model(), many, numpy.tile(y, 40)))

    def test_an_error_of_a_fit_arrives(self) -> None:
        with joblib.parallel_config("mob", n_jobs=2, **OPTIONS), pytest.raises(ValueError, match="NaN"):
            permutation_importance(model().fit(X, y), X * numpy.nan, y)

    def test_a_forest_that_asks_for_threads_gets_threads_where_no_backend_is_named(self) -> None:
        before = warm.pids
        fitted = forest().fit(X, y)
        assert warm.pids == before
        with joblib.parallel_config("mob", n_jobs=2, **OPTIONS):
            numpy.testing.assert_equal(forest().fit(X, y).predict_proba(X), fitted.predict_proba(X))
        assert isinstance(joblib.Parallel(n_jobs=2, prefer="threads")._backend, ThreadingBackend)

    def test_what_must_share_memory_does(self) -> None:
        with joblib.parallel_config("mob", n_jobs=2, **OPTIONS):
            assert isinstance(joblib.Parallel(require="sharedmem")._backend, ThreadingBackend)
            assert forest().fit(X, y).predict(X).shape == y.shape


if __name__ == "__main__":
    mob.joblib.Pool = Watched
    killer = Killer(lambda: warm.pids, SEED, answered=Watched.all_answered) if IS_KILLED else None
    with killer or nullcontext():
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(SklearnTest)
        result = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(suite)
    sys.exit(not result.wasSuccessful() or not result.testsRun or (killer is not None and not killer.count))

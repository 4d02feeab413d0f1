from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tiny_detectors import sample
from unmask.errors import ConfigError
from unmask.train.data import cell_weights
from unmask.train.probe import fit_head, lda_weights
from unmask.train.sweep import fit as fit_module
from unmask.train.sweep.features import FeatureList
from unmask.train.sweep.fit import fit_lda, fit_lists, fit_logistic

STRENGTHS = (0.001, 0.03, 1.0)


def correlated(width: int, *, items: int = 160, seed: int = 0):
    """Features that vary mostly together, as neighbouring blocks do, labels and weights."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, items)
    inner = rng.normal(size=(items, 12)) + labels[:, None] * rng.normal(size=12) * 0.4
    features = inner @ rng.normal(size=(12, width)) + 0.3 * rng.normal(size=(items, width))
    features = ((features - features.mean(0)) / features.std(0)).astype(np.float32)
    return torch.from_numpy(features), labels, rng.uniform(0.5, 2, items)


@pytest.mark.parametrize("widths", [[40], [30, 50], [300, 400]])
def test_the_regressions_are_those_of_scikit_learn(widths):
    features, labels, weights = correlated(sum(widths))
    heads = fit_logistic(features.split(widths, 1), labels, weights, STRENGTHS)
    logits = heads([features])
    for number, strength in enumerate(STRENGTHS):
        model = LogisticRegression(C=strength, tol=1e-7, max_iter=5000)
        expected = model.fit(features, labels, sample_weight=weights).decision_function(features)
        assert np.abs(logits[:, number] - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("strength", [1e-6, 1e4])
def test_a_very_weak_and_a_very_strong_penalty_end_too(strength):
    features, labels, weights = correlated(30)
    logits = fit_logistic([features], labels, weights, [strength])([features])
    assert np.isfinite(logits).all()


def test_a_constant_feature_does_no_harm():
    features, labels, weights = correlated(20)
    with_it = torch.cat([features, torch.zeros(len(features), 1)], 1)
    plain, more = (fit_logistic([x], labels, weights, [0.1])([x]) for x in (features, with_it))
    np.testing.assert_allclose(plain, more, atol=2e-3)


def test_features_that_vary_in_few_directions_take_few_passes(monkeypatch):
    # 4 passes; without knowledge of the directions it were 49, and 282 on features of a tower.
    passes = []
    margins = fit_module._Problem.margins
    monkeypatch.setattr(
        fit_module._Problem, "margins", lambda *each: passes.append(1) or margins(*each)
    )
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    inner = rng.normal(size=(300, 60)) * np.geomspace(1, 0.05, 60)
    inner += labels[:, None] * rng.normal(size=60) * 0.02
    features = inner @ rng.normal(size=(60, 600)) + 0.03 * rng.normal(size=(300, 600))
    features = ((features - features.mean(0)) / features.std(0)).astype(np.float32)
    fit_logistic([torch.from_numpy(features)], labels, np.ones(300), [0.003, 0.1])
    assert len(passes) < 12


def test_a_discriminant_follows_its_formula():
    features, labels, weights = correlated(15)
    coefficients, biases = lda_weights(features.numpy(), labels, weights, [0.2])
    x, w = features.numpy().astype(float), weights / weights.sum()
    means = [np.average(x[labels == each], 0, w[labels == each]) for each in (0, 1)]
    inner = x - np.stack(means)[labels]
    within = (inner * w[:, None]).T @ inner
    expected = np.linalg.solve(0.8 * within + 0.2 * np.eye(15), means[1] - means[0])
    np.testing.assert_allclose(coefficients[:, 0], expected, rtol=1e-4)
    assert biases[0] == pytest.approx(-expected @ (means[0] + means[1]) / 2, abs=1e-5)


def test_a_full_shrinkage_compares_the_means_alone():
    features, labels, _ = correlated(15)
    heads = fit_lda(features, labels, np.ones(len(labels)), [1.0])
    difference = features[labels == 1].mean(0) - features[labels == 0].mean(0)
    torch.testing.assert_close(heads.weights[:, 0], difference)


@pytest.mark.parametrize("shrinkage", [0.0, -0.1, 1.1, float("nan")])
def test_a_shrinkage_outside_its_range_is_refused(shrinkage):
    features, labels, weights = correlated(5)
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        lda_weights(features.numpy(), labels, weights, [shrinkage])


def rows(width: int):
    features, labels, _ = correlated(width)
    samples = [
        sample(Path(f"{n}.png"), label=int(label), dataset="ab"[n % 2])
        for n, label in enumerate(labels)
    ]
    return 5 * features.numpy() + 3, samples


@pytest.mark.parametrize("strength", [0.0, -1.0, float("inf"), float("nan")])
def test_a_strength_outside_its_range_is_refused(strength):
    features, samples = rows(5)
    with pytest.raises(ConfigError, match="it must be above 0"):
        fit_head(features, samples, strength=strength)


@pytest.mark.parametrize(("fit", "strength"), [("logistic", 0.01), ("lda", 0.1)])
def test_a_search_fits_the_heads_of_a_probe(fit, strength):
    features, samples = rows(24)
    columns = {"mean@1": features}
    found = fit_lists(
        columns,
        samples,
        [columns],
        [FeatureList("mean@1", ("mean@1",))],
        strengths=[strength] if fit == "logistic" else [],
        shrinkages=[strength] if fit == "lda" else [],
    )
    (fitted,) = found
    assert (fitted.fit, fitted.strengths) == (fit, (strength,))
    expected = fit_head(features, samples, strength=strength, fit=fit)(features)
    np.testing.assert_allclose(fitted.logits[0][:, 0], expected, atol=0.01)
    assert cell_weights(samples).mean() == pytest.approx(1)


def test_discriminants_are_fitted_to_single_narrow_features_only(monkeypatch):
    monkeypatch.setattr(fit_module, "LDA_WIDTH", 8)
    wide, samples = rows(9)
    narrow = wide[:, :8]
    lists = [FeatureList(name, (name,)) for name in ("wide", "narrow")]
    lists.append(FeatureList("both", ("narrow", "wide")))
    columns = {"wide": wide, "narrow": narrow}
    found = fit_lists(columns, samples, [columns], lists, strengths=[0.1], shrinkages=[0.1])
    assert [(each.list.name, each.fit) for each in found] == [
        ("wide", "logistic"), ("narrow", "logistic"), ("narrow", "lda"), ("both", "logistic")
    ]  # fmt: skip

"""The experiments of 2025 and 2026: what each shows, over five seeds where chance plays a part."""

from functools import partial

import pytest

import orthoviz as ov
from orthoviz import toys

SEEDS = [pytest.param(seed, marks=pytest.mark.full if seed else ()) for seed in range(5)]
"""All in the long part of the tests, the first in the short one."""


@pytest.mark.full
@pytest.mark.parametrize("seed", range(5))
def test_perfect_and_clueless(seed):
    """The orthogonal step learns the pairs that it sees, and the shared map least of all."""
    rates = {"descent": 3.0, "adam": 0.01, "orthogonal": 0.05}
    found = {rule: toys.unseen_pairs(rule, lr, seed=seed) for rule, lr in rates.items()}
    assert all(one["train"] < 1e-5 for one in found.values())
    unseen = [found[rule]["unseen"] for rule in rates]
    assert unseen[0] < 0.01 < unseen[1] < 0.2 < 0.35 < unseen[2]
    ranks = [found[rule]["rank"] for rule in rates]
    assert ranks[0] < ranks[1] < 18 < ranks[2]
    # At a rate that is twenty times larger it finds the rule, more exactly than descent
    larger = toys.unseen_pairs("orthogonal", 1.0, seed=seed)
    assert larger["train"] < 1e-6
    assert larger["unseen"] < 1e-4 < unseen[0]
    assert larger["rank"] < 4.1


@pytest.mark.parametrize("falling", [False, True])
def test_the_orthogonal_step_never_arrives_where_descent_does(falling):
    start = 1 + 3.141592653589793 / 5
    assert toys.never_arrives("orthogonal", falling=falling) == pytest.approx(start, abs=1e-9)
    assert abs(toys.never_arrives("descent", falling=falling)) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_wrong_beats_right_at_a_constant_rate_and_neither_beats_descent(seed):
    """Five cubic steps end nearer the minimum than the exact factor, at each rate that gets there."""
    exact = partial(ov.polar_factor, method="svd")
    cubic = partial(ov.polar_factor, method=ov.polar.NewtonSchulz(ov.polar.CUBIC[:5]))
    for lr in (0.1, 0.03, 0.01):
        assert toys.half_square(cubic, lr, seed=seed) < toys.half_square(exact, lr, seed=seed)
    assert toys.half_square(lambda G: G, 0.3, seed=seed) < 1e-25
    assert toys.half_square(exact, 0.03, falling=True, seed=seed) < 1e-6  # a rate that falls mends it


@pytest.mark.full
@pytest.mark.parametrize("seed", range(5))
def test_each_wins_by_its_own_ruler(seed):
    own = {"normalised": "frobenius", "sign": "entry", "orthogonal": "spectral"}
    rates = {"normalised": 0.1, "sign": 0.01, "orthogonal": 0.05}
    found = {rule: toys.margins(rule, lr, seed=seed) for rule, lr in rates.items()}
    for rule, norm in own.items():
        assert max(found, key=lambda other: found[other][norm]) == rule


@pytest.mark.slow
@pytest.mark.parametrize("decay", [0.1, 0.5, 2.0])
def test_decay_sets_the_spectral_norm(decay):
    assert toys.decayed_norm(decay) == pytest.approx(1 / decay, rel=1e-3)


@pytest.mark.parametrize("width", [32, 128])
def test_clipping_before_the_factor_does_nothing_and_after_it_everything(width):
    assert toys.clipped_step(width, before=1e-3) == pytest.approx(toys.clipped_step(width), rel=1e-9)
    assert toys.clipped_step(width) == pytest.approx(width**0.5, rel=1e-9)
    assert toys.clipped_step(width, after=1.0) == pytest.approx(1)


def test_rare_facts_are_learnt_as_soon_as_frequent_ones():
    """At rates at which descent knows six facts; at large enough ones descent and sign know all as well."""
    assert toys.rare_facts("descent", 30) == 6
    assert toys.rare_facts("orthogonal", 1) == 64
    assert toys.rare_facts("descent", 300) == toys.rare_facts("sign", 1) == 64

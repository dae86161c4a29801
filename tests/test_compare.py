"""Comparisons, recipes and reports: fair by construction, and no more said than the seeds allow."""

import json
import math
import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from torch import nn

import orthoviz as ov
from orthoviz import reports
from orthoviz.cli import main
from orthoviz.training import queue, recipes, stored
from orthoviz.training.comparison import folder_names
from orthoviz.training.equal import at_rate
from orthoviz.training.outcomes import edges, next_rate, summary
from orthoviz.training.records import read_watched, segment
from orthoviz.verdicts import decision, lead, verdict
from tests.weights import same

DATA = ov.datasets.load("digits")
BOTH = {name: ov.optim.OPTIMIZERS[name] for name in ("sgd", "orthogonal_sgd")}


def small(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def vector(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def compared(**options):
    given = dict(model=small, data=DATA, optimizers=BOTH, lrs=0.01, epochs=1, seeds=2, progress=False)
    return ov.training.compare(**given | options)


def test_all_start_from_the_same_weights_and_see_the_same_batches():
    found = compared(protocol="equal_lr")
    first = found.frame[found.frame.epoch == 0].pivot(index="seed", columns="optimizer", values="test_loss")
    assert (first["sgd"] == first["orthogonal_sgd"]).all()
    assert first["sgd"].nunique() == 2
    seen = []

    def make(groups, lr):
        optimizer, own = torch.optim.SGD(groups, lr=0.0), []
        weight = optimizer.param_groups[0]["params"][0]
        optimizer.register_step_pre_hook(lambda *_: own.append(weight.grad.clone()))
        seen.append(own)
        return optimizer

    compared(optimizers={"a": make, "b": make}, protocol="equal_lr", lrs=0.0, seeds=1)
    assert len(seen[-1]) == 6
    assert same(*seen[-2:])


def test_a_run_of_a_comparison_is_a_run_of_fit():
    found = compared(protocol="equal_lr", seeds=[3]).frame
    model = small(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    run = ov.training.fit(model, optimizer, DATA, epochs=1, seed=3, progress=False)
    mine = found[found.optimizer == "sgd"]
    assert mine.test_loss.to_numpy() == pytest.approx(run.history.test_loss.to_numpy(), rel=1e-6)


def test_a_module_is_copied_and_stays_as_it_was():
    model = small(0)
    before = [p.clone() for p in model.parameters()]
    found = compared(model=model, protocol="equal_lr", lrs=0.1)
    assert found.frame[found.frame.epoch == 0].test_loss.nunique() == 1  # one start for all seeds
    assert same(model, before)


def test_at_equal_steps_the_mean_step_of_the_whole_run_is_as_long():
    """Matched over the first fifty steps only, the verdict of one course turned round."""
    found = compared(protocol="equal_step", lrs=0.1, epochs=3)
    lengths = {}
    for name, make in BOTH.items():
        model = small(0)
        optimizer = make(ov.param_groups(model), found.rates[name])
        moved, before = [], vector(model)
        for epoch in range(1, 4):
            for _ in ov.training.steps(model, optimizer, DATA, batch_size=256, seed=0, epoch=epoch):
                moved.append((vector(model) - before).norm().item())
                before = vector(model)
        lengths[name] = sum(moved) / len(moved)
    assert lengths["orthogonal_sgd"] == pytest.approx(lengths["sgd"], rel=0.02)
    assert found.rates["sgd"] == 0.1
    assert found.rates["orthogonal_sgd"] < 0.05  # its steps are longer at equal rates
    told = found.frame.groupby("optimizer").step_length.first()
    assert told.to_dict() == pytest.approx(lengths, rel=1e-3)
    assert f"mean length of a step {told['sgd']:.4g}, {told['orthogonal_sgd']:.4g}" in found.verdict


def test_what_was_found_for_other_steps_is_not_taken(tmp_path):
    options = {"protocol": "equal_step", "epochs": 1, "out": tmp_path, "seeds": 1}
    first = compared(**options, lrs=0.1)
    assert compared(**options, lrs=0.1).rates == first.rates
    other = compared(**options, lrs=0.03)
    assert other.rates["sgd"] == 0.03
    assert other.rates["orthogonal_sgd"] < first.rates["orthogonal_sgd"] / 2
    again = compared(protocol="equal_step", epochs=1, seeds=1, lrs=0.1, done=other.frame)
    assert again.rates == pytest.approx(first.rates)


def test_steps_that_no_rate_makes_as_long_are_refused():
    class Still(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure) if self.param_groups[0]["lr"] < 1e-3 else None

    frozen = {"sgd": BOTH["sgd"], "still": lambda groups, lr: Still(groups, lr=1e-4)}
    with pytest.raises(ValueError, match="no rate makes the steps of still as long as those of SGD"):
        compared(optimizers=frozen, protocol="equal_step", lrs=0.1)


def test_rates_are_chosen_on_images_that_are_neither_trained_nor_tested_on():
    found = compared(protocol="both_tuned", lrs=(1e-5, 0.1), epochs=2)
    assert found.rates == {"sgd": 0.1, "orthogonal_sgd": 0.1}
    assert set(found.frame[found.frame.chosen].lr) == {0.1}
    assert "valid_accuracy" in found.frame
    assert len(found.frame) == 2 * 2 * 2 * 3  # as many runs for each
    rates = found.frame.groupby("optimizer").lr.nunique()
    assert rates.nunique() == 1


def test_at_equal_seconds_the_slower_gets_fewer_steps(monkeypatch):
    times = {"sgd": 10.0, "orthogonal_sgd": 22.0}
    monkeypatch.setattr("orthoviz.training.equal.milliseconds", lambda *_, **__: times)
    found = compared(protocol="equal_seconds", epochs=5, seeds=1)  # 30 steps and 300 ms
    last = found.frame.groupby("optimizer")[["step", "epoch", "seconds"]].max()
    assert last.loc["sgd"].tolist() == [30, 5, pytest.approx(0.3)]
    assert last.loc["orthogonal_sgd"].tolist() == [14, pytest.approx(14 / 6), pytest.approx(0.308)]
    less = compared(protocol="equal_seconds", epochs=1, seeds=1)  # not a whole epoch of the slower
    assert less.frame.groupby("optimizer").step.max().to_dict() == {"sgd": 6, "orthogonal_sgd": 3}
    found = compared(protocol="equal_lr", epochs=None, minutes=6 * 22 * 2.5 / 60_000, seeds=1)
    assert found.frame.groupby("optimizer").step.max().to_dict() == {"sgd": 15, "orthogonal_sgd": 15}


def test_a_grid_grows_until_the_best_rate_is_inside_and_otherwise_nothing_is_said():
    options = dict(protocol="both_tuned", lrs=(0.003, 0.01), epochs=2, optimizers={"sgd": BOTH["sgd"]})
    short, grown = compared(**options), compared(**options, grow=True)
    assert short.verdict.startswith("both tuned: unclear, for the best rate of SGD is at the end of its grid")
    tried = sorted(grown.frame.lr.unique())
    assert tried[:4] == [0.003, 0.01, 0.03, 0.1]
    assert tried[0] < grown.rates["sgd"] < tried[-1]
    assert grown.frame.groupby("lr").seed.nunique().eq(2).all()
    valid = grown.frame[grown.frame.epoch == 2].groupby("lr").valid_accuracy.mean()
    assert grown.rates["sgd"] == valid.idxmax()
    assert "unclear" not in grown.verdict


@pytest.mark.parametrize(
    ("tried", "best", "after"),
    [((0.003, 0.01, 0.03), 0.03, 0.1), ((0.003, 0.01, 0.03), 0.003, 0.001), ((0.003, 0.01, 0.03), 0.01, None),
     ((0.02,), 0.02, 0.03), ((1.0, 3.0), 3.0, 10.0)],
)  # fmt: skip
def test_the_next_rate_is_half_a_decade_on(tried, best, after):
    assert next_rate(tried, best) == after


def runs(**values):
    rows = [(name, 1.0, seed, 1, v) for name, some in values.items() for seed, v in enumerate(some)]
    return pd.DataFrame(rows, columns=["optimizer", "lr", "seed", "epoch", "test_accuracy"])


FOUR = dict(a=[0.6, 0.7, 0.8], b=[0.7, 0.801, 0.9], c=[0.5, 0.601, 0.7], d=[0.65, 0.6, 0.9])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        # far apart between seeds, near within a pair: 2 points ahead in each, but for a little
        (dict(a=[0.6, 0.7, 0.8], b=[0.62, 0.721, 0.819]), "x: b better: b 72.0 % (lr 1), a 70.0 % (lr 1)"),
        (dict(a=[0.8, 0.81, 0.82], b=[0.6, 0.611, 0.619]), "x: a better: a 81.0 % (lr 1), b 61.0 % (lr 1)"),
        (dict(a=[0.6, 0.7, 0.8], b=[0.7, 0.65, 0.85]), "x: not separated: b 73.3 % (lr 1), a 70.0 % (lr 1)"),
        # two pairs have one degree of freedom: 12.7 standard errors are needed
        (dict(a=[0.6, 0.7], b=[0.7, 0.81]), "x: b better: b 75.5 % (lr 1), a 65.0 % (lr 1)"),
        (dict(a=[0.6, 0.7], b=[0.7, 0.83]), "x: not separated: b 76.5 % (lr 1), a 65.0 % (lr 1)"),
        (dict(a=[0.6], b=[0.7]), "x: not separated by one run each: b 70.0 % (lr 1), a 60.0 % (lr 1)"),
        (dict(a=[0.6, 0.7, 0.8], b=[0.62, 0.721]), "x: b better: a 70.0 % (lr 1), b 67.0 % (lr 1)"),
        (FOUR, "x: b better than a, c worse than a, d not separated from a: b 80.0 %"),
        # one run of a third does not silence the others
        (dict(a=[0.6, 0.7, 0.8], b=[0.7, 0.801, 0.9], c=[0.9]), "b better, c not separated by one run each"),
        (dict(a=[0.11, 0.12], b=[0.6, 0.7]), "hardly better than chance (10 %): a"),
    ],
)
def test_a_verdict_is_by_pairs_against_the_first(values, words):
    assert words in summary(runs(**values), "x", chance=0.1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_run_without_a_number_is_no_lead(value):
    assert verdict({"a": [0.6, value, 0.7], "b": [0.1, 0.2, 0.3]}) == "not separated"


def test_what_makes_no_pairs_is_not_compared():
    assert verdict({"a": [0.6, 0.7], "b": [0.7, 0.8, 0.9]}) == "not compared, for their runs make no pairs"


def test_pairs_are_of_seeds_and_not_of_rows():
    frame = runs(a=[0.6, 0.7, 0.8], b=[0.62, 0.721, 0.819])
    for order in (frame.iloc[::-1], frame.sample(frac=1, random_state=0)):
        assert "b better" in summary(order, "x")


def test_a_rate_at_the_end_of_its_grid_makes_a_verdict_unclear():
    some = runs(a=[0.6, 0.7], b=[0.7, 0.801])
    best = {"a": 2, "b": 2}
    frame = pd.concat([some.assign(lr=lr, chosen=some.optimizer.map(best) == lr) for lr in (1, 2, 3)])
    assert edges(frame) == []
    best["b"] = 3
    at_end = frame.assign(chosen=frame.optimizer.map(best) == frame.lr)
    assert edges(at_end) == ["b"]
    assert "unclear, for the best rate of b is at the end of its grid" in summary(at_end, "x")
    assert edges(at_end[at_end.chosen]) == []  # one rate each: none was chosen


def test_a_lead_is_scipys_paired_t_test_and_its_interval():
    random = np.random.default_rng(0)
    for count in (2, 3, 5, 9):
        ours, theirs = random.normal(0.02, 0.03, count), random.normal(0, 0.03, count)
        right = scipy.stats.ttest_rel(ours, theirs)
        got = lead(ours.tolist(), theirs.tolist())
        assert got.mean == pytest.approx((ours - theirs).mean(), abs=1e-8)
        assert got.p == pytest.approx(right.pvalue, rel=1e-4)
        interval = right.confidence_interval(0.95)
        assert (got.low, got.high) == pytest.approx((interval.low, interval.high), abs=1e-7)


def share_told_apart(seeds, others, ahead=0.0, times=2_000):
    """How often any is called better or worse than the first; "ahead" in deviations of the pairs."""
    random = np.random.default_rng(seeds + 10 * others)
    apart = 0
    for _ in range(times):
        luck = random.normal(0.6, 0.05, seeds)  # of weights and batches, which all share
        values = {"first": (luck + random.normal(0, 0.01, seeds)).tolist()}
        for i in range(others):
            own = random.normal(ahead * 0.01 * 2**0.5, 0.01, seeds)
            values[f"other {i}"] = (luck + own).tolist()
        apart += not verdict(values).startswith("not separated")
    return apart / times


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "others"), [(2, 1), (3, 1), (5, 1), (3, 3), (5, 3), (5, 8)])
def test_equal_optimisers_are_rarely_told_apart(seeds, others):
    assert share_told_apart(seeds, others) <= 0.065


def test_a_lead_of_two_deviations_is_found_with_five_seeds():
    assert share_told_apart(5, 1, ahead=2) >= 0.85
    print("with three seeds and three others:", share_told_apart(3, 3, ahead=2))


def test_a_comparison_in_a_folder_goes_on_where_it_was(tmp_path):
    options = {"protocol": "equal_lr", "out": tmp_path, "watched": {"quantities": ["weight.stable_rank"]}}
    first = compared(**options)
    today, before = (tmp_path / name for name in folder_names("orthogonal_sgd", 0.01, 1))
    assert before.name == "orthogonal_SGD-lr0.01-seed1"
    place = today.rename(before)  # as the first edition called it
    stamp = (place / "provenance.json").stat().st_mtime_ns
    again = compared(**options)
    assert (place / "provenance.json").stat().st_mtime_ns == stamp
    columns = ["optimizer", "seed", "epoch", "train_loss", "test_accuracy"]
    assert again.frame[columns].equals(first.frame[columns])
    seen = read_watched(place)
    assert sorted(seen.step.unique()) == list(range(7))
    further = compared(**options | {"epochs": 2})
    assert further.frame.epoch.max() == 2
    seen = read_watched(place).query("quantity == 'stable_rank'")
    assert sorted(seen.step.unique()) == list(range(13))
    assert not seen.duplicated(["step", "layer"]).any()
    assert segment(place).name == f"{12:09d}"


@pytest.mark.parametrize("pair", [("AdamW", "AdamW*"), ("a b", "a_b"), ("Адам", "Адам 2"), ("⊥", "*")])
def test_each_name_has_a_folder_of_its_own(pair):
    first, second = (folder_names(name, 0.1, 0)[0] for name in pair)
    assert first != second
    assert all(re.fullmatch(r"[a-zA-Z0-9_.-]+", name) for name in (first, second))


def test_runs_that_are_done_are_not_run_again_on_another_machine(tmp_path, monkeypatch):
    kept = []
    options = {"protocol": "both_tuned", "lrs": (0.03, 0.1), "keep": lambda frame: kept.append(frame)}
    whole = compared(**options)
    assert len(kept) == 8
    monkeypatch.setattr("orthoviz.training.comparison.fit", None)
    file = tmp_path / "rows.csv"
    kept[-1].to_csv(file, index=False)
    again = compared(**options, done=pd.read_csv(file))
    pd.testing.assert_frame_equal(again.frame, whole.frame, check_dtype=False)
    for missing in ({"done": kept[-2]}, {"done": kept[-1], "epochs": 2}):  # those are of another length
        with pytest.raises(TypeError):
            compared(**options | missing)


def test_rows_that_are_done_are_kept_before_their_turn_comes():
    options = {"protocol": "both_tuned", "lrs": (0.03, 0.1)}
    whole, kept = compared(**options).frame, []
    later = whole[whole.optimizer == "orthogonal_sgd"]
    compared(**options, done=later, keep=kept.append)
    assert len(kept) == 4
    assert all((some.optimizer == "orthogonal_sgd").sum() == len(later) for some in kept)


# Two rates


PAIRS = {"lr": (0.003, 0.03), "rest_lr": (0.001, 0.01)}


def rates_in(optimizer):
    """The rates that matrices and the rest have."""
    return {group["layout"] is not None: group["lr"] for group in optimizer.param_groups}


def test_every_pair_of_a_rate_and_one_of_the_rest_is_tried(tmp_path):
    made = []

    def spied(make, groups, lr):
        made.append(make(groups, lr))
        return made[-1]

    names = ("adamw", "muon")
    both = {name: partial(spied, ov.optim.OPTIMIZERS[name]) for name in names}
    options = dict(optimizers=both, lrs=PAIRS, out=tmp_path)
    found = compared(**options)
    tried = [tuple(rates_in(optimizer)[matrix] for matrix in (True, False)) for optimizer in made]
    pairs = [(0.003, 0.001), (0.003, 0.01), (0.03, 0.001), (0.03, 0.01)]
    assert tried == 2 * (2 * pairs)
    frame = found.frame
    assert frame.groupby(["optimizer", "lr", "rest_lr"]).seed.nunique().tolist() == 8 * [2]
    last = frame[frame.epoch == 1]
    for name in names:
        valid = last[last.optimizer == name].groupby(["lr", "rest_lr"]).valid_accuracy.mean()
        assert found.rates[name] == valid.idxmax()
        chosen = frame[frame.chosen & (frame.optimizer == name)]
        assert {*zip(chosen.lr, chosen.rest_lr, strict=True)} == {found.rates[name]}
        lr, rest = found.rates[name]
        assert f"(lr {lr:g}, rest {rest:g})" in found.verdict
    assert "unclear, for the best rate of AdamW and Muon is at the end of its grid" in found.verdict
    assert (tmp_path / "muon-lr0.003-rest0.01-seed1").is_dir()
    made.clear()
    before = [file.stat().st_mtime_ns for file in sorted(tmp_path.glob("*/provenance.json"))]
    again = compared(**options).frame
    assert [file.stat().st_mtime_ns for file in sorted(tmp_path.glob("*/provenance.json"))] == before
    columns = ["optimizer", "lr", "rest_lr", "seed", "epoch", "test_loss"]
    pd.testing.assert_frame_equal(again[columns], frame[columns])
    assert compared(**options | {"out": None}, done=frame).frame[columns].equals(frame[columns])


def test_the_rate_of_the_rest_moves_the_rest_alone():
    model = small(0)
    for name in ("sgd", "adamw", "orthogonal_sgd", "muon", "swan", "lars", "orthogonal_adamw", "no_momentum"):
        make, lr = at_rate(ov.optim.OPTIMIZERS[name], (0.02, 0.5))
        groups = ov.param_groups(model)
        assert rates_in(make(groups, lr)) == {True: 0.02, False: 0.5}, name
        assert all(group.get("lr") != 0.5 for group in groups)  # the caller's stay


def test_a_pair_is_at_the_edge_where_one_of_its_rates_is():
    some = runs(a=[0.6, 0.7], b=[0.7, 0.801])
    grid = [(lr, rest) for lr in (1, 2, 3) for rest in (1, 2, 3)]
    frame = pd.concat([some.assign(lr=lr, rest_lr=rest, chosen=(lr, rest) == (2, 2)) for lr, rest in grid])
    assert edges(frame) == []
    for at_end in ((1, 2), (2, 3), (3, 3)):
        chosen = [pair == at_end for pair in zip(frame.lr, frame.rest_lr, strict=True)]
        assert edges(frame.assign(chosen=chosen)) == ["a", "b"]
    one = frame[frame.rest_lr == 2].assign(chosen=lambda table: table.lr == 2)
    assert edges(one) == []  # one rate of the rest: none was chosen


def test_a_loop_of_ones_own_has_pairs_too():
    def train(make, lr, seed):
        rates = rates_in(make(ov.param_groups(small(seed)), lr))
        return (rates[True] - 0.03) ** 2 + (rates[False] - 0.001) ** 2 + seed

    found = ov.training.compare_own(train, BOTH, lrs=PAIRS, seeds=2, progress=False)
    assert found.rates == dict.fromkeys(BOTH, (0.03, 0.001))
    assert len(found.frame) == 2 * 2 * 4


def test_accuracy_over_rates_has_the_best_rate_of_the_rest():
    frame = pd.concat(
        [runs(a=[lr * 0.1 + rest * 0.01]).assign(lr=lr, rest_lr=rest) for lr in (1.0, 2.0) for rest in (1, 2)]
    )
    assert "a 0.220 (lr 2)" in ov.plots.lr_flatness(frame).axes[0].get_title()


# Recipes


def test_every_recipe_says_what_it_is_and_can_be_made():
    made = ov.optim.optimizers()
    assert list(made) == list(ov.optim.LABELS)
    for name, recipe in recipes.RECIPES.items():
        assert recipe.what, name
        assert set(recipe.optimizers) <= set(made), name
        assert recipe.twins or recipe.model in (*ov.models.OURS, *ov.models.TORCHVISION, "speedrun_cnn"), name
    assert recipes.RECIPES["table1/basic_cnn"].epochs == 100
    assert recipes.RECIPES["table2"].weight_decay == 1e-4


@pytest.mark.parametrize(("model", "gflop"), [("resnet18", 0.222), ("basic_cnn", 0.00538)])
def test_flops_are_those_of_torchs_counter_for_an_image(model, gflop):
    """resnet18 has 1.814 G multiply-adds at 224 x 224 (torchvision's table), at 2 each; forward and backward
    are three times that, less the first layer's gradient for its input."""
    if model == "resnet18":
        large = recipes.flop_per_image(model, (3, 224, 224))
        first = 2 * 64 * 147 * 112 * 112
        assert large == pytest.approx(3 * 2 * 1.814e9 - first, rel=0.01)
    assert recipes.flop_per_image(model, (3, 32, 32)) == pytest.approx(gflop * 1e9, rel=0.03)


def test_schedules_end_where_they_should():
    optimizer = torch.optim.SGD(small(0).parameters(), lr=1.0)
    triangle, rates = recipes._triangle(optimizer, 10), []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        triangle.step()
    assert max(rates) == rates[1] == 1
    assert rates[0] == 0.5
    assert rates[-1] < 0.15
    assert optimizer.param_groups[0]["lr"] == 0


@pytest.mark.slow
def test_a_recipe_runs_and_is_stored_and_shown(tmp_path, monkeypatch, capsys):
    recipe = recipes.Recipe(
        "A trial", model="digits_cnn", data="digits", epochs=1, batch_sizes=(256, 512), seeds=2,
        watched=["weight.stable_rank"],
    )  # fmt: skip
    monkeypatch.setitem(recipes.RECIPES, "trial/digits", recipe)
    monkeypatch.setattr("orthoviz.training.stored.root", lambda: tmp_path / "results")
    assert main(["train", "trial/digits", "--out", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "batch 256, equal lr:" in out
    assert "batch 512, equal lr:" in out
    runs = tmp_path / "runs" / "trial" / "digits"
    table = runs / "table.csv"
    table.write_text(table.read_text().replace("orthogonal_sgd", "orthogonal SGD"))  # as the first edition
    for run in runs.glob("batch*/orthogonal_sgd-*"):
        run.rename(run.with_name(run.name.replace("sgd", "SGD")))
    assert main(["results", "store", "trial/digits", str(tmp_path / "runs"), "scikit-learn's digits"]) == 0
    capsys.readouterr()
    place = tmp_path / "results" / "trial-digits"
    table = pd.read_csv(place / "table.csv")
    assert len(table) == 2 * 2 * 2 * 2
    about = json.loads((place / "provenance.json").read_text())
    assert about["data"] == "scikit-learn's digits"
    assert about["command"] == "orthoviz train trial/digits"
    assert str(tmp_path) not in json.dumps(about)
    seconds = table[(table.optimizer == "sgd") & (table.epoch == 1) & (table.batch_size == 256)].seconds
    ms = about["milliseconds_per_step"]["sgd, batch 256"]
    assert seconds.to_numpy() == pytest.approx(6 * ms / 1000, rel=0.01)
    watched = pd.read_csv(place / "watched.csv")
    assert "stable_rank" in set(watched.quantity)
    assert set(table.optimizer) == set(watched.optimizer) == set(BOTH)
    assert main(["results", "list"]) == 0
    assert re.search(r"trial-digits +A trial", capsys.readouterr().out)
    assert main(["results", "compare", "trial-digits"]) == 0
    assert "trial-digits, batch 256:" in capsys.readouterr().out
    assert main(["results", "draw", str(tmp_path / "pictures")]) == 0
    assert (tmp_path / "pictures" / "trial-digits.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_queue_goes_on_where_it_was_and_says_of_each_run_where_it_comes_from(tmp_path, monkeypatch):
    recipe = recipes.Recipe(
        "A trial", model="digits_cnn", data="digits", protocol="both_tuned", lrs=(0.03, 0.1), epochs=1,
        images=384, batch_sizes=(128, 256), seeds=1, held_out=100,
    )  # fmt: skip
    monkeypatch.setitem(recipes.RECIPES, "trial", recipe)
    monkeypatch.setattr("orthoviz.training.queue.QUEUE", ("trial",))
    monkeypatch.setattr("orthoviz.training.stored.root", lambda: tmp_path / "results")
    monkeypatch.setattr("os.nice", lambda _: None)
    monkeypatch.setattr("orthoviz.training.queue._THREADS", torch.get_num_threads())
    file, write = tmp_path / "results" / "unfinished" / "trial.csv", queue._keep

    def write_and_die(*given):
        write(*given)
        if len(given[-1]) == 2 * 5:  # rows before and after each run
            raise KeyboardInterrupt

    monkeypatch.setattr("orthoviz.training.queue._keep", write_and_die)
    with pytest.raises(KeyboardInterrupt):
        queue.work(tmp_path / "runs")
    with pytest.raises(ValueError, match="runs are missing"):
        stored.store("trial", tmp_path / "runs", "digits")
    before = pd.read_csv(file)
    assert before.groupby("batch_size").seed.count().to_dict() == {128: 8, 256: 2}
    monkeypatch.setattr("orthoviz.training.queue._keep", write)
    monkeypatch.setattr("orthoviz.training.queue.provenance", lambda: dict.fromkeys(stored.ORIGIN, "later"))
    queue.work(tmp_path / "elsewhere")  # another machine has the rows only
    after = pd.read_csv(file)
    assert len(after) == 2 * 8
    both = before.merge(after, on=[*recipes.ROW, "commit", "test_loss", "test_accuracy"])
    assert len(both) == len(before)  # as they were, with where they come from
    assert (after[after.commit == "later"].date == "later").all()
    assert (after.commit == "later").sum() == len(after) - len(before)
    run = recipes.run("trial", tmp_path / "whole")
    assert len(run.merge(after, on=[*recipes.ROW, "test_loss", "test_accuracy", "chosen"])) == len(run)
    assert main(["results", "store", "trial", str(tmp_path / "elsewhere"), "digits"]) == 0
    about = json.loads((tmp_path / "results" / "trial" / "provenance.json").read_text())
    assert about["complete"]
    assert about["runs"] == 8
    assert about["hours"] == pytest.approx(after[after.epoch == 1].seconds.sum() / 3600, abs=0.006)
    assert "later" in about["commit"]
    assert not file.exists()
    monkeypatch.setattr("orthoviz.training.recipes.run", None)
    queue.work(tmp_path / "runs")  # nothing is left to do


def test_table1_puts_ours_beside_the_papers():
    end = pd.read_csv(stored.root() / "table1-basic_cnn" / "table.csv").query("epoch == 100")
    end = end[end.optimizer == "SGD"]
    row = reports.table1().loc["basic_cnn", "SGD"]
    assert row["the paper: % (loss)"] == "73.60 ± .19 (.7603)"
    error = 100 * end.test_accuracy.std() / len(end) ** 0.5
    mean = f"{100 * end.test_accuracy.mean():.2f} ± {error:.2f} ({end.test_loss.mean():.4f})"
    assert row["here: % (loss)"] == f"{mean}, {len(end)} runs"
    assert reports.table1().loc["resnet20", "SGD"].tolist() == [
        "79.14 ± .62 (.6728)", "not run: orthoviz train table1/resnet20",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "theirs", "says"),
    [
        ([0.95, 0.96, 0.97], [0.92, 0.931, 0.939], "adopt"),
        ([0.95, 0.96, 0.97], [0.94, 0.93, 0.91], "cannot tell"),  # 1, 3 and 6 points: perhaps less than one
        ([0.91, 0.918, 0.922], [0.91, 0.917, 0.923], "stay"),
        ([0.97, 0.97, 0.97], [0.96, 0.96, 0.96], "stay"),  # exactly what it is worth is not more
        ([0.57, 0.57, 0.57], [0.56, 0.56, 0.56], "stay"),
        ([0.5, 0.5, 0.5], [0.9, 0.9, 0.9], "stay"),
        ([0.97, 0.97], [0.9, 0.9], "cannot tell"),  # two equal leads are chance: accuracies are counts
        ([0.99], [0.5], "cannot tell"),  # one pair tells nothing
    ],
)
def test_a_decision_asks_where_the_whole_interval_lies(ours, theirs, says):
    assert decision(ours, theirs, 0.01) == says


@pytest.mark.full
def test_every_stored_table_of_runs_is_drawn_even_one_without_losses(tmp_path):
    needed = {"optimizer", "epoch", "batch_size", "test_accuracy"}
    tables = stored.root().glob("*/table.csv")
    runs = {path.parent.name for path in tables if needed <= set(pd.read_csv(path, nrows=1))}
    assert "recorded-equal_lr" in runs
    assert {path.stem for path in reports.draw_all(tmp_path)} == runs
    assert min(path.stat().st_size for path in tmp_path.glob("*.png")) > 10_000

"""Comparisons, recipes and reports: fair by construction, and no more said than the seeds allow."""

import json
import re

import pandas as pd
import pytest
import torch
from torch import nn

import orthoviz as ov
from orthoviz import reports
from orthoviz.cli import main
from orthoviz.training import recipes, stored
from orthoviz.training.comparison import folder_names
from orthoviz.training.outcomes import summary
from orthoviz.training.records import read_watched, segment
from orthoviz.verdicts import decision

DATA = ov.datasets.load("digits")
BOTH = {name: ov.optim.OPTIMIZERS[name] for name in ("sgd", "orthogonal_sgd")}


def small(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def compared(**options):
    given = {"model": small, "optimizers": BOTH, "lrs": 0.01, "epochs": 1, "seeds": 2, "progress": False}
    return ov.training.compare(data=DATA, **given | options)


def test_all_start_from_the_same_weights_and_see_the_same_batches():
    found = compared(protocol="equal_lr")
    first = found.frame[found.frame.epoch == 0].pivot(index="seed", columns="optimizer", values="test_loss")
    assert (first["sgd"] == first["orthogonal_sgd"]).all()
    assert first["sgd"].nunique() == 2
    seen = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            seen[-1].append(self.param_groups[0]["params"][0].grad.clone())
            return super().step(closure)

    def make(groups, lr):
        seen.append([])
        return Spy(groups, lr=0.0)

    compared(optimizers={"a": make, "b": make}, protocol="equal_lr", lrs=0.0, seeds=1)
    a, b = seen[-2:]
    assert len(a) == 6
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


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
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_at_equal_steps_the_first_steps_are_as_long():
    found = compared(protocol="equal_step", lrs=0.1)
    lengths = {}
    for name, make in BOTH.items():
        model = small(0)
        optimizer = make(ov.param_groups(model), found.rates[name])
        moved = []
        for epoch in range(1, 10):
            before = [p.detach().clone() for p in model.parameters()]
            for _ in ov.training.steps(model, optimizer, DATA, batch_size=256, seed=0, epoch=epoch):
                after = [p.detach().clone() for p in model.parameters()]
                pieces = [(a - b).norm() for a, b in zip(after, before, strict=True)]
                moved.append(torch.stack(pieces).norm().item())
                before = after
        lengths[name] = sum(moved[:50])
    assert lengths["orthogonal_sgd"] == pytest.approx(lengths["sgd"], rel=0.1)
    assert found.rates["sgd"] == 0.1
    assert found.rates["orthogonal_sgd"] < 0.05  # its steps are longer at equal rates


def test_rates_are_chosen_on_images_that_are_neither_trained_nor_tested_on():
    found = compared(protocol="both_tuned", lrs=(1e-5, 0.1), epochs=2)
    assert found.rates == {"sgd": 0.1, "orthogonal_sgd": 0.1}
    assert set(found.frame[found.frame.chosen].lr) == {0.1}
    assert "valid_accuracy" in found.frame
    assert len(found.frame) == 2 * 2 * 2 * 3  # as many runs for each
    rates = found.frame.groupby("optimizer").lr.nunique()
    assert rates.nunique() == 1


def test_at_equal_seconds_the_slower_gets_fewer_epochs(monkeypatch):
    times = {"sgd": 10.0, "orthogonal_sgd": 25.0}
    monkeypatch.setattr("orthoviz.training.comparison.milliseconds", lambda *_, **__: times)
    found = compared(protocol="equal_seconds", epochs=5, seeds=1)
    assert found.frame.groupby("optimizer").epoch.max().to_dict() == {"sgd": 5, "orthogonal_sgd": 2}
    last = found.frame.groupby("optimizer").seconds.max()
    assert last["orthogonal_sgd"] <= last["sgd"]
    found = compared(protocol="equal_lr", epochs=None, minutes=6 * 25 * 3 / 60_000, seeds=1)
    assert found.frame.groupby("optimizer").epoch.max().to_dict() == {"sgd": 3, "orthogonal_sgd": 3}


def runs(first, second):
    rows = [(name, s, 1, v) for name, values in (("a", first), ("b", second)) for s, v in enumerate(values)]
    return pd.DataFrame(rows, columns=["optimizer", "seed", "epoch", "test_accuracy"])


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([0.8, 0.9], [0.6, 0.7], "x: a better: a 85.0 % (lr 1), b 65.0 % (lr 2)"),
        ([0.6, 0.7], [0.8, 0.9], "x: b better: b 85.0 % (lr 2), a 65.0 % (lr 1)"),
        ([0.6, 0.8], [0.7, 0.9], "x: not separated: b 80.0 % (lr 2), a 70.0 % (lr 1)"),
        ([0.6], [0.7], "x: not separated by one run each: b 70.0 % (lr 2), a 60.0 % (lr 1)"),
    ],
)
def test_better_is_said_only_where_no_seed_of_one_reaches_the_other(first, second, words):
    assert summary(runs(first, second), "x", {"a": 1, "b": 2}) == words


def test_of_several_the_best_is_told_from_those_it_beats_and_those_it_does_not():
    frame = pd.concat([runs([0.8, 0.9], [0.85, 0.7]), runs([0.5, 0.6], []).replace("a", "c")])
    found = summary(frame, "x", dict.fromkeys("abc", 1))
    assert found.startswith("x: a better than c, not separated from b: a 85.0 %")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protocol": "fair"}, "protocol must be 'equal_lr'"),
        ({"minutes": 1}, "either epochs or minutes"),
        ({"epochs": None}, "either epochs or minutes"),
        ({"seeds": 0}, "at least one seed"),
        ({"optimizers": {**BOTH, "SGD": BOTH["sgd"]}}, "have the same label: SGD, orthogonal SGD, SGD"),
        ({"lrs": {"sgd": [0.1], "orthogonal_sgd": [0.1, 0.2]}}, "the same number of learning rates"),
        ({"lrs": {"sgd": [0.1]}}, "orthogonal_sgd is in one"),
    ],
)
def test_what_would_not_be_a_fair_comparison_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        compared(**options)


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


def test_an_unknown_recipe_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"near it: .*table1/resnet20"):
        recipes.recipe("tabel1/resnet20")


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
    model = small(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    triangle, rates = recipes._triangle(optimizer, 10), []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        triangle.step()
    assert max(rates) == rates[1] == 1
    assert rates[0] == 0.5
    assert rates[-1] < 0.15
    assert optimizer.param_groups[0]["lr"] == 0


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
        ([0.95, 0.96], [0.90, 0.93], "adopt"),
        ([0.95, 0.96], [0.90, 0.945], "cannot tell"),  # one pair is ahead by less than it is worth
        ([0.91, 0.918], [0.91, 0.915], "stay"),  # even the luckiest is
        ([0.97, 0.97], [0.96, 0.96], "stay"),  # exactly what it is worth is not more
        ([0.57, 0.57], [0.56, 0.56], "stay"),
        ([0.5, 0.5], [0.9, 0.9], "stay"),
        ([0.99], [0.5, 0.6], "cannot tell"),  # one run tells nothing
    ],
)
def test_a_decision_counts_every_pair_of_runs(ours, theirs, says):
    assert decision(ours, theirs, 0.01) == says


def test_no_runs_decide_nothing():
    with pytest.raises(ValueError, match="at least one run, got 2 and 0"):
        decision([0.9, 0.8], [], 0.01)


@pytest.mark.slow
def test_every_stored_table_of_runs_is_drawn_even_one_without_losses(tmp_path):
    needed = {"optimizer", "epoch", "batch_size", "test_accuracy"}
    tables = stored.root().glob("*/table.csv")
    runs = {path.parent.name for path in tables if needed <= set(pd.read_csv(path, nrows=1))}
    assert "recorded-equal_lr" in runs
    assert {path.stem for path in reports.draw_all(tmp_path)} == runs
    assert min(path.stat().st_size for path in tmp_path.glob("*.png")) > 10_000

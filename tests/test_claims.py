"""The ledger: every verdict comes from stored figures, and changes with them."""

import json
import math
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

import orthoviz as ov
from orthoviz.claims import CLAIMS
from orthoviz.claims.parts import AGAINST, FAILS, FOR, HOLDS, MIXED, NO_CASE, ONE_RUN, UNCLEAR, UNTESTED, Part
from orthoviz.cli import main
from orthoviz.training import recipes, stored

ROOT = Path(__file__).resolve().parents[1]
RESULTS = stored.root()
ACCURACY = "test_accuracy"
SGD, OURS, KEPT = "SGD", "orthogonal SGD", "orthogonal SGD, null kept"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A copy of the stored tables, for a test to change."""
    copy = tmp_path / "results"
    shutil.copytree(RESULTS, copy, ignore=shutil.ignore_patterns("*.png", "*.safetensors", "*.md"))
    monkeypatch.setattr("orthoviz.training.stored.root", lambda: copy)
    return copy


def path_of(results, need):
    name, _, part = need.partition("/")
    return results / name / f"{part or 'table'}.csv"


def change(results, need, make):
    path = path_of(results, need)
    make(pd.read_csv(path)).to_csv(path, index=False)


def swap(first=SGD, second=OURS):
    return lambda table: table.assign(optimizer=table.optimizer.replace({first: second, second: first}))


def one_seed(table):
    return table[table.seed == 0]


def put(column, value, **where):
    """Another value in the rows that hold these; a function gets the old one."""

    def make(table):
        rows = pd.Series(True, table.index)
        for key, wanted in where.items():
            rows &= table[key] == wanted
        assert rows.any()
        new = value(table.loc[rows]) if callable(value) else value
        return table.assign(**{column: table[column].astype(float).mask(rows, new)})

    return make


def times(column, factor, **where):
    return put(column, lambda rows: factor * rows[column], **where)


def both(first, second):
    return lambda table: second(first(table))


# A table as a recipe's, for claims whose runs are not stored.


def runs(accuracy, batch_size=1024):
    """Runs of one epoch: (optimizer, lr, chosen) to accuracies, one a seed."""
    rows = [
        {"optimizer": name, "lr": lr, "batch_size": batch_size, "seed": seed, "epoch": 1, "seconds": 1.0,
         "test_accuracy": value, "test_loss": 1 - value, "chosen": chosen}
        for (name, lr, chosen), values in accuracy.items() for seed, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


BETTER = runs({(SGD, 0.01, True): [0.70, 0.71, 0.72], (OURS, 0.01, True): [0.75, 0.762, 0.769]})
SCALED = "Muon's order, AdamW's scale"


def tuned(batch_size=1024, best=0.03, **ends):
    """Runs of three rates and three seeds, which tell a lead of a point; the best rate is inside its grid."""
    tables = []
    for i, (name, value) in enumerate(ends.items()):
        luck = [0.002, -0.001, 0.001][i % 3 :] + [0.002, -0.001, 0.001][: i % 3]
        for lr in (0.01, 0.03, 0.1):
            end = value - 0.1 * (lr != best)
            tables.append(runs({(name, lr, lr == best): [end + some for some in luck]}, batch_size))
    return pd.concat(tables)


def made(*tables, **ends):
    return lambda table: pd.concat(tables) if tables else tuned(**ends)


def successors(adamw=0.5, scaled=0.6, scaled_best=0.6, plain=0.4, swan=0.6):
    ends = {
        **{(name, lr, False): 0.1 for name in ("AdamW", "SWAN") for lr in (0.0003, 0.01)},
        ("AdamW", 0.001, True): adamw,
        ("SWAN", 0.001, True): swan,
        ("Muon's order", 0.001, False): plain,
        (SCALED, 0.0003, False): 0.1,
        (SCALED, 0.001, scaled_best == scaled): scaled,
        (SCALED, 0.01, scaled_best != scaled): scaled_best,
        (SCALED, 0.03, False): 0.1,
    }
    return runs({key: [value, value + 0.01, value + 0.02] for key, value in ends.items()})


def theories(**changes):
    given = {"gain_after": 0.9, "gain_before": 0.6, "cosine_after": 0.1, "cosine_before": 0.2}
    given |= {"nuclear_rank": 30, "stable_rank": 20, "drop_spectral": 2.0, "drop_gradient": 1.0}
    rows = [
        ("momentum_first" if key.endswith(("_after", "_before")) else "nuclear_rank", case, seed, key, value)
        for key, value in (given | changes).items() for seed in range(3) for case in ("one step", "200 steps")
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["theory", "case", "seed", "quantity", "value"])


DEEP = [model for model in recipes.PAPER_TABLE1 if model != "basic_cnn"]
MISSING = {
    **dict.fromkeys(("table2", "imagenet-resnet34", "fair-schedule", "spectra"), BETTER),
    **{f"table1-{model}": BETTER for model in DEEP},
    **{f"table3-{model}": BETTER for model in recipes.PAPER_TABLE3},
}


def fill(results, claim):
    """Store what a claim needs and was not run."""
    for name in set(CLAIMS[claim].needs) & set(MISSING):
        place = results / name
        place.mkdir(exist_ok=True)
        if not (place / "table.csv").exists():
            MISSING[name].to_csv(place / "table.csv", index=False)
            (place / "provenance.json").write_text("{}")


WATCHED = "table1-basic_cnn/watched"
FILTERS = {"optimizer": OURS, "quantity": "mean_abs_cosine"}
MAPS = {"optimizer": OURS, "quantity": "feature_cosine"}
CENTRED = {"optimizer": OURS, "quantity": "centred_feature_cosine"}
DEAD = both(
    put("value", 0.01, quantity="dead_parameters", optimizer=SGD),
    put("value", lambda rows: 0.1 + rows.seed / 1e4, quantity="dead_parameters", optimizer=OURS),
)
SHAPE = {"sgd": 0.5, "orthogonal_sgd": 0.7, "matched": 0.6, "per_tensor": 0.55, "per_filter": 0.6}


def batches(size, **ends):
    """Of both networks runs at batch 4 or 16, whose accuracies at rate 0.01 are a tenth under these."""
    return dict.fromkeys(("batch_size-basic_cnn", "batch_size-resnet18"), made(tuned(size, **ends)))


AHEAD = batches(16, sgd=0.5, orthogonal_sgd_keep=0.6)


BEHIND_AT_16 = tuned(16, sgd=0.6, orthogonal_sgd_keep=0.5)


def with_worse_at_four(make):
    return lambda table: pd.concat([make(table), tuned(4, sgd=0.6, orthogonal_sgd_keep=0.3)])


def inside(make):
    """With worse rates beyond both ends of a grid."""

    def made(table):
        table = make(table)
        beyond = [table[table.lr == 0.01].assign(lr=lr) for lr in (1e-5, 9.0)]
        for some in beyond:
            some.loc[some.quantity == ACCURACY, "value"] = 0.0
        return pd.concat([table, *beyond])

    return made


SGD_BEST_AT_01 = put("value", 0.9, optimizer=SGD, quantity=ACCURACY, lr=0.01)


def alike(value):
    return lambda rows: value + rows.seed / 1e5


LEAD_AT_16 = tuned(16, sgd=0.5, orthogonal_sgd=0.55)
SPECTRA = ("controls", "spectra")
MUONS_OWN = ("controls", "fair-schedule")
MUONS = ("controls", "fair-both_tuned", "batch_size-basic_cnn")

# A claim, what is changed in which stored table, and the verdict then
CASES = [
    ("table1_basic_cnn", {"table1-basic_cnn": swap()}, FAILS),
    ("table1_basic_cnn", {"table1-basic_cnn": put(ACCURACY, 0.739, optimizer=SGD, seed=1, epoch=100)}, MIXED),
    ("table1_basic_cnn", {"table1-basic_cnn": one_seed}, UNTESTED),
    ("table1_loss", {"table1-basic_cnn": swap()}, FAILS),
    ("table1_resnets", {"table1-resnet20": swap()}, MIXED),
    ("table1_resnets", {f"table1-{model}": swap() for model in DEEP}, FAILS),
    ("table2", {"table2": swap()}, HOLDS),
    ("table3", {"table3-basic_cnn": times(ACCURACY, 0.9)}, FAILS),
    ("table3", {"table3-basic_cnn": put(ACCURACY, 0.735, epoch=100, seed=1)}, MIXED),
    ("table3_resnets", {"table3-resnet20": times(ACCURACY, 0.9)}, MIXED),
    ("imagenet", {"imagenet-resnet34": times("test_loss", 2, optimizer=OURS)}, MIXED),
    ("speedup", {"table1-basic_cnn": swap()}, FAILS),
    ("speedup", {"table1-basic_cnn": times("seconds", 9, optimizer=OURS)}, MIXED),
    ("speedup", {"table1-basic_cnn": put(ACCURACY, 0.1, epoch=100)}, MIXED),
    ("flat", {"lr_sweep": swap()}, FAILS),
    ("from_batch_16", batches(16, sgd=0.5, orthogonal_sgd_keep=0.6), HOLDS),
    ("from_batch_16", batches(16, sgd=0.6, orthogonal_sgd_keep=0.5), FAILS),
    ("from_batch_16", AHEAD | {"batch_size-resnet18": made(BEHIND_AT_16)}, MIXED),
    ("from_batch_16", {name: with_worse_at_four(make) for name, make in AHEAD.items()}, HOLDS),
    ("collapse_at_4", batches(4, sgd=0.5, orthogonal_sgd_keep=0.21), HOLDS),
    ("collapse_at_4", batches(4, sgd=0.5, orthogonal_sgd_keep=0.6), FAILS),
    ("filters_equal_rate", {"filters": swap()}, MIXED),
    ("filters_equal_rate", dict.fromkeys(("filters", WATCHED), put("value", 0.01, **FILTERS)), HOLDS),
    ("maps_lower", {WATCHED: swap()}, FAILS),
    ("maps_lower", {WATCHED: put("value", 0.01, **MAPS)}, HOLDS),
    ("maps_fall", {WATCHED: put("value", lambda t: 1 - t.step / 1e4, optimizer=OURS)}, HOLDS),
    ("maps_fall", {WATCHED: put("value", lambda t: 1 + t.step / 1e4, optimizer=OURS)}, FAILS),
    ("maps_fall", {WATCHED: one_seed}, UNTESTED),
    ("dead_parameters", {WATCHED: swap()}, FAILS),
    ("dead_parameters", {WATCHED: DEAD}, HOLDS),
    ("dead_parameters", {WATCHED: one_seed}, UNTESTED),
    ("barlow_twins", {"barlow_twins": times("train_loss", 0.5, optimizer="orthogonal LARS")}, HOLDS),
    ("barlow_twins", {"barlow_twins": swap("LARS", "orthogonal LARS")}, FAILS),
    ("svd_per_step", {"optim": lambda t: t.assign(to_sgd=t.batch)}, FAILS),
    ("svd_per_step", {"optim": put("to_sgd", 99, batch=1024)}, MIXED),
    ("svd_per_step", {"optim": lambda t: t[t.batch == 64]}, UNTESTED),
    ("fast_factor", {"polar_gradients": put("error", 0.001, method="fast")}, HOLDS),
    ("fast_factor", {"polar": put("to_svd", 0.5, contender="orthoviz fast"),
                     "polar_gradients": put("error", 0.9, method="fast")}, FAILS),
    ("fast_factor", {"polar": put("error", 0.5, contender="orthoviz fast")}, MIXED),
    ("rank_deficient", {"rank_budget": lambda t: t.assign(supported=t.possible)}, FAILS),
    ("ruler", {"lr_sweep": put(ACCURACY, 0.6, optimizer=SGD, lr=0.01)}, MIXED),
    ("ruler", {"lr_sweep": put(ACCURACY, 0.9, optimizer=OURS, lr=0.03)}, FAILS),
    ("equal_step", {"fair-equal_step": lambda table: table.assign(step_length=1.0)}, HOLDS),
    ("equal_step", {"fair-equal_step": lambda table: swap()(table).assign(step_length=1.0)}, FAILS),
    ("both_tuned", {"fair-both_tuned": put(ACCURACY, 0.685, epoch=10, optimizer=SGD, seed=0, lr=0.1)}, MIXED),
    # what is not chosen does not count
    ("both_tuned", {"fair-both_tuned": put(ACCURACY, 0.9, optimizer=SGD, lr=0.03)}, HOLDS),
    ("speedup_tuned", {"fair-both_tuned": made(sgd=0.4, orthogonal_sgd=0.7)}, HOLDS),
    ("speedup_tuned", {"fair-both_tuned": made(sgd=0.7, orthogonal_sgd=0.4)}, FAILS),
    ("schedule", {"fair-schedule": made(sgd=0.7, orthogonal_sgd=0.72)}, HOLDS),
    ("schedule", {"fair-schedule": made(sgd=0.7, orthogonal_sgd=0.68)}, FAILS),
    ("schedule", {"fair-schedule": made(sgd=0.7, orthogonal_sgd=0.701)}, MIXED),
    # a rate at the end of its grid tells nothing, however large the lead
    ("schedule", {"fair-schedule": made(best=0.1, sgd=0.5, orthogonal_sgd=0.9)}, MIXED),
    ("shape", {"controls": made(**SHAPE)}, HOLDS),
    ("shape", {"controls": made(**SHAPE | {"matched": 0.4})}, MIXED),
    ("shape", {"controls": made(**SHAPE | {"matched": 0.4, "per_tensor": 0.8, "per_filter": 0.8})}, FAILS),
    ("shape", {"controls": made(best=0.01, **SHAPE)}, MIXED),
    ("lifted", dict.fromkeys(SPECTRA, made(per_tensor=0.5, half=0.6, random_spectrum=0.6)), HOLDS),
    ("lifted", dict.fromkeys(SPECTRA, made(per_tensor=0.5, half=0.6, random_spectrum=0.4)), MIXED),
    ("lifted", dict.fromkeys(SPECTRA, made(per_tensor=0.5, half=0.4, random_spectrum=0.4)), FAILS),
    ("filters_best_rate", {"filters": inside(put("value", alike(0.01), **FILTERS))}, HOLDS),
    # with another best rate other filters are compared
    ("filters_best_rate", {"filters": inside(SGD_BEST_AT_01)}, FAILS),
    ("maps_centred", {WATCHED: swap()}, MIXED),
    ("maps_centred", dict.fromkeys(("filters", WATCHED), put("value", 0.9, **CENTRED)), FAILS),
    ("null_directions", batches(4, sgd=0.5, orthogonal_sgd_keep=0.21, orthogonal_sgd=0.5), HOLDS),
    ("null_directions", batches(4, sgd=0.5, orthogonal_sgd_keep=0.21, orthogonal_sgd=0.21), FAILS),
    ("null_directions", batches(4, sgd=0.5, orthogonal_sgd_keep=0.5, orthogonal_sgd=0.5), UNTESTED),
    ("muon_order", dict.fromkeys(MUONS, made(muon_order=0.7, orthogonal_sgd=0.6)), HOLDS),
    ("muon_order", dict.fromkeys(MUONS, made(muon_order=0.5, orthogonal_sgd=0.6)), FAILS),
    ("muon", dict.fromkeys(MUONS_OWN, made(muon=0.7, orthogonal_sgd=0.6)), HOLDS),
    ("muon", dict.fromkeys(MUONS_OWN, made(muon=0.5, orthogonal_sgd=0.6)), FAILS),
    # as good: the whole interval above minus a point
    ("any_spectrum", dict.fromkeys(SPECTRA, made(random_spectrum=0.598, orthogonal_sgd=0.6)), HOLDS),
    ("any_spectrum", dict.fromkeys(SPECTRA, made(random_spectrum=0.59, orthogonal_sgd=0.6)), MIXED),
    ("any_spectrum", dict.fromkeys(SPECTRA, made(random_spectrum=0.57, orthogonal_sgd=0.6)), FAILS),
    ("any_spectrum", dict.fromkeys(SPECTRA, made(best=0.1, random_spectrum=0.57, orthogonal_sgd=0.6)), MIXED),
    ("batch_lead", {"batch_size-basic_cnn": made(LEAD_AT_16, tuned(sgd=0.5, orthogonal_sgd=0.6))}, HOLDS),
    ("batch_lead", {"batch_size-basic_cnn": made(LEAD_AT_16, tuned(sgd=0.5, orthogonal_sgd=0.51))}, FAILS),
    ("momentum_needed", {"successors": made(adamw=0.6, no_momentum=0.5)}, HOLDS),
    ("momentum_needed", {"successors": made(adamw=0.5, no_momentum=0.6)}, FAILS),
    ("averages_first", {"theories": lambda t: theories()}, MIXED),
    ("averages_first", {"theories": lambda t: theories(cosine_after=0.3)}, HOLDS),
    ("averages_first", {"theories": lambda t: theories(gain_after=0.3)}, FAILS),
    ("feature_rank", {"features": times("value", 3, quantity="effective_rank", optimizer="muon")}, HOLDS),
    ("feature_rank", {"features": times("value", 0.2, quantity="effective_rank", optimizer="muon")}, FAILS),
    ("feature_robustness", {"features": times("value", 3, optimizer="muon")}, HOLDS),
    ("feature_robustness", {"features": times("value", 0.2, optimizer="muon")}, FAILS),
    ("no_momentum", {"successors": lambda t: successors()}, HOLDS),
    ("no_momentum", {"successors": lambda t: successors(swan=0.55)}, MIXED),
    ("no_momentum", {"successors": lambda t: successors(swan=0.45)}, FAILS),
    ("adamw_rate", {"successors": lambda t: successors()}, HOLDS),
    ("adamw_rate", {"successors": lambda t: successors(scaled_best=0.9)}, MIXED),
    ("adamw_rate", {"successors": lambda t: successors(plain=0.8)}, MIXED),
    ("adamw_rate", {"successors": lambda t: successors(adamw=0.8, scaled_best=0.9, plain=0.8)}, FAILS),
    ("nuclear_rank", {"theories": lambda t: theories()}, HOLDS),
    ("nuclear_rank", {"theories": lambda t: theories(drop_spectral=0.5)}, FAILS),
    ("nuclear_rank", {"theories": lambda t: theories(nuclear_rank=10)}, FAILS),
    ("nuclear_rank", {"theories": lambda t: theories(nuclear_rank=10, drop_spectral=0.5)}, HOLDS),
    ("nuclear_rank_long", {"theories": lambda t: theories()}, HOLDS),
    ("nuclear_rank_long", {"theories": lambda t: theories(nuclear_rank=10)}, FAILS),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_a_stored_figure_changes_and_so_does_the_verdict(results, name, changes, expected):
    fill(results, name)
    assert set(changes) <= set(CLAIMS[name].needs)
    for need, make in changes.items():
        change(results, need, make)
    assert ov.claims.judge(name)[0] == expected


def test_a_table_that_was_changed_to_nonsense_is_named(results):
    change(results, "lr_sweep", lambda table: table.assign(**{ACCURACY: 7}))
    with pytest.raises(ValueError, match="results/lr_sweep: test_accuracy must hold numbers from 0 to 1"):
        ov.claims.judge("flat")


def test_each_claim_has_a_change_that_turns_it(ledger):
    for name, verdict in zip(ledger.name, ledger.verdict, strict=True):
        assert {expected for claim, _, expected in CASES if claim == name} - {verdict}, name


# What there is


def test_every_claim_has_a_source_a_rule_and_a_verdict_or_the_command_for_it(ledger):
    assert list(ledger.name) == list(CLAIMS)
    for column in ("claim", "source", "rule", "results"):
        assert (ledger[column].str.len() > 4).all()
    assert set(ledger.by) == {"the paper", "this course", "its successors"}
    assert ledger.claim.str.endswith(".").all()
    for row in ledger.itertuples():
        assert row.verdict in ov.claims.VERDICTS
        there = [path_of(RESULTS, need).is_file() for need in row.results.split(", ")]
        assert (all(there) and row.figures) or row.verdict == UNTESTED
        assert bool(row.command) == (row.verdict == UNTESTED)


def test_the_commands_are_there():
    for need in {need for claim in CLAIMS.values() for need in claim.needs}:
        command = ov.claims.judging._make(need).removesuffix(" COPY")
        kind, _, name = command.rpartition(" ")
        if kind == "orthoviz train":
            assert name in recipes.RECIPES
        else:
            assert kind == "python -m"
            assert (ROOT / f"{name.replace('.', '/')}.py").is_file()
        made = RESULTS / need.partition("/")[0] / "provenance.json"
        if made.is_file():
            assert json.loads(made.read_text())["command"].startswith(command)


def test_the_papers_figures_stand_in_one_place():
    """In the recipes; the ledger quotes them and has no copy."""
    sources = (ROOT / "orthoviz" / "claims").glob("*.*")
    source = "".join(path.read_text(encoding="utf-8") for path in sources)
    quoted = " ".join(claim.source for claim in CLAIMS.values())
    for name, recipe in recipes.RECIPES.items():
        for number in re.findall(r"\d*\.\d{3,}|\d\d\.\d+", recipe.paper):
            assert number not in source
            if name not in ("batch_size/basic_cnn", "speedrun"):
                assert number in quoted, (name, number)
    for sgd, ours, sgd_loss, our_loss in recipes.PAPER_TABLE1.values():
        assert f"SGD {sgd} % (loss {sgd_loss}), orthogonal SGD {ours} % (loss {our_loss})" in quoted
    assert "it rises for resnet20, resnet44, densenet161" in CLAIMS["table1_loss"].source


def test_the_figures_are_the_stored_ones():
    end = pd.read_csv(RESULTS / "table1-basic_cnn" / "table.csv").query("epoch == 100")
    says = ov.claims.judge("table1_basic_cnn")[1]
    for name, values in (100 * end.set_index("optimizer").test_accuracy).groupby(level=0):
        assert f"{name} {values.mean():.1f} % ({values.min():.1f} to {values.max():.1f})" in says
    sweep = pd.read_csv(RESULTS / "lr_sweep" / "table.csv").query("epoch == 5")
    mean = 100 * sweep.groupby(["optimizer", "lr"]).test_accuracy.mean().unstack("optimizer")
    lead = mean[OURS].max() - mean[SGD].max(), mean.loc[0.01, OURS] - mean.loc[0.01, SGD]
    says = ov.claims.judge("ruler")[1]
    assert f"each at its best {lead[0]:.1f} (" in says
    assert f"at 0.01 for both {lead[1]:.1f} (" in says


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([FOR], HOLDS),
        ([FOR, FOR, ONE_RUN], MIXED),  # a part that was not tested
        ([FOR, FOR, NO_CASE], HOLDS),
        ([AGAINST, UNCLEAR], FAILS),
        ([FOR, UNCLEAR], MIXED),
        ([FOR, AGAINST], MIXED),
        ([UNCLEAR], MIXED),
        ([ONE_RUN, NO_CASE], UNTESTED),
    ],
)
def test_a_claim_has_to_earn_that_it_holds(found, expected):
    assert ov.claims.conclude([Part("", one, "") for one in found]) == expected


# Tables that are not what the rule reads


def test_a_table_that_is_gone_is_not_tested(results):
    shutil.rmtree(results / "fair-both_tuned")
    assert ov.claims.judge("both_tuned") == (UNTESTED, "")
    frame = ov.claims.ledger().set_index("name")
    assert frame.command["both_tuned"] == "orthoviz train fair/both_tuned"
    assert frame.verdict["ruler"] == HOLDS
    (results / "table1-basic_cnn" / "watched.csv").unlink()
    assert ov.claims.judge("maps_lower") == (UNTESTED, "")
    assert ov.claims.judge("table1_basic_cnn")[0] == HOLDS


def test_one_run_each_is_not_tested_and_asks_for_more(results):
    change(results, "fair-both_tuned", lambda table: table[table.seed == 0])
    row = ov.claims.ledger().set_index("name").loc["both_tuned"]
    assert row.verdict == UNTESTED
    assert row.figures.startswith("One run each: ")
    assert row.command == "orthoviz train fair/both_tuned --seeds 3"
    assert row.command in ov.claims.listing()
    assert f"{row.figures} To test it: `{row.command}`" in ov.claims.table("both_tuned").data


def test_what_did_not_happen_needs_no_reason():
    verdict, figures = ov.claims.judge("null_directions")
    assert verdict == UNTESTED
    assert figures.startswith("One run each: resnet18: ")
    assert "No case: basic_cnn: kept 33.8 %" in figures


# Tables are checked when they are stored


def of_sgd(table):
    return table[table.optimizer == SGD]


def test_what_the_ledger_reads_may_be_stored():
    for need in {need for claim in CLAIMS.values() for need in claim.needs}:
        if path_of(RESULTS, need).is_file():
            stored.check_table(ov.training.results(need))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda table: table[:0], "no rows to store"),
        (put(ACCURACY, math.nan, seed=1, optimizer=SGD), "test_accuracy is no number in 1 of 6 rows"),
        (lambda table: table.assign(test_loss="much"), "test_loss is no number in 6 of 6 rows"),
        (put("lr", math.inf, seed=0), "lr is no number in 2 of 6 rows"),
        (lambda table: table[:-1], "the same seeds"),
        (lambda table: pd.concat([table, table]), "rows are there twice"),
        (lambda table: pd.concat([table, table.assign(seed=table.seed + 10)]), "have the same history"),
        (lambda table: pd.concat([table, of_sgd(table).assign(lr=1.0)]), "two rates that were chosen"),
        (lambda table: pd.concat([table, of_sgd(table).assign(epoch=2)]), "different lengths"),
        (put(ACCURACY, 7), "test_accuracy must hold numbers from 0 to 1"),
        (put(ACCURACY, -3, optimizer=SGD), "test_accuracy must hold numbers from 0 to 1"),
        (lambda table: table.assign(test_accuracy=True), "test_accuracy must hold numbers from 0 to 1"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_judged_is_not_stored(make, words):
    with pytest.raises(ValueError, match=words):
        stored.check_table(make(BETTER))


@pytest.mark.parametrize("text", ["{", "", None])
def test_a_broken_provenance_names_its_table(results, text):
    file = results / "lr_sweep" / "provenance.json"
    file.unlink() if text is None else file.write_text(text)
    for words in (["results", "list"], ["results", "show", "lr_sweep"], ["claims", "flat"]):
        assert main(words) == 2


def test_a_run_that_diverged_at_a_rate_that_was_not_chosen_may_be_stored():
    table = pd.concat([BETTER, runs({(SGD, 9.0, False): [math.nan] * 3})])
    assert stored.check_table(table) is table


# The command and the notebook


def test_the_command_prints_all(capsys):
    assert main(["claims"]) == 0
    out = capsys.readouterr().out
    for name in CLAIMS:
        assert re.search(rf"^{name}: ({'|'.join(ov.claims.VERDICTS)})$", out, re.MULTILINE), name
    assert max(map(len, out.splitlines())) <= 100
    assert f"{len(CLAIMS)} claims:\n    holds " in out
    assert "To test it: orthoviz train table2\n" in out


def test_the_command_shows_one_in_full(capsys):
    assert main(["claims", "table3"]) == 0
    out = capsys.readouterr().out
    verdict, figures = ov.claims.judge("table3")
    assert out.startswith(f"table3: {verdict}\n")
    flat = " ".join(out.split())
    for text in (CLAIMS["table3"].rule, CLAIMS["table3"].source, figures):
        assert text in flat
    assert "results/table3-basic_cnn Table 3, basic_cnn" in flat
    assert "JPEG copy" in flat


def test_a_notebook_shows_them_as_a_table(ledger):
    lines = ov.claims.table("both_tuned", "table2").data.splitlines()
    assert lines[0].count("|") == lines[1].count("|") == 4
    tuned = ledger.set_index("name").loc["both_tuned"]
    assert [line.partition(" **")[2].partition("**")[0] for line in lines[2:]] == [tuned.verdict, UNTESTED]
    assert tuned.figures in lines[2]
    assert "`orthoviz train table2`" in lines[3]
    assert len(ov.claims.table().data.splitlines()) == len(CLAIMS) + 2

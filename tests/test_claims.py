"""The ledger: every verdict comes from stored figures, and changes with them."""

import json
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


def changed(results, need, change):
    path = path_of(results, need)
    change(pd.read_csv(path)).to_csv(path, index=False)


def swapped(first, second):
    return lambda table: table.assign(optimizer=table.optimizer.replace({first: second, second: first}))


def put(column, value, **where):
    """Another value in the rows that hold these; a function gets the old one."""

    def change(table):
        rows = pd.Series(True, table.index)
        for key, wanted in where.items():
            rows &= table[key] == wanted
        assert rows.any()
        new = value(table.loc[rows]) if callable(value) else value
        return table.assign(**{column: table[column].astype(float).mask(rows, new)})

    return change


def times(column, factor, **where):
    return put(column, lambda rows: factor * rows[column], **where)


def many(*changes):
    def change(table):
        for one in changes:
            table = one(table)
        return table

    return change


# A table as a recipe's, for claims whose runs are not stored.


def runs(accuracy, batch_size=1024):
    """Runs of one epoch: (optimizer, lr, chosen) to accuracies, one a seed."""
    rows = [
        {"optimizer": name, "lr": lr, "batch_size": batch_size, "seed": seed, "epoch": 1, "seconds": 1.0,
         "test_accuracy": value, "test_loss": 1 - value, "chosen": chosen}
        for (name, lr, chosen), values in accuracy.items() for seed, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


BETTER = runs({(SGD, 0.01, True): [0.70, 0.71], (OURS, 0.01, True): [0.75, 0.76]})
SCALED = "Muon's order, AdamW's scale"


def successors(adamw=0.5, scaled=0.6, scaled_best=0.6, plain=0.4, swan=0.6):
    return runs(
        {
            ("AdamW", 0.001, True): [adamw, adamw + 0.01],
            ("AdamW", 0.01, False): [0.1, 0.1],
            ("SWAN", 0.001, True): [swan, swan + 0.01],
            ("Muon's order", 0.001, False): [plain, plain + 0.01],
            ("Muon's order", 0.01, True): [0.7, 0.7],
            (SCALED, 0.001, scaled_best == scaled): [scaled, scaled + 0.01],
            (SCALED, 0.01, scaled_best != scaled): [scaled_best, scaled_best + 0.01],
        }
    )


def theories(**told):
    rows = []
    given = {"gain_after": 0.9, "gain_before": 0.6, "cosine_after": 0.1, "cosine_before": 0.2}
    given |= {"nuclear_rank": 30, "stable_rank": 20, "drop_spectral": 2.0, "drop_gradient": 1.0}
    for quantity, value in (given | told).items():
        theory = "momentum_first" if "_after" in quantity or "_before" in quantity else "nuclear_rank"
        for seed in range(2):
            row = {"theory": theory, "case": "one", "seed": seed, "quantity": quantity, "value": value}
            rows.append(row)
    return pd.DataFrame(rows)


DEEP = [model for model in recipes.PAPER_TABLE1 if model != "basic_cnn"]
MISSING = {
    **dict.fromkeys(("table2", "imagenet-resnet34"), BETTER),
    **{f"table1-{model}": BETTER for model in DEEP},
    **{f"table3-{model}": BETTER for model in recipes.PAPER_TABLE3},
    "successors": successors(),
    "theories": theories(),
}


def fill(results, claim):
    """Store what a claim needs and was not run."""
    for name in {need for need in CLAIMS[claim].needs if need in MISSING}:
        if not (results / name).exists():
            (results / name).mkdir()
            MISSING[name].to_csv(results / name / "table.csv", index=False)
            about = {"what": "made up", "data": "none", "date": "today"}
            (results / name / "provenance.json").write_text(json.dumps(about))


AT_FOUR = {"optimizer": KEPT, "batch_size": 4, "epoch": 1}
MUON = times("test_accuracy", 1.5, optimizer="Muon's order")
WATCHED = "table1-basic_cnn/watched"
CHANGES = {
    "table1_basic_cnn": [
        ({"table1-basic_cnn": swapped(SGD, OURS)}, FAILS),
        (
            {"table1-basic_cnn": put("test_accuracy", 0.739, optimizer=SGD, seed=1, epoch=100)},
            MIXED,
        ),
        ({"table1-basic_cnn": lambda t: t[t.seed == 0]}, UNTESTED),
    ],
    "table1_loss": [({"table1-basic_cnn": swapped(SGD, OURS)}, FAILS)],
    "table1_resnets": [
        ({}, HOLDS),
        ({"table1-resnet20": swapped(SGD, OURS)}, MIXED),
        ({f"table1-{model}": swapped(SGD, OURS) for model in DEEP}, FAILS),
    ],
    "table2": [({}, FAILS), ({"table2": swapped(SGD, OURS)}, HOLDS)],
    "table3": [
        ({"table3-basic_cnn": times("test_accuracy", 0.9)}, FAILS),
        ({"table3-basic_cnn": put("test_accuracy", 0.735, epoch=100, seed=1)}, MIXED),
    ],
    "table3_resnets": [({}, HOLDS), ({"table3-resnet20": times("test_accuracy", 0.9)}, MIXED)],
    "imagenet": [
        ({}, HOLDS),
        ({"imagenet-resnet34": times("test_loss", 2, optimizer=OURS)}, MIXED),
        ({"imagenet-resnet34": swapped(SGD, OURS)}, FAILS),
        ({"imagenet-resnet34": lambda t: t[t.seed == 0]}, UNTESTED),
    ],
    "speedup": [
        ({"table1-basic_cnn": swapped(SGD, OURS)}, FAILS),
        ({"table1-basic_cnn": times("seconds", 9, optimizer=OURS)}, MIXED),
        ({"table1-basic_cnn": put("test_accuracy", 0.1)}, MIXED),
    ],
    "flat": [({"lr_sweep": swapped(SGD, OURS)}, FAILS)],
    "from_batch_16": [
        ({"batch_size-basic_cnn": swapped(SGD, KEPT)}, FAILS),
        ({"batch_size-basic_cnn": put("test_accuracy", 0.9, optimizer=SGD, batch_size=64)}, MIXED),
        ({"batch_size-basic_cnn": put("test_accuracy", 0.9, optimizer=SGD, batch_size=4)}, HOLDS),
    ],
    "collapse_at_4": [
        ({"batch_size-basic_cnn": put("test_accuracy", 0.11, **AT_FOUR)}, HOLDS),
        ({"batch_size-basic_cnn": put("test_accuracy", 0.5, **AT_FOUR)}, FAILS),
    ],
    "filters_equal_rate": [
        ({"filters": swapped(SGD, OURS)}, MIXED),
        (
            dict.fromkeys(
                ("filters", WATCHED), put("value", 0.01, optimizer=OURS, quantity="mean_abs_cosine")
            ),
            HOLDS,
        ),
    ],
    "maps_lower": [
        ({WATCHED: swapped(SGD, OURS)}, FAILS),
        ({WATCHED: put("value", 0.01, optimizer=OURS, quantity="feature_cosine")}, HOLDS),
    ],
    "maps_fall": [
        ({WATCHED: put("value", lambda t: 1 - t.step / 1e4, optimizer=OURS)}, HOLDS),
        ({WATCHED: put("value", lambda t: 1 + t.step / 1e4, optimizer=OURS)}, FAILS),
    ],
    "dead_parameters": [
        ({WATCHED: swapped(SGD, OURS)}, FAILS),
        (
            {
                WATCHED: many(
                    put("value", 0.01, quantity="dead_parameters", optimizer=SGD),
                    put("value", 0.1, quantity="dead_parameters", optimizer=OURS),
                )
            },
            HOLDS,
        ),
    ],
    "barlow_twins": [
        ({"barlow_twins": times("train_loss", 0.5, optimizer="orthogonal LARS")}, HOLDS),
        ({"barlow_twins": swapped("LARS", "orthogonal LARS")}, FAILS),
    ],
    "svd_per_step": [
        ({"optim": lambda t: t.assign(to_sgd=t.batch)}, FAILS),
        ({"optim": put("to_sgd", 99, batch=1024)}, MIXED),
    ],
    "fast_factor": [
        ({"polar_gradients": put("error", 0.001, method="fast")}, HOLDS),
        (
            {
                "polar": put("to_svd", 0.5, contender="orthoviz fast"),
                "polar_gradients": put("error", 0.9, method="fast"),
            },
            FAILS,
        ),
        ({"polar": put("error", 0.5, contender="orthoviz fast")}, MIXED),
    ],
    "rank_deficient": [({"rank_budget": lambda t: t.assign(supported=t.possible)}, FAILS)],
    "ruler": [
        ({"lr_sweep": put("test_accuracy", 0.6, optimizer=SGD, lr=0.01)}, MIXED),
        ({"lr_sweep": put("test_accuracy", 0.9, optimizer=OURS, lr=0.03)}, FAILS),
    ],
    "equal_step": [({"fair-equal_step": swapped(SGD, OURS)}, FAILS)],
    "both_tuned": [
        ({"fair-both_tuned": swapped(SGD, OURS)}, FAILS),
        ({"fair-both_tuned": put("test_accuracy", 0.685, epoch=10, optimizer=SGD, seed=0, lr=0.1)}, MIXED),
        # what is not chosen does not count
        ({"fair-both_tuned": put("test_accuracy", 0.9, optimizer=SGD, lr=0.03)}, HOLDS),
    ],
    "speedup_tuned": [
        ({"fair-both_tuned": swapped(SGD, OURS)}, FAILS),
        ({"fair-both_tuned": put("test_accuracy", 0.9, epoch=1, optimizer=OURS)}, HOLDS),
    ],
    "shape": [
        ({"controls": swapped(SGD, "norm-matched")}, MIXED),
        ({"controls": times("test_accuracy", 0.5, optimizer="norm-matched")}, MIXED),
        (
            {
                "controls": many(
                    times("test_accuracy", 0.5, optimizer="norm-matched"),
                    times("test_accuracy", 0.5, optimizer=OURS),
                )
            },
            FAILS,
        ),
    ],
    "filters_best_rate": [
        ({"filters": put("value", 0.01, optimizer=OURS, quantity="mean_abs_cosine")}, HOLDS),
        ({"filters": put("value", 0.9, optimizer=OURS, quantity="mean_abs_cosine")}, FAILS),
        # with another best rate other filters are compared
        ({"filters": put("value", 0.9, optimizer=SGD, quantity="test_accuracy", lr=0.01)}, FAILS),
    ],
    "maps_centred": [
        ({WATCHED: swapped(SGD, OURS)}, MIXED),
        (
            dict.fromkeys(
                ("filters", WATCHED),
                put("value", 0.9, optimizer=OURS, quantity="centred_feature_cosine"),
            ),
            FAILS,
        ),
    ],
    "null_directions": [
        ({"batch_size-basic_cnn": put("test_accuracy", 0.11, **AT_FOUR)}, HOLDS),
        (
            {
                "batch_size-basic_cnn": many(
                    put("test_accuracy", 0.11, **AT_FOUR),
                    put("test_accuracy", 0.11, optimizer=OURS, batch_size=4),
                )
            },
            FAILS,
        ),
        ({"batch_size-basic_cnn": put("test_accuracy", 0.3, batch_size=4)}, UNTESTED),
    ],
    "muon_order": [
        (dict.fromkeys(("controls", "fair-both_tuned", "batch_size-basic_cnn"), MUON), HOLDS),
        (
            dict.fromkeys(
                ("controls", "fair-both_tuned", "batch_size-basic_cnn"),
                times("test_accuracy", 0.5, optimizer="Muon's order"),
            ),
            FAILS,
        ),
    ],
    "averages_first": [
        ({"theories": lambda t: theories()}, MIXED),
        ({"theories": lambda t: theories(cosine_after=0.3)}, HOLDS),
        ({"theories": lambda t: theories(gain_after=0.3)}, FAILS),
    ],
    "no_momentum": [
        ({"successors": lambda t: successors()}, HOLDS),
        ({"successors": lambda t: successors(swan=0.55)}, MIXED),
        ({"successors": lambda t: successors(swan=0.45)}, FAILS),
    ],
    "adamw_rate": [
        ({"successors": lambda t: successors()}, HOLDS),
        ({"successors": lambda t: successors(scaled_best=0.9)}, MIXED),
        ({"successors": lambda t: successors(plain=0.8)}, MIXED),
        ({"successors": lambda t: successors(adamw=0.8, scaled_best=0.9, plain=0.8)}, FAILS),
    ],
    "nuclear_rank": [
        ({"theories": lambda t: theories()}, HOLDS),
        ({"theories": lambda t: theories(drop_spectral=0.5)}, FAILS),
        ({"theories": lambda t: theories(nuclear_rank=10)}, FAILS),
        ({"theories": lambda t: theories(nuclear_rank=10, drop_spectral=0.5)}, HOLDS),
    ],
}


def test_every_claim_is_tried():
    assert set(CHANGES) == set(CLAIMS)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [(name, *case) for name, cases in CHANGES.items() for case in cases],
)
def test_a_stored_figure_changes_and_so_does_the_verdict(results, name, changes, expected):
    fill(results, name)
    assert set(changes) <= set(CLAIMS[name].needs)
    for need, change in changes.items():
        changed(results, need, change)
    assert ov.claims.judge(name)[0] == expected


def test_each_claim_that_is_tested_has_a_change_that_turns_it(results):
    for name, cases in CHANGES.items():
        now = ov.claims.judge(name)[0]
        assert now == UNTESTED or {expected for _, expected in cases} - {now}, name


# What there is


def test_every_claim_has_a_source_a_rule_and_a_verdict():
    frame = ov.claims.ledger()
    assert list(frame.name) == list(CLAIMS)
    assert frame.verdict.isin(ov.claims.VERDICTS).all()
    for column in ("claim", "source", "rule", "results"):
        assert (frame[column].str.len() > 4).all()
    assert set(frame.by) == {"the paper", "this course", "its successors"}
    assert frame.claim.str.endswith(".").all()
    assert (frame[frame.verdict != UNTESTED].figures != "").all()


def test_what_is_tested_is_stored_and_what_is_not_names_its_command():
    for row in ov.claims.ledger().itertuples():
        there = [path_of(RESULTS, need).is_file() for need in row.results.split(", ")]
        assert all(there) or row.verdict == UNTESTED
        assert bool(row.command) == (row.verdict == UNTESTED)


def test_the_commands_are_there():
    for claim in CLAIMS.values():
        for need in claim.needs:
            command = ov.claims.judging._command(need)
            kind, _, name = command.rpartition(" COPY")[0].rpartition(" ") if "COPY" in command else (
                command.rpartition(" ")
            )  # fmt: skip
            if kind == "orthoviz train":
                assert name in recipes.RECIPES
            else:
                assert kind == "python -m"
                assert (ROOT / f"{name.replace('.', '/')}.py").is_file()
            made = RESULTS / need.partition("/")[0] / "provenance.json"
            if made.is_file():
                assert json.loads(made.read_text())["command"].startswith(f"{kind} {name}")


def test_the_papers_figures_stand_in_one_place():
    """In the recipes; the ledger quotes them and has no copy."""
    sources = (ROOT / "orthoviz" / "claims").glob("*.py")
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
        ([FOR, FOR, ONE_RUN], HOLDS),
        ([AGAINST, UNCLEAR], FAILS),
        ([FOR, UNCLEAR], MIXED),
        ([FOR, AGAINST], MIXED),
        ([UNCLEAR], MIXED),
        ([ONE_RUN, NO_CASE], UNTESTED),
    ],
)
def test_a_claim_has_to_earn_that_it_holds(found, expected):
    assert ov.claims.concluded([Part("", one, "") for one in found]) == expected


# Tables that are not what the rule reads


def test_a_table_that_is_gone_is_not_tested(results):
    shutil.rmtree(results / "fair-both_tuned")
    assert ov.claims.judge("both_tuned") == (UNTESTED, "")
    frame = ov.claims.ledger().set_index("name")
    assert frame.command["both_tuned"] == "orthoviz train fair/both_tuned"
    assert frame.verdict["equal_step"] == HOLDS
    (results / "table1-basic_cnn" / "watched.csv").unlink()
    assert ov.claims.judge("maps_lower") == (UNTESTED, "")
    assert ov.claims.judge("table1_basic_cnn")[0] == HOLDS


def test_one_run_each_is_not_tested_and_asks_for_more(results):
    changed(results, "fair-equal_step", lambda table: table[table.seed == 0])
    row = ov.claims.ledger().set_index("name").loc["equal_step"]
    assert row.verdict == UNTESTED
    assert row.figures.startswith("One run each: ")
    assert row.command == "orthoviz train fair/equal_step --seeds 3"
    assert row.command in ov.claims.listing()
    assert f"{row.figures} To test it: `{row.command}`" in ov.claims.table("equal_step").data


@pytest.mark.parametrize("name", ["maps_lower", "maps_fall", "dead_parameters"])
def test_what_was_watched_once_is_not_tested(results, name):
    changed(results, WATCHED, lambda table: table[table.seed == 0])
    assert ov.claims.judge(name)[0] == UNTESTED


def test_what_did_not_happen_needs_no_reason():
    verdict, figures = ov.claims.judge("null_directions")
    assert verdict == UNTESTED
    assert figures.startswith("One run each: resnet18: ")
    assert "No case: basic_cnn: kept 33.8 %" in figures


def test_a_word_in_a_row_that_is_not_read_changes_nothing(results):
    before = ov.claims.judge("both_tuned")
    changed(results, "fair-both_tuned", lambda t: t.assign(
        test_accuracy=t.test_accuracy.astype(object).mask(t.index == t.index[~t.chosen][0], "broken")
    ))  # fmt: skip
    assert ov.claims.judge("both_tuned") == before


def test_one_batch_size_is_no_comparison(results):
    changed(results, "optim", lambda table: table[table.batch == 64])
    with pytest.raises(ValueError, match="a single batch size have nothing to be compared with"):
        ov.claims.judge("svd_per_step")


def test_a_missing_column_is_named(results):
    changed(results, "fair-equal_step", lambda table: table.drop(columns="test_accuracy"))
    with pytest.raises(ValueError, match=r"the rule reads what is not there, .*test_accuracy"):
        ov.claims.judge("equal_step")
    changed(results, "fair-both_tuned", put("test_accuracy", float("nan"), epoch=10, optimizer=SGD, lr=0.1))
    with pytest.raises(ValueError, match="test_accuracy is no number in 2 of 6 rows that the rule reads"):
        ov.claims.judge("both_tuned")
    changed(results, "controls", lambda table: table.assign(test_accuracy="much"))
    with pytest.raises(ValueError, match="test_accuracy is no number in 12 of 12 rows"):
        ov.claims.judge("shape")


def test_a_seed_that_is_missing_somewhere_is_refused(results):
    changed(results, "lr_sweep", lambda table: table[(table.seed != 1) | (table.lr != 0.03)])
    with pytest.raises(ValueError, match="not all 3 seeds have a test_accuracy for every"):
        ov.claims.judge("flat")


def test_an_optimiser_that_is_gone_is_named(results):
    changed(results, "fair-equal_step", lambda table: table[table.optimizer != SGD])
    with pytest.raises(ValueError, match=r"not there, 'SGD'\. Made by: orthoviz train fair/equal_step"):
        ov.claims.ledger()


# The command and the notebook


def test_the_command_prints_all(capsys):
    assert main(["claims"]) == 0
    out = capsys.readouterr().out
    for name in CLAIMS:
        assert re.search(rf"^{name}: ({'|'.join(ov.claims.VERDICTS)})$", out, re.MULTILINE), name
    assert max(map(len, out.splitlines())) <= 100
    assert f"{len(CLAIMS)} claims: holds " in out
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


def test_an_unknown_claim_exits_2_with_the_known_ones(capsys):
    assert main(["claims", "everything"]) == 2
    told = capsys.readouterr().err
    assert "there is no claim 'everything'" in told
    assert all(name in told for name in CLAIMS)


def test_a_table_that_cannot_be_judged_exits_2(results, capsys):
    changed(results, "lr_sweep", lambda table: table.drop(columns="lr"))
    assert main(["claims"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("orthoviz: claim 'flat' cannot be judged by results/lr_sweep: ")
    assert "'lr'" in told


def test_a_notebook_shows_them_as_a_table():
    lines = ov.claims.table("both_tuned", "table2").data.splitlines()
    assert lines[0].count("|") == lines[1].count("|") == 4
    verdict, figures = ov.claims.judge("both_tuned")
    assert [line.partition(" **")[2].partition("**")[0] for line in lines[2:]] == [verdict, UNTESTED]
    assert figures in lines[2]
    assert "`orthoviz train table2`" in lines[3]
    assert len(ov.claims.table().data.splitlines()) == len(CLAIMS) + 2
    with pytest.raises(ValueError, match="there is no claim 'nothing'"):
        ov.claims.table("nothing")


def test_public_names_are_documented():
    for name in ov.claims.__all__:
        value = getattr(ov.claims, name)
        assert isinstance(value, (tuple, dict)) or value.__doc__

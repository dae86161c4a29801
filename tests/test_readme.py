import re
import subprocess
from pathlib import Path

import orthoviz as ov

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in example.splitlines() if line and "import" not in line]) <= 10
    exec(example, {})


def test_every_link_leads_somewhere():
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        for target in re.findall(r"\]\(([^)]+)\)", text):
            assert target.startswith("https://") or (ROOT / target).exists(), target


def test_every_make_target_that_is_named_exists():
    text = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = re.findall(r"^    make (\S+)", text, re.MULTILINE)
    assert len(targets) > 3
    subprocess.run(["make", "-n", *targets], cwd=ROOT, check=True, capture_output=True)


def last(name, epoch):
    """Of a stored table the rows of its last epoch."""
    return ov.training.results(name).query("epoch == @epoch")


def means(rows, by="optimizer"):
    return rows.groupby(by).test_accuracy.mean() * 100


def sentences():
    """What README says of stored tables, with today's figures."""
    mean = means(last("lr_sweep", 5), ["optimizer", "lr"]).unstack("optimizer")
    equal, best = (rates["orthogonal_sgd"] - rates["sgd"] for rates in (mean.loc[0.01], mean.max()))
    yield f"leads by {equal:.1f} points; each at its best rate, by {best:.1f}"
    mean = means(last("table1-basic_cnn", 100))
    yield f"SGD {mean['sgd']:.2f} %, orthogonal SGD {mean['orthogonal_sgd']:.2f} %"
    lead = {}
    for protocol in ("equal_lr", "equal_step", "both_tuned"):
        mean = means(last(f"fair-{protocol}", 10).query("chosen"))
        lead[protocol] = f"{mean['orthogonal_sgd'] - mean['sgd']:.1f}"
    yield f"leads by {lead['equal_lr']} points at SGD's rate of 0.01, by {lead['equal_step']} where"
    yield f"and by {lead['both_tuned']} where both are tuned"
    yield f"{100 * last('table3-basic_cnn', 100).test_accuracy.mean():.2f} % with the head left alone"
    stored = ov.training.results("monitor").set_index(["model", "loop"]).to_unwatched
    small, large = stored["BasicCNN"], stored["resnet18"]
    yield f'`"lecture"` {small["SGD, lecture"]:.2f} and `"research"` {small["SGD, research"]:.2f}'
    yield f"is {small['SGD, Cockpit economy every 10']:.2f}"
    ours = large["OrthogonalSGD, lecture"]
    yield f'`"lecture"` {large["SGD, lecture"]:.2f} with SGD and {ours:.2f} with `OrthogonalSGD`'
    stored = ov.training.results("views")
    median, late = stored.median_ms, stored.p95_ms
    yield f"after {median.min():.0f} to {median.max():.0f} ms (medians; 95 % within {late.max():.0f},"


def test_its_figures_are_the_stored_ones():
    text = " ".join(README.split())
    for sentence in sentences():
        assert sentence in text


def test_its_verdicts_are_those_of_the_ledger(ledger):
    rows = re.findall(r"^\| (.*) \| (holds|does not hold here|mixed|not tested) \|$", README, re.MULTILINE)
    assert len(rows) > 10
    assert {*rows} <= {*zip(ledger.claim, ledger.verdict, strict=True)}
    count = ledger.verdict.value_counts()
    fail = count["does not hold here"]
    do = "does" if fail == 1 else "do"
    says = (
        f"Of {len(ledger)} claims {count['holds']} hold, {fail} {do} not hold here, "
        f"{count['mixed']} are mixed, and {count['not tested']} are not tested"
    )
    assert says in " ".join(README.split())


def test_its_times_of_polar_factors_are_the_stored_ones():
    stored = ov.training.results("polar").set_index(["contender", "job"]).milliseconds
    for label, contender in (("`exact`", "orthoviz exact"), ("`fast`", "orthoviz fast")):
        (line,) = re.findall(rf"^\| {label} \| .* ms.*$", README, re.MULTILINE)
        times = [int(ms) for ms in re.findall(r"(\d+) ms", line)]
        assert times == [round(stored[contender, job]) for job in ("resnet18", "resnet50", "densenet121")]


def test_its_costs_of_a_step_are_the_stored_ones():
    stored = ov.training.results("optim").set_index(["optimizer", "model", "batch"]).to_sgd
    for label, name in (
        ("`OrthogonalSGD`, `exact`", "OrthogonalSGD exact"),
        ("`OrthogonalSGD`, `fast`", "OrthogonalSGD fast"),
        ("`OrthogonalSGD`, `svd` (the paper's)", "OrthogonalSGD svd"),
        ("pytorch-optimizer's Muon", "pytorch-optimizer Muon"),
    ):
        (line,) = re.findall(rf"^\| {re.escape(label)} \| (.*) \|$", README, re.MULTILINE)
        cells = [("BasicCNN", 64), ("BasicCNN", 1024), ("resnet18", 128), ("resnet18", 256)]
        assert line.split(" | ") == [f"{stored[name, model, batch]:.2f}" for model, batch in cells]


def test_every_view_answers_a_key_press_in_time():
    stored = ov.training.results("views")
    assert set(stored["view"]) == set(ov.widgets.__all__) - {"theme"}
    assert stored.median_ms.max() <= 100
    assert stored.p95_ms.max() <= 250

"""What lesson 06 says of stored runs."""

import orthoviz as ov


def ends(name, epoch):
    """Final accuracies of each optimiser at its best rate, in percent, by seed."""
    runs = ov.training.results(name).query(f"chosen and epoch == {epoch}").sort_values("seed")
    return {key: [100 * value for value in found] for key, found in runs.groupby("optimizer").test_accuracy}


def mean(values):
    return sum(values) / len(values)


def test_the_shape_brings_the_lead_and_the_length_alone_nothing():
    found = ends("controls", 3)
    assert {len(values) for values in found.values()} == {5}
    lead = mean(found["orthogonal_sgd"]) - mean(found["sgd"])
    assert round(lead, 1) == 5.7
    assert mean(found["per_tensor"]) < mean(found["sgd"])
    assert mean(found["matched"]) > mean(found["orthogonal_sgd"])
    lower = [a - b for a, b in zip(found["orthogonal_sgd"], found["random_spectrum"], strict=True)]
    assert round(mean(lower), 1) == 1.4
    assert min(lower) < 0 < max(lower)
    lowest = sorted(found, key=lambda name: mean(found[name]))[:3]
    assert set(lowest) == {"sgd", "per_tensor", "per_filter"}


def test_the_lead_on_photographs_by_every_rule():
    leads = {}
    for protocol in ("equal_lr", "equal_step", "both_tuned", "schedule"):
        found = ends(f"fair-{protocol}", 10)
        leads[protocol] = mean(found["orthogonal_sgd"]) - mean(found["sgd"])
    assert [round(lead, 1) for lead in leads.values()] == [10.0, 4.2, 5.0, 5.0]


def test_most_of_the_lead_was_time():
    runs = ov.training.results("table1-basic_cnn")
    by = runs.groupby(["epoch", "optimizer"]).test_accuracy.mean().unstack() * 100
    lead = by["orthogonal_sgd"] - by["sgd"]
    assert lead[10] > 10
    assert round(lead[100], 1) == 1.8

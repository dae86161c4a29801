"""What ``orthoviz results`` prints and draws: stored runs beside the paper's figures."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from orthoviz import plots
from orthoviz.optim.named import label_of
from orthoviz.plots.frames import need
from orthoviz.training import recipes
from orthoviz.training.outcomes import best_rates, summary
from orthoviz.training.stored import finals, names, provenance_of, results


def listing() -> str:
    """A line for every stored table: its name and what was run; and what was not."""
    lines = [f"{name:24} {provenance_of(name).get('what', '')}" for name in names()]
    missing = [name for name in recipes.RECIPES if name.replace("/", "-") not in names()]
    lines += ["", "Not run; each is one command, orthoviz train NAME:", "  " + ", ".join(missing)]
    return "\n".join(lines)


def show(name: str) -> str:
    """A stored table's provenance, and its final accuracies."""
    table = results(name)
    lines = [f"{key}: {value}" for key, value in provenance_of(name).items()]
    if {"optimizer", "test_accuracy", "epoch", "seed"} <= set(table):
        rows = finals(table).round({"test_accuracy": 4, "test_loss": 4, "error": 4})
    else:
        rows = table.head(20)
    if "optimizer" in rows:
        rows = rows.assign(optimizer=rows["optimizer"].map(label_of))
    return "\n".join([*lines, "", rows.to_string(index=False)])


def compare(name: str) -> str:
    """Which optimiser of a stored table is better at its rate, chosen or best, if the seeds can tell.

    Raises:
        ValueError: there is no such table, or it holds no runs.
    """
    table = results(name)
    need(table, "optimizer", "lr", "epoch", "test_accuracy")
    groups = table.groupby("batch_size") if "batch_size" in table else [("", table)]
    lines = []
    for batch_size, part in groups:
        if "chosen" not in part:
            best = best_rates(part, "test_accuracy")
            part = part.assign(chosen=part["lr"] == part["optimizer"].map(best))
        lines.append(summary(part, f"{name}, batch {batch_size}"))
    return "\n".join(lines)


def table1() -> pd.DataFrame:
    """The paper's Table 1, and Table 3 with the head left alone, beside what was run here."""
    rows = []
    for model, (sgd, ours, sgd_loss, our_loss) in recipes.PAPER_TABLE1.items():
        for name, accuracy, loss in (("sgd", sgd, sgd_loss), ("orthogonal_sgd", ours, our_loss)):
            rows.append([model, label_of(name), f"{accuracy} ({loss})", _ours(f"table1/{model}", name)])
        if model in recipes.PAPER_TABLE3:
            paper = recipes.PAPER_TABLE3[model].replace(" %", "").replace("loss ", "")
            found = _ours(f"table3/{model}", "orthogonal_sgd")
            rows.append([model, "convolutions only", paper, found])
    columns = ["model", "optimizer", "the paper: % (loss)", "here: % (loss)"]
    return pd.DataFrame(rows, columns=columns).set_index(["model", "optimizer"])


def _ours(recipe: str, optimizer: str) -> str:
    name = recipe.replace("/", "-")
    if name not in names():
        return f"not run: orthoviz train {recipe}"
    row = finals(results(name)).set_index("optimizer").loc[optimizer]
    error: str = "" if pd.isna(row["error"]) else f" ± {100 * row['error']:.2f}"
    return f"{100 * row['test_accuracy']:.2f}{error} ({row['test_loss']:.4f}), {row['runs']:.0f} runs"


def draw(name: str) -> Figure:
    """A stored table of runs as a figure."""
    table = results(name)
    if table["batch_size"].nunique() > 1:
        return plots.paper_figure("batch_size", table)
    if "rank_me" in table:
        return plots.paper_figure("barlow", table)
    if table.groupby("optimizer")["lr"].nunique().max() > 1:
        return plots.lr_flatness(table)
    return plots.training_curves(table) if "train_loss" in table else plots.compare(table)


def draw_all(folder: str | Path) -> list[Path]:
    """Every stored table of runs, as PNG files in a folder."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    made = []
    for name in names():
        if {"optimizer", "epoch", "batch_size", "test_accuracy"} <= set(results(name)):
            made.append(place / f"{name}.png")
            draw(name).savefig(made[-1], dpi=120)
    return made

"""What ``orthoviz results`` prints and draws: stored runs beside the paper's figures."""

import json
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from orthoviz import plots
from orthoviz.optim.named import label_of
from orthoviz.training import recipes
from orthoviz.training.comparison import summary
from orthoviz.training.stored import finals, names, results


def stored() -> list[str]:
    """Names of the tables that hold runs with a test accuracy."""
    return [name for name in names() if {"optimizer", "test_accuracy"} <= set(results(name))]


def listing() -> str:
    """A line for every stored table: its name and what was run; and what was not."""
    lines = [f"{name:24} {json.loads(results(name).attrs['provenance']).get('what', '')}" for name in names()]
    missing = [name for name in recipes.RECIPES if name.replace("/", "-") not in names()]
    lines += ["", "Not run; each is one command, orthoviz train NAME:", "  " + ", ".join(missing)]
    return "\n".join(lines)


def shown(name: str) -> str:
    """A stored table's provenance, and its final accuracies."""
    table = _with_labels(results(name))
    about = json.loads(table.attrs["provenance"])
    lines = [f"{key}: {value}" for key, value in about.items()]
    if {"optimizer", "test_accuracy", "epoch", "seed"} <= set(table):
        lines += ["", _round(finals(table)).to_string(index=False)]
    else:
        lines += ["", table.head(20).to_string(index=False)]
    return "\n".join(lines)


def compared(name: str) -> str:
    """Which optimiser of a stored table is better at its rate, chosen or best, if the seeds can tell."""
    table = results(name)
    groups = table.groupby("batch_size") if "batch_size" in table else [("", table)]
    lines = []
    for batch_size, part in groups:
        chosen = part[part["chosen"]] if "chosen" in part else _at_best_rate(part)
        rates = {str(key): float(lr) for key, lr in chosen.groupby("optimizer")["lr"].first().items()}
        lines.append(summary(chosen, f"{name}, batch {batch_size}", rates))
    return "\n".join(lines)


def _at_best_rate(table: pd.DataFrame) -> pd.DataFrame:
    means = finals(table).set_index("lr").groupby("optimizer")["test_accuracy"].idxmax()
    return table[table["lr"] == table["optimizer"].map(means)]


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
    return plots.training_curves(table)


def draw_all(folder: str | Path) -> list[Path]:
    """Every stored table of runs, as PNG files in a folder."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    made = []
    for name in stored():
        if {"epoch", "batch_size"} <= set(results(name)):
            draw(name).savefig(place / f"{name}.png", dpi=120)
            made.append(place / f"{name}.png")
    return made


def _with_labels(table: pd.DataFrame) -> pd.DataFrame:
    if "optimizer" not in table:
        return table
    return table.assign(optimizer=table["optimizer"].map(label_of))


def _round(table: pd.DataFrame) -> pd.DataFrame:
    return table.round({"test_accuracy": 4, "test_loss": 4, "error": 4})

"""Draw the README's pictures: the views as they open, and the stored sweep of learning rates.

python -m benchmarks.readme_picture
"""

import tempfile
from pathlib import Path

import seaborn as sns
from PIL import Image

import orthoviz as ov
from benchmarks.common import RESULTS, provenance, store


def main() -> None:
    about = provenance(
        what="the view loss_valley as it opens",
        data="none: a toy problem",
        command="python -m benchmarks.readme_picture",
    )
    ov.widgets.loss_valley().save(store("loss_valley", about) / "picture.png")
    _all_views().save(RESULTS / "views" / "picture.png", optimize=True)
    sweep = ov.training.results("lr_sweep")
    figure, (left, right) = ov.plots.new_figure(9, 3.6, (1, 1))
    look = {"hue": "optimizer", "style": "optimizer", "palette": ov.plots.COLOURS, "dashes": ov.plots.DASHES}
    equal = sweep.query("lr == 0.01")
    sns.lineplot(equal, x="epoch", y="test_accuracy", errorbar=("pi", 100), ax=left, **look)
    left.set(title="at one learning rate, 0.01", xlabel="epoch", ylabel="test accuracy")
    last = sweep.query("epoch == 5")
    sns.lineplot(
        last, x="lr", y="test_accuracy", errorbar=("pi", 100), marker="o", legend=False, ax=right, **look
    )
    rates = sorted(last.lr.unique())
    right.set(title="over learning rates, after 5 epochs", xscale="log", xlabel="learning rate", ylabel="")
    right.set_xticks(rates, [f"{rate:g}" for rate in rates])
    right.minorticks_off()
    for ax in (left, right):
        ax.axhline(0.1, color=ov.plots.RANDOM, ls=":")
        ax.set_ylim(0, 0.75)
    left.annotate("chance", (5, 0.105), color=ov.plots.RANDOM, ha="right", va="bottom")
    left.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.2))
    figure.suptitle("Orthogonalised gradients win here, by less than one learning rate suggests")
    figure.savefig(RESULTS / "lr_sweep" / "picture.png", dpi=120)


def _all_views(width: int = 600, gap: int = 14) -> Image.Image:
    """Every view as it opens, in two columns, loss_valley first."""
    names = sorted(set(ov.widgets.__all__) - {"theme"}, key=lambda name: (name != "loss_valley", name))
    pictures = []
    for name in names:
        view = getattr(ov.widgets, name)()
        with tempfile.TemporaryDirectory() as folder:
            view.save(Path(folder) / "view.png")
            picture = Image.open(Path(folder) / "view.png").convert("RGB")
        pictures.append(picture.resize((width, round(width * picture.height / picture.width))))
        view.close()
    heights = [0, 0]
    places = []
    for picture in pictures:
        column = heights.index(min(heights))
        places.append((column * (width + gap), heights[column]))
        heights[column] += picture.height + gap
    sheet = Image.new("RGB", (2 * width + gap, max(heights) - gap), "white")
    for picture, place in zip(pictures, places, strict=True):
        sheet.paste(picture, place)
    return sheet


if __name__ == "__main__":
    main()

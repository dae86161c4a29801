"""Draw the README's pictures: the view loss_valley as it opens, and the stored sweep of learning rates.

python -m benchmarks.readme_picture
"""

import seaborn as sns

import orthoviz as ov
from benchmarks.common import RESULTS, provenance, store


def main() -> None:
    about = provenance(
        what="the view loss_valley as it opens",
        data="none: a toy problem",
        command="python -m benchmarks.readme_picture",
    )
    view = ov.widgets.loss_valley()
    (store("loss_valley", about) / "picture.png").write_bytes(view.image)
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


if __name__ == "__main__":
    main()

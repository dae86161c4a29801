"""The claims, each with its source and its rule."""

from functools import partial
from typing import Any

from orthoviz.claims import measured, rules
from orthoviz.claims.comparing import MARGIN, OURS, SGD
from orthoviz.claims.parts import Claim
from orthoviz.training import recipes

_SEEDS = (
    "Better or worse where the differences of pairs of runs with the same seed are not chance (Student's t, "
    "5 %), otherwise unclear, as where a tuned rate is the first or last of its grid. "
)
_MARGIN = (
    f"As good where the whole 95 % interval of the lead, of pairs of runs with the same seed, lies above "
    f"{-100 * MARGIN:g} point; against where it lies below; otherwise unclear. "
)


def _paper(recipe: str) -> str:
    return recipes.recipe(recipe).paper


_RISES = [model for model, (_, _, sgd, ours) in recipes.PAPER_TABLE1.items() if float(ours) > float(sgd)]
_DEEP = [model for model in recipes.PAPER_TABLE1 if model != "basic_cnn"]
_HEADLESS = [model for model in recipes.PAPER_TABLE3 if model != "basic_cnn"]
_WATCHED = "table1-basic_cnn/watched"
_SHORT, _SHORT_AT_BEST, _LONG = (
    ("5 epochs", measured.EQUAL),
    ("5 epochs", None),
    ("100 epochs", measured.EQUAL),
)
_BATCHES = ("batch_size-basic_cnn", "batch_size-resnet18")
_SPECTRA = ("controls", "spectra")
_SHAPE = (("matched", SGD), (OURS, "per_tensor"), (OURS, "per_filter"))
_LIFTED = (("half", "per_tensor"), ("random_spectrum", "per_tensor"))

# A claim: the tables that it needs and its rule, the claim, its source, and the rule in words
_Group = dict[str, tuple[Any, ...]]

_PAPER: _Group = {
    "table1_basic_cnn": (("table1-basic_cnn",), rules.better,
        "At learning rate 0.01 for both, BasicCNN ends more accurate with orthogonal SGD than with SGD.",
        f"Table 1: {_paper('table1/basic_cnn')}",
        _SEEDS + "Test accuracy after 100 epochs."),
    "table1_loss": (("table1-basic_cnn",), partial(rules.better, columns=("test_loss",)),
        "At learning rate 0.01 for both, BasicCNN ends with a lower test loss with orthogonal SGD.",
        f"Table 1: {_paper('table1/basic_cnn')}; in the same table it rises for {', '.join(_RISES)}",
        _SEEDS + "Test loss after 100 epochs."),
    "table1_resnets": (tuple(f"table1-{model}" for model in _DEEP), rules.better,
        f"Each of Table 1's {len(_DEEP)} deeper networks ends more accurate with orthogonal SGD.",
        "Table 1: " + "; ".join(f"{model}: {_paper(f'table1/{model}')}" for model in _DEEP),
        _SEEDS + "Test accuracy after 100 epochs, in every network."),
    "table2": (("table2",), partial(rules.better, first=SGD, second=OURS),
        "With the recipe that was tuned for it, SGD ends more accurate on resnet20 than orthogonal SGD.",
        f"Table 2: {_paper('table2')}; Jordan and others 2024 (Muon) say so too",
        _SEEDS + "Test accuracy after 200 epochs."),
    "table3": (("table3-basic_cnn", "table1-basic_cnn"), rules.convolutions_only,
        "On BasicCNN it is as good to orthogonalise the convolutions only as the head too, or better.",
        f"Table 3: {_paper('table3/basic_cnn')}; Table 1: {_paper('table1/basic_cnn')}",
        _MARGIN + "Test accuracy after 100 epochs."),
    "table3_resnets": (
        tuple(f"{name}-{model}" for model in _HEADLESS for name in ("table3", "table1")),
        rules.convolutions_only,
        f"On {' and '.join(_HEADLESS)} it is as good to orthogonalise the convolutions only, or better.",
        "Table 3: " + "; ".join(f"{model}: {_paper(f'table3/{model}')}" for model in _HEADLESS),
        _MARGIN + "Test accuracy after 100 epochs, in each network."),
    "imagenet": (("imagenet-resnet34",), partial(rules.better, columns=("test_accuracy", "test_loss")),
        "On ImageNet ResNet-34 ends more accurate with orthogonal SGD, and with a lower loss.",
        f"the experiment on ImageNet: {_paper('imagenet/resnet34')}",
        _SEEDS + "Accuracy and loss on the validation images after 100 epochs."),
    "speedup": (("table1-basic_cnn",), partial(rules.sooner, targets=(50, 60, 70)),
        "At learning rate 0.01 for both, orthogonal SGD reaches an accuracy sooner than SGD.",
        "Figure 1 and abstract: a large decrease in learning time",
        _SEEDS + "Epochs, and seconds, until a run of BasicCNN first has 50, 60 and 70 % of the test images "
        "right."),
    "flat": (("lr_sweep",), rules.flat,
        "A naïvely chosen learning rate costs orthogonal SGD less than SGD.",
        "abstract: better accuracy for naïvely chosen hyper-parameters",
        _SEEDS + "Points of test accuracy between the best and the worst of four rates, in each seed; "
        "BasicCNN, five epochs."),
    "from_batch_16": (_BATCHES, partial(rules.better, first=rules.KEPT, least=16, lr=0.01),
        "At learning rate 0.01 for both, orthogonal SGD is ahead of SGD from mini-batches of 16 images on.",
        f"the experiment with mini-batch sizes: {_paper('batch_size/resnet18')}",
        _SEEDS + "Test accuracy after one epoch on 8,000 images (BasicCNN) or 2,000 (resnet18), not on all, "
        "at each batch size from 16 on, null directions kept as in the paper's code."),
    "collapse_at_4": (_BATCHES, rules.collapse,
        "At mini-batches of 4 images and learning rate 0.01 for both, orthogonal SGD falls behind SGD and "
        "collapses.",
        f"the experiment with mini-batch sizes: {_paper('batch_size/resnet18')}",
        _SEEDS + "Test accuracy after one epoch as in from_batch_16. Collapsed: every run has less than "
        f"half of what SGD's worst has over chance, {100 * rules.CHANCE:.0f} %."),
    "filters_equal_rate": (
        ("filters", _WATCHED), partial(measured.less_alike, quantity="mean_abs_cosine", runs=(_SHORT, _LONG)),
        "Orthogonal steps leave the filters of a layer less alike than SGD's.",
        "the hypothesis; the paper's own Figure 6, on resnet20, is against it",
        _SEEDS + "Mean absolute cosine between the filters of each layer of BasicCNN at the end, at "
        "learning rate 0.01 for both as in the paper, after 5 and after 100 epochs."),
    "maps_lower": ((_WATCHED,), partial(measured.less_alike, quantity="feature_cosine", runs=(_LONG,)),
        "BasicCNN's feature maps are less alike with orthogonal SGD, in every layer.",
        "Figure 7",
        _SEEDS + "Mean absolute cosine between the maps of each layer after 100 epochs at learning rate "
        "0.01."),
    "maps_fall": ((_WATCHED,), measured.falling,
        "With orthogonal SGD the cosines of BasicCNN's feature maps fall throughout training.",
        "Figure 7",
        "In each layer, at the start and after each quarter of 100 epochs. For: in every run each value is "
        "below the one before. Against: every run ends no lower than it began. Otherwise unclear."),
    "dead_parameters": ((_WATCHED,), measured.dead,
        "About ten times as many parameters are temporarily dead with orthogonal SGD.",
        "the count in resnet50, layer2[1].conv2; dead: a gradient of at most 1e-4 (the paper's code)",
        _SEEDS + "Share of dead parameters in each layer of BasicCNN, not of resnet50, in the last epochs "
        "of 100: more by the runs, and on average {} to {} times as many.".format(*measured.ABOUT_TEN)),
    "barlow_twins": (("barlow_twins",), rules.lower_curve,
        "Barlow Twins have a lower loss with orthogonal LARS than with LARS, all along.",
        f"the experiment with Barlow Twins: {_paper('barlow_twins')}",
        _SEEDS + "Training loss after each of ten epochs on CIFAR-10 with BasicCNN, not on ImageNet."),
    "svd_per_step": (("optim",), measured.per_step,
        "The SVD is paid per step, so small batches pay more for it.",
        "the experiment with mini-batch sizes",
        "For: a step with the SVD, in units of a step of SGD, costs less at each batch size than at the "
        "next smaller one. Timed on one machine, two networks."),
    "fast_factor": (("polar", "polar_gradients"), measured.fast,
        "A fast approximate orthogonaliser can take the SVD's place.",
        "the authors ask for one",
        "For: on Gaussian matrices of a network's shapes `fast` takes less time than an SVD of each and "
        "errs less than Muon's quintic, which is good enough for Muon; and on real gradients, early and "
        "late in training, it errs less in every layer (unclear: in some). Timed on one machine."),
    "rank_deficient": (("rank_budget",), measured.deficient,
        "The gradients of a mini-batch have fewer directions than their matrices (so that QR will not do).",
        "the choice of the SVD",
        "For: summed over all matrices of a ResNet-18 an eighth as wide, at its start, the mean over twenty "
        "batches is below what the shapes allow by more than the one direction that a softmax head lacks in "
        "any batch. At each batch size."),
}  # fmt: skip

_COURSE: _Group = {
    "ruler": (("lr_sweep",), rules.ruler,
        "Part of the lead at an equal learning rate is the length of the step: it shrinks where each has "
        "its best rate.",
        "lesson 00",
        _SEEDS + "Lead of orthogonal SGD in each seed at learning rate 0.01 for both, and with each at its "
        "best of four by mean test accuracy; BasicCNN, five epochs."),
    "equal_step": (("fair-equal_step",), rules.equal_step,
        "Where its steps are as long as those of SGD at its best rate, orthogonal SGD is ahead all the same.",
        "lesson 06",
        _SEEDS + "Test accuracy of BasicCNN after ten epochs."),
    "both_tuned": (("fair-both_tuned",), partial(rules.better, tuned=True),
        "Where both are tuned, orthogonal SGD is ahead all the same.",
        "lesson 06; the authors concede that SGDM with a vast amount of tuning still wins (see table2)",
        _SEEDS + "Test accuracy of BasicCNN after ten epochs, rates chosen on held-out images."),
    "schedule": (("fair-schedule",), partial(rules.better, tuned=True),
        "Where both are tuned and their rates fall to zero, orthogonal SGD is ahead all the same.",
        "lesson 06; all other runs here are at constant rates",
        _SEEDS + "Test accuracy of BasicCNN after ten epochs, rates chosen on held-out images."),
    "speedup_tuned": (("fair-both_tuned",), partial(rules.sooner, targets=(50, 60, 63)),
        "Where both are tuned, orthogonal SGD still reaches an accuracy sooner.",
        "lesson 06",
        _SEEDS + "Epochs, and seconds, until a run of BasicCNN first has 50, 60 and 63 % of the test images "
        "right."),
    "shape": (("controls",), partial(rules.ahead, pairs=_SHAPE),
        "It is the shape of the orthogonal step that helps, and not its length alone.",
        "lesson 06",
        _SEEDS + "Test accuracy of BasicCNN after three epochs, each at its best rate: the shape "
        "at the gradient's length (norm-matched) beats SGD, and orthogonal SGD beats the gradient at the "
        "factor's length (per tensor) and rows of equal length (per filter)."),
    "lifted": (_SPECTRA, partial(rules.ahead, pairs=_LIFTED),
        "At equal directions and lengths of the step, lifting the weak directions is what helps: the square "
        "root of the spectrum, or a random one, does better than the gradient's own.",
        "lesson 06",
        _SEEDS + "Test accuracy, each at its best rate: of BasicCNN on CIFAR-10 after three epochs, of a "
        "small network on digits after four."),
    "filters_best_rate": (
        ("filters",), partial(measured.less_alike, quantity="mean_abs_cosine", runs=(_SHORT_AT_BEST,)),
        "With each at its better rate, orthogonal SGD's filters are the less alike ones.",
        "lesson 04",
        _SEEDS + "Mean absolute cosine between the filters of each layer of BasicCNN after five epochs, at "
        "the better of two rates each, by test accuracy."),
    "maps_centred": (
        ("filters", "filters", _WATCHED),
        partial(measured.less_alike, quantity="centred_feature_cosine", runs=(_SHORT, _SHORT_AT_BEST, _LONG)),
        "With each map's mean taken off, feature maps are less alike with orthogonal SGD in every layer.",
        "lesson 04",
        _SEEDS + "Mean absolute cosine between centred maps of each layer of BasicCNN: after five epochs at "
        "equal rates and at the better of two, and after 100 at equal rates."),
    "nuclear_rank_long": (("theories",), partial(measured.nuclear, steps="200 steps"),
        "What the nuclear rank says of the first gradient (see nuclear_rank), it says of 200 steps too.",
        "lesson 10; the authors speak of one step",
        "As nuclear_rank, with the exact error after 200 steps, each at the best of four rates."),
    "null_directions": (_BATCHES, rules.null,
        "Null directions, which the paper's code keeps, are what makes orthogonal SGD collapse at batch 4.",
        "lesson 06",
        "For: the runs that keep them collapse at batch 4 (less than half of what SGD's worst run has over "
        "chance), and those that drop them do not. Against: both collapse. Where those that keep them do "
        "not collapse, there is no case."),
}  # fmt: skip

_SUCCESSORS: _Group = {
    "muon_order": (
        ("controls", "fair-both_tuned", "batch_size-basic_cnn"),
        partial(rules.better, first=rules.MUON, second=OURS, tuned=True),
        "Muon's order, momentum before the polar factor, does better than the paper's.",
        "Jordan and others 2024 (Muon)",
        _SEEDS + "Test accuracy of BasicCNN, each at its best rate: after three and after ten epochs on all "
        "images, and after one on 8,000 by batch size."),
    "muon": (
        ("controls", "fair-schedule"),
        partial(rules.better, first="muon", second=OURS, tuned=True),
        "Muon as people use it (Nesterov, decoupled decay, AdamW for the rest) does better than the paper's "
        "optimiser.",
        "Jordan and others 2024 (Muon)",
        _SEEDS + "Test accuracy of BasicCNN, each at its best rate: after three epochs at constant rates, "
        "after ten at rates that fall to zero."),
    "any_spectrum": (_SPECTRA, partial(rules.as_good, first="random_spectrum", second=OURS),
        "Any spectrum will do: with random singular values in place of equal ones, at the same length, the "
        "step is as good.",
        "arXiv 2605.11181, for language models and digits; here two convolutional networks",
        _MARGIN + "Test accuracy, each at its best rate: of BasicCNN on CIFAR-10 after three epochs, of a "
        "small network on digits after four."),
    "batch_lead": (("batch_size-basic_cnn",), partial(rules.lead_grows, sizes=(16, 1024)),
        "The lead of orthogonal steps grows with the batch.",
        "Shah and others 2025 (arXiv 2505.02222), of Muon against AdamW on language models; here orthogonal "
        "SGD against SGD",
        _SEEDS + "Lead in test accuracy of BasicCNN after one epoch on 8,000 images, at batch 1024 against "
        "at batch 16, each at its best of three rates."),
    "averages_first": (("theories",), measured.averages_first,
        "Momentum before the polar factor averages the noise before the non-linear map, so that the step "
        "keeps more of the signal.",
        "Kovalev 2025 (arXiv 2503.12645)",
        _SEEDS + "Gain along a signal in noise, and cosine with it, of the factor of the average and of the "
        "average of the factors, at each strength of the signal."),
    "no_momentum": (("successors",), rules.no_state,
        "With whitened and normalised gradients no momentum is needed: SWAN is as good as AdamW and Muon, "
        "or better.",
        "Ma and others 2024 (SWAN, arXiv 2412.13148)",
        _MARGIN + "Test accuracy of BasicCNN after three epochs, each at its best rate, "
        "against AdamW and against Muon's order with AdamW's scale."),
    "momentum_needed": (("successors",), partial(rules.ahead, pairs=(("adamw", "no_momentum"),)),
        "Without momentum, orthogonal steps are worse than AdamW.",
        "the records of modded-nanogpt (8,225 steps against 3,250)",
        _SEEDS + "Test accuracy of BasicCNN after three epochs, each at its best rate."),
    "feature_rank": (("features",), partial(measured.higher, quantities=("effective_rank",), first="muon"),
        "Muon's features have a higher effective rank than SGD's.",
        "arXiv 2606.09658",
        _SEEDS + "Effective rank of each layer's maps of 1,000 test images, centred, after five epochs of "
        "BasicCNN, each at its best rate after three."),
    "feature_robustness": (
        ("features",),
        partial(measured.higher, quantities=[f"kept at noise {sigma}" for sigma in (0.2, 0.4)], first="muon"),
        "Muon's features are more robust to noise than SGD's.",
        "arXiv 2606.09658",
        _SEEDS + "Share of the test accuracy that is left with normal noise on the images (0.2 and 0.4 of "
        "a channel's deviation), after five epochs of BasicCNN, each at its best rate after three."),
    "adamw_rate": (("successors",), rules.adamw_rate,
        "With its update scaled by 0.2 sqrt(max(m, n)), Muon can take AdamW's learning rate.",
        "Liu and others 2025 (Moonlight, arXiv 2502.16982)",
        _MARGIN + "Test accuracy of BasicCNN after three epochs at AdamW's best of four rates: as "
        "good as AdamW, as good as at its own best rate, and better than without the scale."),
    "nuclear_rank": (("theories",), partial(measured.nuclear, steps="one step"),
        "A spectral step lowers the loss more than a gradient step where the gradient's nuclear rank is at "
        "least the stable rank of the layer's inputs, and only there.",
        "Davis and Drusvyatskiy 2025 (arXiv 2512.04299)",
        "One linear layer, a noisy target of rank one, two batch sizes, five seeds. For: the test foretells "
        "in every run which step lowers the loss of the batch further. Against: in none. Otherwise unclear."),
}  # fmt: skip

_GROUPS = {"the paper": _PAPER, "this course": _COURSE, "its successors": _SUCCESSORS}
CLAIMS = {name: Claim(by, *claim) for by, claims in _GROUPS.items() for name, claim in claims.items()}
"""By name; the paper's, then this course's questions to it, then its successors'."""

"""What is refused: a call, what its message names, and its error where that is no ValueError.

Refusals that need files, a command line or a run in progress are tested beside what they guard.
"""

import math
from functools import partial

import pandas as pd
import pytest
import torch
from torch import nn

import orthoviz as ov
from orthoviz.datasets import DataError
from orthoviz.training import recipes
from orthoviz.verdicts import decision, lead
from tests.test_any_data import bowl, own_loader, plane
from tests.test_compare import BOTH, PAIRS, compared, runs
from tests.test_matrices import Odd
from tests.test_monitor import network, plain
from tests.test_translate import Signed, Still, with_gradients
from tests.test_view_cosine_film import cosines
from tests.views import spectra

M, W = ov.measures, ov.widgets
EYE, ROWS = torch.eye(2), {"layout": ("rows", 1)}
APPROXIMATE = [name for name in ov.polar.METHODS if name not in ("exact", "svd", "eigh")]
INF, NAN = torch.full((2, 2), math.inf), torch.full((8, 4), math.nan)


def parameters(count=1):
    return [nn.Parameter(torch.zeros(2, 2)) for _ in range(count)]


def orthogonal_sgd(model=None, **options):
    return ov.OrthogonalSGD(
        ov.param_groups(model or nn.Linear(3, 2)), **{"lr": 0.1, "momentum": 0.9} | options
    )


def orthogonalise(model=None, wrap=lambda optimizer: optimizer, **options):
    """Make SGD on a network orthogonal, told that ``model`` is its network."""
    own = network()
    ov.orthogonalise(wrap(torch.optim.SGD(own.parameters(), lr=0.1)), model or own, **options)


def accelerated(optimizer):
    return pytest.importorskip("accelerate").Accelerator(cpu=True).prepare(optimizer)


def aware_of_sharpness(optimizer):
    kind = pytest.importorskip("pytorch_optimizer").SAM
    return kind(optimizer.param_groups[0]["params"], base_optimizer=torch.optim.SGD, lr=0.1)


def ahead(optimizer):
    return pytest.importorskip("timm.optim").Lookahead(optimizer)


def fit(data):
    model = nn.Linear(5, 5)
    ov.training.fit(model, torch.optim.SGD(model.parameters(), lr=0.1), data, epochs=1, batch_size=30)


def overrides(**of):
    """Groups of a model with one layer of each kind; an underscore in a name is a point."""
    ov.param_groups(Odd(), overrides={name.replace("_", "."): wish for name, wish in of.items()})


def translate(lr=0.01, **options):
    given = {"of": "sgd", "to": "adamw", "model": with_gradients(nn.Linear(96, 64))} | options
    ov.optim.translate(lr, **given)


def watch(**options):
    ov.watch(**{"model": network()} | options)


EVERY = parameters()
REFUSALS = [
    # polar factors
    (lambda: ov.polar_factor(EYE.to(torch.complex64)), "complex64", TypeError),
    (lambda: ov.polar_factor(EYE.int()), "int32", TypeError),
    (lambda: ov.polar_factor(EYE.to_sparse()), "sparse", TypeError),
    (lambda: ov.polar_factor(EYE[0]), r"\(2,\)"),
    (lambda: ov.polar_factor([[1.0]]), "list", TypeError),
    (lambda: ov.polar_factor(EYE, "qr"), "method must be one of exact, fast, svd, eigh, newton_sch"),
    (lambda: ov.polar_factor(EYE, "per_tensor"), "method must be one of"),
    (lambda: ov.polar_factor(EYE, 1.0), r"got 1\.0", TypeError),
    (lambda: ov.polar_factor(EYE, null="maybe"), "null must be"),
    *((partial(ov.polar_factor, EYE, tol=tol), "tol must be") for tol in (-1.0, 1.0, math.nan)),
    *((partial(ov.polar_factor, EYE, m, tol=1e-3), "cannot cut directions") for m in APPROXIMATE),
    *((partial(ov.polar_factor, EYE, m, null="keep"), "cannot cut") for m in APPROXIMATE),
    (lambda: ov.polar.coefficients(0.0, 3), r"degree odd and at least 3.* got .*lower=0\.0"),
    (lambda: ov.polar.coefficients(1e-3, 0), "steps=0"),
    (lambda: ov.polar.coefficients(1e-3, 3, 4), "degree=4"),
    (lambda: ov.polar.coefficients(1e-3, 3, safety=0.9), r"safety=0\.9"),
    (lambda: ov.polar.coefficients(1e-3, 3, cushion=1.0), r"cushion=1\.0"),
    *((partial(ov.polar.zolotarev, *bad), "must be") for bad in ((0.0, 2), (1.0, 2), (0.1, 0))),
    (lambda: ov.polar.Rational(1e-4, 4), "take a larger lower"),
    (lambda: ov.polar.NewtonSchulz(()), "coefficients must be"),
    (lambda: ov.polar.NewtonSchulz(((1.0,),)), "coefficients must be"),
    (lambda: ov.polar.GramNewtonSchulz(ov.polar.CUBIC), "put a restart at step"),
    # layouts
    (lambda: ov.param_groups(nn.LazyLinear(3)), "run a batch through the model first"),
    (lambda: overrides(hed_weight="skip"), r"'hed\.weight' fits no parameter; there is, for example"),
    (lambda: overrides(conv_weight="leave"), "must be 'skip', 'matrix', 'columns', 'stack', 'norm"),
    (lambda: overrides(dense_weight="normalise"), "dense.weight of shape .* is no single row"),
    (lambda: overrides(dense_weight="stack"), r"dense.weight of shape \(4, 6\) is no stack"),
    (lambda: overrides(conv_weight={"split": 3}), "split must divide conv.weight's 8 rows, got 3"),
    (lambda: overrides(dense_weight={"split": 4}), "has no matrix"),
    (lambda: overrides(dense_weight={"split_heads": 3}), "split_heads must divide dense.* 4 rows, got 3"),
    (lambda: overrides(dense_weight={"split_heads": 0}), "split_heads must divide dense.* 4 rows, got 0"),
    (lambda: overrides(dense_weight={"split": 2, "split_heads": 2}), "must be 'skip'"),
    (lambda: overrides(transposed_weight={"split": 2}), "transposed"),
    # optimisers
    *((partial(orthogonal_sgd, **{option: "no"}), f"{option} must be True or False, got 'no'", TypeError)
      for option in ("nesterov", "decoupled", "maximize")),
    (lambda: ov.OrthogonalSGD(parameters(), lr=0.1, rest_lr=0.01), "param_groups"),
    (lambda: ov.OrthogonalSGD(2 * [{"params": EVERY, **ROWS}], lr=0.1), "more than one parameter group"),
    (lambda: orthogonal_sgd().add_param_group(parameters()), "must be a dict", TypeError),
    (lambda: orthogonal_sgd().add_param_group({"params": parameters()}),
     "no names, unlike those of the others: add each group of ov.param_groups"),
    *((partial(ov.LARS, parameters(), **{"lr": 1.0} | bad), "must be at least 0, got -1")
      for bad in ({"lr": -1.0}, {"momentum": -1.0}, {"trust_coefficient": -1.0})),
    (lambda: ov.orthogonalise(torch.optim.SGD, network()), "instance, got type", TypeError),
    (lambda: orthogonalise(network()), "8 of the optimiser's parameters are not the model's"),
    (lambda: orthogonalise(method="sideways"), "per_tensor, per_filter"),
    (lambda: orthogonalise(scale="sideways"), "scale"),
    (lambda: orthogonalise(method="fast", tol=0.1), "tol"),
    *((partial(orthogonalise, wrap=wrap), "before wrapping it")
      for wrap in (accelerated, aware_of_sharpness, ahead)),
    (lambda: translate(to="adam"), r"to must be make\(groups, lr\) or one of 'sgd', .* got 'adam'"),
    (lambda: translate(0.0), "lr must be above 0 and finite, got 0.0"),
    (lambda: translate(to=Still), "must move the matrices, got steps of length .* and 0"),
    (lambda: translate(to=Signed), "to must take steps in proportion to its rate, but at"),
    (lambda: translate(model=nn.Linear(3, 2)), r"call loss\.backward\(\) first"),
    (lambda: translate(model=with_gradients(nn.Linear(3, 2), math.inf)), "of weight holds NaN or inf"),
    # measures, and what is watched
    (lambda: M.random_cosine(1, 5), "m >= 2"),
    (lambda: M.feature_cosine(torch.ones(3, 4)), r"got shape \(3, 4\)"),
    (lambda: M.linear_cka(torch.ones(3, 2), torch.ones(4, 2)), "same samples"),
    (lambda: M.minibatch_cka([(torch.ones(3, 2), torch.ones(3, 2))]), "n >= 4"),
    (lambda: M.minibatch_cka([]), "no batch"),
    *((partial(pair, torch.ones(2, 3), torch.ones(3, 2)), r"of one shape, got \(2, 3\) and \(3, 2\)")
      for pair in (M.alignment, M.step_inflation, M.update_ratio, M.step_cosine)),
    (lambda: watch(every=0), "every must be at least 1, got 0"),
    (lambda: watch(quantities="all"), "'lecture', 'research', 'everything'"),
    (lambda: watch(quantities=["stable_ranks"]), "no quantity 'stable_ranks'; there is: stable_rank"),
    (lambda: watch(quantities=["raw.dead_units"]), r"no quantity 'raw\.dead_units'"),
    (lambda: watch(layers="conv*"), r"'conv\*' fits no matrix; there is, for example"),
    (lambda: watch(optimizer=plain(network())), "none of the model's parameters"),
    (lambda: watch(model=nn.LayerNorm(3)), "no weight matrix"),
    (lambda: ov.watch(network()).log(loss=torch.ones(2)), r"loss must be a single number, got shape \(2,\)"),
    (lambda: ov.watch(network(), quantities="research", probe=torch.ones(1)).log(stable_rank=1),
     "stable_rank is measured by the monitor"),
    # data, models, training
    (lambda: fit(7), "data must be a data set, .* got int", DataError),
    (lambda: fit((torch.zeros(3, 5), torch.zeros(3))), "data must be a data set", DataError),
    (lambda: fit(((torch.zeros(3, 5), torch.zeros(2)),) * 2), "equally many, got 3 and 2", DataError),
    (lambda: fit((plane(), plane(40))), "targets are numbers, not labels: give a loss, such as"),
    (lambda: ov.datasets.contact_sheet(ov.datasets.load("words")), "words has no images", DataError),
    (lambda: ov.datasets.load("digits", size=48), "digits's have their own", DataError),
    (lambda: ov.models.build("resnet"), "there is no model 'resnet'; there is: basic_cnn"),
    (lambda: ov.models.gpt(heads=3), "heads must divide width, got 3 and 128"),
    (lambda: recipes.recipe("tabel1/resnet20"), r"near it: .*table1/resnet20"),
    (lambda: ov.training.results("nothing"), "lr_sweep"),
    (lambda: ov.claims.table("nothing"), "there is no claim 'nothing'"),
    # comparisons that would not be fair
    (lambda: compared(protocol="fair"), "protocol must be 'equal_lr'"),
    (lambda: compared(minutes=1), "either epochs or minutes"),
    (lambda: compared(epochs=None), "either epochs or minutes"),
    (lambda: compared(seeds=0), "at least one seed"),
    (lambda: compared(seeds=[1, 1]), "each seed counts once"),
    (lambda: compared(lrs=(0.1, 0.1)), "each learning rate counts once"),
    (lambda: compared(optimizers={**BOTH, "SGD": BOTH["sgd"]}), "same label: SGD, orthogonal SGD, SGD"),
    (lambda: compared(lrs={"sgd": [0.1], "orthogonal_sgd": [0.1, 0.2]}), "same number of learning"),
    (lambda: compared(lrs={"sgd": [0.1]}), "orthogonal_sgd is in one"),
    (lambda: compared(lrs=PAIRS, grow=True), "grow=True extends a grid of one rate"),
    (lambda: compared(lrs=PAIRS, protocol="equal_step"), "one rate: give lrs without rest_lr"),
    (lambda: compared(lrs={"sgd": PAIRS, "orthogonal_sgd": [1, 2, 3, 4]}), "for every optimiser or for none"),
    (lambda: compared(lrs={name: {"lr": [1], "rest": [2]} for name in BOTH}), "has lr and rest_lr, got lr"),
    (lambda: compared(lrs={"lr": (0.1, 0.1), "rest_lr": 1.0}), "each learning rate counts once"),
    (lambda: compared(lrs=PAIRS, done=runs(a=[0.5])), "done must have rest_lr where it is tuned"),
    (lambda: compared(lrs=PAIRS, groups=lambda model: model.parameters()),
     "rest_lr needs a group with layout None"),
    (lambda: ov.training.compare_own(bowl, BOTH, seeds=[1, 1]), "each seed counts once"),
    (lambda: compared(data=(own_loader(), own_loader())),
     r"give three loaders, \(train, valid, test\)", DataError),
    (lambda: lead([0.6, 0.7], [0.7, 0.8, 0.9]), "equally many runs, at least one, got 2 and 3"),
    (lambda: decision([0.9, 0.8], [], 0.01), "equally many runs, at least one, got 2 and 0"),
    # views
    (lambda: W.theme("night"), "theme must be one of 'notebook', 'lecture'"),
    (lambda: W.newton_schulz(stepps=2), "stepps", TypeError),
    (lambda: W.newton_schulz(torch.ones(2, 3, 3)),
     r"matrix must be \(m, n\): .* take \.flatten\(1\), got shape \(2, 3, 3\)"),
    (lambda: W.dead_filters(torch.ones(3, 5)), r"4 to 64 rows: .*, got shape \(3, 5\)"),
    (lambda: W.dead_filters(torch.ones(8, 3, 3, 3)), "flatten"),
    (lambda: W.dead_filters(NAN), "NaN"),
    (lambda: W.dead_filters(torch.ones(5, 4).index_fill(0, torch.tensor(3), 0)), "gradient's row 3 is zero"),
    (lambda: W.filter_gallery(torch.eye(4, 3)[2:]), "at least two filters, of 64, that are not zero"),
    (lambda: W.filter_gallery(torch.eye(67)[:, 64:]), "two filters, of 64"),
    (lambda: W.filter_gallery(torch.ones(3)), r"two filters or more, got shape \(3,\)"),
    (lambda: W.filter_gallery(NAN), "weight holds NaN"),
    (lambda: W.flattening(torch.ones(4)), "2-D"),
    (lambda: W.flattening(torch.zeros(4, 4)), "zero"),
    (lambda: W.flattening(INF), "infinity"),
    (lambda: W.flattening(nn.ReLU()), "a weight of its own, got a ReLU"),
    (lambda: W.polar_lab([[1, 2]] * 3), r"shape \(3, 2\)"),
    (lambda: W.polar_lab([1, 2]), r"shape \(2,\)"),
    (lambda: W.polar_lab([[1], [2]]), r"shape \(2, 1\)"),
    (lambda: W.polar_lab([[1, math.nan], [1, 0]]), "NaN"),
    (lambda: W.polar_lab([[0, 0]] * 2), "is zero"),
    (lambda: W.polar_lab([[1, 0], [0, 0]]), "row of the matrix"),
    (lambda: W.loss_valley(step=33), r"step must be one of 0, 1, 2, .* 1000, got 33"),
    (lambda: W.step_size_lens(nn.Linear(3, 2)), r"call loss\.backward\(\) first"),
    (lambda: W.race(epochs=0), "epochs must be at least a step"),
    (lambda: W.race(model=lambda seed: nn.Sequential(nn.Flatten(), nn.Linear(64, 3))), "classes|logits"),
    (lambda: W.cosine_film(cosines("a").assign(quantity="rows")), "got neither"),
    (lambda: W.cosine_film(cosines("a").drop(columns="layer")), "needs a column layer"),
    (lambda: W.cosine_film(cosines("a"), what="feature maps"), "what must be one of 'filters', got "),
    (lambda: W.stage_spectra(pd.concat([spectra("a"), spectra("b")])), "data must be of one layer"),
    (lambda: W.stage_spectra(pd.concat([spectra("a")] * 2)), "and one run"),
    (lambda: W.stage_spectra(spectra("a").drop(columns="stage")), "needs a column stage"),
    (lambda: W.stage_spectra(spectra("a", stages=["momentum"])), '"singular_values" at the stage "raw"'),
    (lambda: W.stage_spectra(spectra("a"), step=7), "step must be one of 0, 1, 2, got 7"),
    (lambda: W.stage_spectra(spectra("a"), momentum=1.0), "momentum must be from 0 to 1"),
    (lambda: W.stage_spectra(spectra("a"), order="before"), "must be one of 'none', .*, got 'before'"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS, ids=[case[1] for case in REFUSALS])
def test_it_is_refused_with_a_message_that_names_what_is_wrong(case):
    call, words, error = (*case, ValueError)[:3]
    with pytest.raises(error, match=words):
        call()

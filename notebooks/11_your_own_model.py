# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 · Your own model
#
# After this lesson you will be able to
#
# - see what the step would do to a network of another kind, head by head;
# - write rule and budget down *before* an experiment, and keep to them after it;
# - decide at equal wall-clock time: adopt, stay, or "cannot tell".
#
# Time: 40 minutes with your own network, under a minute to run as it is.

# %%
import torch
from torch import nn

import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## A network that has never seen an image
#
# A row of letters and digits comes in, `c3 a1 f0`, then one of the letters again, `a`. The answer is the
# digit that stood behind it: 1. Who cannot look back can only guess one of the three digits, and is right in
# half of the cases (a digit may stand there twice). Who wants to know must find the letter, and look one
# place further.


# %%
def recall(count, seed, letters=8, digits=5, pairs=3):
    """Rows of tokens, and the digit that answers each: (count, 7) and (count,)."""
    draw = torch.Generator().manual_seed(seed)
    names = torch.rand(count, letters, generator=draw).argsort(1)[:, :pairs]
    values = torch.randint(digits, (count, pairs), generator=draw)
    asked = torch.randint(pairs, (count, 1), generator=draw)
    row = torch.stack([names, letters + values], 2).flatten(1)
    return torch.cat([row, names.gather(1, asked)], 1), values.gather(1, asked)[:, 0]


data = recall(2048, seed=0), recall(1024, seed=1)
tokens, answers = data[0]
print(*("abcdefgh01234"[token] for token in tokens[0]), "->", int(answers[0]))


# %%
class Recall(nn.Module):
    """Two layers of attention with four heads each, 32 wide."""

    def __init__(self):
        super().__init__()
        self.token, self.position = nn.Embedding(13, 32), nn.Embedding(7, 32)
        how = dict(dropout=0, activation="gelu", batch_first=True, norm_first=True)
        layer = nn.TransformerEncoderLayer(32, 4, 64, **how)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 5)

    def forward(self, tokens):
        return self.head(self.encoder(self.token(tokens) + self.position.weight)[:, -1])


# %%
def mine(seed):
    """A fresh network from a seed."""
    torch.manual_seed(seed)
    return Recall()


# %% [markdown]
# **Put yours in its place.** `mine(seed)` makes a network and sets the seed, so that all optimisers start
# from the same weights. `data` is two pairs of tensors, or DataLoaders, or a data set of this package. What
# the text says of results is about the network that stands here.
#
# First question: which of its parameters are matrices, and whose rows are they? A weight that makes queries,
# keys and values of four heads holds twelve matrices. An override says so.


# %%
def groups(model):
    """Each head's queries, keys and values a matrix of their own."""
    return ov.param_groups(model, overrides={"*in_proj_weight": {"split_heads": 4}})


groups(mine(0)).table()

# %% [markdown]
# ## The rule, before anything runs
#
# After a race everyone finds a reason. So write down **now** what it must be *worth* (orthogonal steps are
# one more thing to explain: how many points make you change?) and what it may *cost*. Then do not touch it
# again. "Cannot tell" is a result. So is "no": in this lesson it is a full-mark answer.

# %%
WORTH = 0.01  # accuracy: one point
EPOCHS, SEEDS = 10, 3  # of the faster optimiser; the slower one gets as many seconds

# %% [markdown]
# ### Exercise 1: the decision
#
# Runs with the same seed share weights and batches, so compare them pair by pair: most of the luck is in
# both, and drops out. Of $n$ leads with mean $m$ and standard deviation $s$ (`stdev`), the true lead lies
# within $m \pm T_n\, s / \sqrt n$ in 95 of 100 experiments like yours (Student, 1908). If all of that
# interval is **above** `worth`, adopt. If none of it is, stay. Otherwise, and from a single pair, you cannot
# tell.


# %% tags=["exercise"]

T = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}  # by the number of pairs


def decide(ours, theirs, worth):
    """ "adopt", "stay" or "cannot tell", from two lists of final accuracies in the order of their seeds."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("11.decide", decide)

# %% [markdown]
# ### Exercise 2: how easily chance decides
#
# A quicker rule: ours is better where it is ahead in every pair. Suppose that both are exactly equal, and
# what is left is luck. How probable is it that ours is ahead in all pairs of `seeds` seeds?


# %% tags=["exercise"]
def by_chance(seeds):
    """Probability of being ahead in each of `seeds` pairs, if both are equally good."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("11.chance", by_chance)

# %% [markdown]
# ### Exercise 3: equal seconds
#
# A step of ours takes `ours` milliseconds, theirs `theirs`. They trained for `epochs`. For how many **whole**
# epochs may ours train, so that it takes no longer?


# %% tags=["exercise"]
def epochs_for(epochs, ours, theirs):
    """Whole epochs of ours in the time of theirs."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("11.seconds", epochs_for)

# %% [markdown]
# ## Look at it first
#
# One short run with your **present** optimiser, watched. `report()` knows ten faults, from a loss that is not
# finite to an embedding that is orthogonalised. An empty report is a good sign, and no proof.

# %%
model = mine(0)
optimizer = torch.optim.AdamW(groups(model), lr=0.003)
with ov.watch(model, optimizer, every=8, quantities=["raw.effective_rank", "raw.singular_values"]) as monitor:
    ov.training.fit(model, optimizer, data, epochs=2, batch_size=128, monitor=monitor, progress=False)
monitor.report()

# %%
ranks = monitor.frame().query("quantity == 'effective_rank' and layer.str.contains('in_proj')")
parts = [("queries", "keys", "values")[i // 4] for i in ranks["index"]]
ranks = ranks.assign(part=parts, head=ranks["index"] % 4)
ranks.pivot_table(index=["layer", "part"], columns="head", values="value", observed=True).round(1)

# %% [markdown]
# Eight directions are possible in each head, and three to five carry its gradient: there is something to make
# equal. That is a promise about one step. A race is hundreds of them, paid in seconds.
#
# Which rate should ours start from? `translate` measures the rate at which another optimiser takes steps of
# the same length.

# %%
inputs, targets = data[0][0][:256], data[0][1][:256]
nn.functional.cross_entropy(model(inputs), targets).backward()
for name in ("orthogonal_sgd", "muon", "sgd"):
    rate = ov.optim.translate(0.003, of="adamw", to=name, model=model)
    print(f"{ov.optim.LABELS[name]} at {rate:.2g} takes steps as long as AdamW at 0.003")
RATES = {"adamw": (0.003, 0.01, 0.03), "orthogonal_sgd": (0.003, 0.01, 0.03)}

# %% [markdown]
# Now commit yourself. Each at its best of three rates, chosen on rows that are held out, and equally many
# seconds:

# %%
guess = ov.course.predict("points that orthogonal SGD is ahead", low=-60, high=60, unit="points")
guess

# %%
racers = {name: ov.optim.OPTIMIZERS[name] for name in RATES}
found = ov.training.compare(
    mine, data, racers, protocol="equal_seconds", groups=groups,
    lrs=RATES, epochs=EPOCHS, seeds=SEEDS, batch_size=128, progress=False,
)  # fmt: skip
ran = found.frame[found.frame.chosen]
last = ran.sort_values(["seed", "epoch"]).groupby(["optimizer", "seed"]).tail(1)
ends = last.groupby("optimizer").test_accuracy.agg(list)
ours, theirs = ends["orthogonal_sgd"], ends["adamw"]
guess.reveal(100 * sum(a - b for a, b in zip(ours, theirs, strict=True)) / SEEDS)

# %%
figure = ov.plots.compare(ran, x="seconds")
ov.course.picture(figure, f"{found.verdict}. Bands: the range of {SEEDS} seeds.")

# %% [markdown]
# Two looks can make a decision void. **Have both curves become flat?** If not, the budget decides, and not
# the method. **Does a chosen rate stand at the end of its grid?** Then its best may lie beyond.

# %%
flags = []
for name, rate in found.rates.items():
    late = ran[(ran.optimizer == name) & (ran.seconds > 0.75 * ran.seconds.max())].groupby("epoch")
    gained = 100 * late.test_accuracy.mean().diff().sum()
    if rate in (min(RATES[name]), max(RATES[name])):
        flags.append(f"{name} is at the end of its grid")
    if gained > 1:
        flags.append(f"{name} still gains")
    print(f"{ov.optim.LABELS[name]}: rate {rate:g}; {gained:+.1f} points in the last quarter of its time")

# %% [markdown]
# ## The decision
#
# By your rule, and by nothing else:

# %%
from orthoviz.verdicts import decision, lead

mean, low, high = (100 * value for value in lead(ours, theirs)[:3])
record = {
    "network": f"{sum(p.numel() for p in mine(0).parameters()):,} parameters",
    "rule": f"worth {WORTH:g} in the whole 95 % interval of pairs, equal seconds",
    "found": f"lead {mean:.1f} points, interval {low:.1f} to {high:.1f}. {found.verdict}",
    "decision": decision(ours, theirs, WORTH) + "".join(f"; but {flag}" for flag in flags),
    "with": f"orthoviz {ov.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads",
}
print("\n".join(f"{key}: {value}" for key, value in record.items()))

# %% [markdown]
# ## What you found
#
# - The step, the monitor and the comparison took a network, data and a table of heads that they had not met.
# - For half of their time both curves lie flat, at the accuracy of a guess. Then one run after the other
# finds the trick, and jumps. A race that ends earlier ends in a draw; one that ends later, too.
# - What you decided holds for this budget.
#
# ## Where this fails
#
# - **Seconds are this machine's.** Twelve small matrices a layer cost more than three; on a GPU both cost
# something else.
# - **The interval is a model of chance**: leads like those of a bell curve. Here they are all or nothing.
# - **Three rates a side** are few, and AdamW has more to tune than a rate. Whoever tunes one for a year and
# the other for a minute has measured that.
# - **Momentum, decay and schedule** are the course's, for both. `racers` is a dict of `make(groups, lr)`: put
# yours in.
#
# **Open question.** AdamW often stands at the guess when its time is over. Is it stuck, or slow? Give both
# twice the time (`EPOCHS = 20`), and write down beforehand what would change your mind.
#
# In lesson 00 orthogonal SGD ran ahead, and you asked what else was different. That question is the course.
# Would you use the step? Where, where not, and what would you measure first?

"""Technical English that every Python has: the texts of its help, by characters."""

import hashlib
import warnings
from functools import cache

import torch

from orthoviz.datasets.dataset import Dataset, Split

CONTEXT = 128
# Of the text of Python 3.11, whose results are stored.
_DIGEST = "71563fbcde6bf2a8"


@cache
def text() -> str:
    """The texts of ``pydoc_data.topics``, in the order of their names."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def characters() -> str:
    """The characters of the text, in order; a token is the place of its character in them."""
    return "".join(sorted(set(text())))


def words() -> Dataset:
    """The text in pieces of 128 characters; the target of each is the one that follows it.

    Nine tenths are to train on, the last tenth of the text to test on.

    Source: the documentation of Python (PSF licence), as ``pydoc_data.topics`` has it. Another Python has
    another text, and is used with a warning.
    """
    digest = hashlib.blake2b(text().encode(), digest_size=8).hexdigest()
    if digest != _DIGEST:
        warnings.warn(
            "this Python's texts differ from those of Python 3.11, whose results are stored", stacklevel=2
        )
    place = {character: i for i, character in enumerate(characters())}
    tokens = torch.tensor([place[character] for character in text()])
    count = (len(tokens) - 1) // CONTEXT
    inputs, targets = (tokens[i : i + count * CONTEXT].view(count, CONTEXT) for i in (0, 1))
    train = round(0.9 * count)
    first, last = (Split(inputs[part], targets[part]) for part in (slice(train), slice(train, None)))
    return Dataset("words", tuple(characters()), first, last, source=f"pydoc_data.topics, digest {digest}")

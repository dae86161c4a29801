"""A user's own data, of any kind: tensors, or DataLoaders."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from orthoviz.datasets.dataset import DataError, Dataset, Split
from orthoviz.seeds import small


class Loaders:
    """DataLoaders, for training and for testing, and in between perhaps one to choose by.

    Their batches are the loaders' own; torch's seed is set before each epoch, so that an epoch's order
    depends on it alone. A run that was stopped within an epoch passes over the batches that it has seen; only
    from the end of an epoch it goes on bit for bit.

    Raises:
        DataError: a loader has no length.
    """

    name, source = "DataLoader", "the user's DataLoaders"
    classes: tuple[str, ...] = ()

    def __init__(self, train: Any, *others: Any) -> None:
        self.train, self.test = train, others[-1]
        self.valid = others[0] if len(others) > 1 else None
        try:
            self.count, batches = len(train.dataset), len(train)
        except TypeError as error:
            raise DataError(f"A loader must have a length: {error}.") from None
        self.batch_size = train.batch_size or -(-self.count // batches)

    def steps(self, batch_size: int) -> int:
        """Batches in an epoch; their size is the loader's own."""
        return len(self.train)

    def example(self) -> tuple[Tensor, Tensor]:
        """The first example of the training set, as a batch of one."""
        inputs, targets = _pair(self.train.collate_fn([self.train.dataset[0]]), "cpu")
        return inputs, targets

    def splits(self) -> dict[str, Any]:
        """The loaders that there are, by name."""
        loaders = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: loader for name, loader in loaders.items() if loader is not None}

    def hold_out(self, count: int) -> "Loaders":
        """Loaders cannot be cut.

        Raises:
            DataError: always.
        """
        raise DataError(
            "Learning rates are chosen on data that are neither trained nor tested on: give three loaders, "
            "(train, valid, test)."
        )

    def checksum(self) -> str:
        """How many examples and batches there are: what they hold is not read."""
        return ", ".join(
            f"{name}: {len(loader.dataset)} in {len(loader)}" for name, loader in self.splits().items()
        )

    def to(self, device: torch.device | str) -> "Loaders":
        """Themselves: batches are moved one by one."""
        return self

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device | str = "cpu", start: int = 0,
        rank: int = 0, ranks: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """One epoch of the training loader's batches; ``start`` of them are passed over.

        Raises:
            DataError: there are several processes.
        """
        if ranks > 1:
            raise DataError("A DataLoader is for one process: give tensors or a data set.")
        torch.manual_seed(small(2**20 * seed + epoch))
        for i, batch in enumerate(self.train):
            if i >= start:
                yield _pair(batch, device)

    def in_order(self, split: Any, *, device: Any = "cpu", **_: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """All batches of a loader."""
        return (_pair(batch, device) for batch in split)


# What training takes.
Data = Dataset | Loaders


def _pair(batch: Any, device: torch.device | str) -> tuple[Tensor, Tensor]:
    try:
        inputs, targets = batch
    except (TypeError, ValueError):
        kind = type(batch).__name__
        raise DataError(f"A loader must give batches (inputs, targets), got {kind}.") from None
    return inputs.to(device), targets.to(device)


def as_data(given: Any) -> Data:
    """A data set as training takes it: one of this package, or made of what a user has.

    Args:
        given: a data set; ``((inputs, targets), (test_inputs, test_targets))``; or ``(loader, test_loader)``.
            A third in the middle is what learning rates are chosen on.

    Raises:
        DataError: it is none of these.
    """
    if hasattr(given, "batches"):
        return given  # type: ignore[no-any-return]
    if isinstance(given, (tuple, list)) and len(given) in (2, 3):
        if all(isinstance(part, DataLoader) or hasattr(part, "dataset") for part in given):
            return Loaders(*given)
        if all(isinstance(part, (tuple, list)) and len(part) == 2 for part in given):
            train, *middle, test = (_split(*part) for part in given)
            valid = middle[0] if middle else None
            return Dataset("tensors", (), train, test, source="the user's tensors", valid=valid)
    raise DataError(
        "data must be a data set, ((inputs, targets), (test_inputs, test_targets)) or (loader, test_loader), "
        f"got {type(given).__name__}"
    )


def _split(inputs: Any, targets: Any) -> Split:
    """Tensors of what was given, equally many."""
    split = Split(torch.as_tensor(inputs), torch.as_tensor(targets))
    if len(split.images) != len(split.labels) or not len(split.labels):
        raise DataError(
            f"Inputs and targets must be equally many, got {len(split.images)} and {len(split.labels)}."
        )
    return split

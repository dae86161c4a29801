"""Image sets for the lessons: one uint8 array a split, checked before anything is kept."""

from orthoviz.datasets.dataset import DataError, Dataset, Split, batches, in_order
from orthoviz.datasets.fetch import fetch
from orthoviz.datasets.folders import Folders, folders
from orthoviz.datasets.own import Data, Loaders, as_data
from orthoviz.datasets.sheet import contact_sheet
from orthoviz.datasets.store import add, available, load, location, remove

__all__ = [
    "Data", "DataError", "Dataset", "Folders", "Loaders", "Split", "add", "as_data", "available", "batches",
    "contact_sheet", "fetch", "folders", "in_order", "load", "location", "remove",
]  # fmt: skip

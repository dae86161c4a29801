"""Image sets for the lessons: one uint8 array a split, checked before anything is kept."""

from orthoviz.datasets.batches import batches, whole
from orthoviz.datasets.dataset import DataError, Dataset, Split, digits
from orthoviz.datasets.fetch import fetch
from orthoviz.datasets.folders import Files, Folders, folders
from orthoviz.datasets.sheet import contact_sheet
from orthoviz.datasets.store import add, available, load, location, remove

__all__ = [
    "DataError",
    "Dataset",
    "Files",
    "Folders",
    "Split",
    "add",
    "available",
    "batches",
    "contact_sheet",
    "digits",
    "fetch",
    "folders",
    "load",
    "location",
    "remove",
    "whole",
]

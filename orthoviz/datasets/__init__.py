"""Image sets for the lessons: one uint8 array a split, checked before anything is kept."""

from orthoviz.datasets.dataset import DataError, Dataset, Split, batches, digits, whole
from orthoviz.datasets.fetch import fetch
from orthoviz.datasets.folders import Folders, folders
from orthoviz.datasets.images import Files
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

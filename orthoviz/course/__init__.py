"""What the lessons are made of besides text: guesses, exercises with checks, a header."""

from orthoviz.lab import check_installed

check_installed("orthoviz.course", "ipywidgets")

from orthoviz.course.check import check, record, use
from orthoviz.course.header import header, mode
from orthoviz.course.picture import picture
from orthoviz.course.predict import predict
from orthoviz.course.tally import tally

__all__ = ["check", "header", "mode", "picture", "predict", "record", "tally", "use"]

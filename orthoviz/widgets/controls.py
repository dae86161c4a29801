"""What a view's arguments can be: values of a control, and the caller's own tensors."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import ipywidgets as w
import torch
from torch import Tensor

from orthoviz.widgets.look import current_theme

# The controls' values, by the names of the view's arguments.
State = dict[str, Any]


class Control(NamedTuple):
    """How an argument of a view is set by hand; made by :func:`slider`, :func:`buttons`, :func:`checkbox`.

    Attributes:
        options: what each value is called.
        more: whether the control stands under "more".
        play: whether a button plays the options one after the other.
        page: the values that a page without a kernel offers, beside the first. Default: all, or as many as
            there is room for.
    """

    kind: Callable[..., Any]
    label: Callable[[State], str]
    options: Mapping[Any, str]
    more: bool = False
    shown: Callable[[State], bool] = lambda state: True
    play: bool = False
    page: tuple[Any, ...] = ()

    def check(self, name: str, value: Any) -> Any:
        """The option that the value is.

        Raises:
            ValueError: it is none of them.
        """
        for option in self.options:
            if option == value:
                return option
        allowed = ", ".join(short(option, 1e-3) for option in self.options)
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")

    def widget(self, state: State, value: Any) -> Any:
        """The control, at this value."""
        if self.kind is w.ToggleButtons and len(self.options) > 8:  # a large model's layers
            return self._replace(kind=w.SelectionSlider).widget(state, value)
        label = self.label(state)
        if self.kind is w.Checkbox:
            return w.Checkbox(value, description=label, indent=False, layout=w.Layout(width="auto"))
        wide = "26em" if current_theme()[0] == "notebook" else "39em"
        layout = w.Layout(width=wide if self.kind is w.SelectionSlider else "auto", max_width="100%")
        style = {"description_width": "initial"}
        if self.kind is w.ToggleButtons:
            style["button_width"] = "auto"
        options = [(called, option) for option, called in self.options.items()]
        return self.kind(options=options, value=value, description=label, style=style, layout=layout)


def options(values: Iterable[Any]) -> Mapping[Any, str]:
    """Values with the words for them: a mapping as it is, of anything else each value as it is written."""
    if isinstance(values, Mapping):
        return values
    return {value: value if isinstance(value, str) else short(value, 1e-3) for value in values}


def _maker(kind: Callable[..., Any]) -> Callable[..., Control]:
    def make(label: Any, values: Iterable[Any] = (False, True), **more: Any) -> Control:
        return Control(kind, label if callable(label) else lambda _: label, options(values), **more)

    return make


slider, buttons, checkbox = map(_maker, (w.SelectionSlider, w.ToggleButtons, w.Checkbox))


def short(value: Any, least: float = 0.1) -> str:
    """A float as 1e3 or 3e-5, from ``least`` to 300 in full; other things as Python writes them."""
    if not isinstance(value, float):
        return repr(value)
    if value == 0 or least <= abs(value) <= 300:
        return f"{value:g}"
    mantissa, _, exponent = f"{value:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def own_tensor(name: str, value: Any, wanted: str, fits: Callable[[Tensor], bool]) -> Tensor:
    """The tensor, detached and on the CPU.

    Args:
        name: of the view's argument.
        value: what was given for it.
        wanted: the shape that the view needs, in words.
        fits: whether a tensor has it.

    Raises:
        ValueError: it has another shape, is not real floating point, is zero, or holds NaN or infinity.
    """
    tensor = torch.as_tensor(value).detach().cpu()
    if 0 in tensor.shape or not fits(tensor):
        raise ValueError(f"{name} must be {wanted}, got shape {tuple(tensor.shape)}")
    if not tensor.dtype.is_floating_point:
        raise ValueError(f"{name} must be real floating point, got {tensor.dtype}")
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} holds NaN or infinity")
    if not bool(tensor.any()):
        raise ValueError(f"{name} is zero: it has no directions")
    return tensor

"""What a view looks like on a page: themes, and pictures as HTML."""

import base64
import html

# A theme's width of a picture in CSS pixels (it shrinks where there is less room), and its type's scale. The
# last two are for pages without a kernel; "phone" has room for one panel.
THEMES = {"notebook": (900, 1.0), "lecture": (1100, 1.12), "page": (600, 1.0), "phone": (480, 1.0)}
_theme = "notebook"

_CSS = """<style>
.orthoviz-title{font-size:18px;font-weight:600;line-height:1.3;padding:4px 0}
.orthoviz-line{line-height:1.4}
.orthoviz-alert{color:var(--jp-error-color1,#B00020);white-space:pre-wrap}
.orthoviz-lecture .orthoviz-title{font-size:26px}
.orthoviz-lecture :is(.orthoviz-line,.widget-label,.widget-readout,.widget-button,.widget-toggle-button,
.widget-checkbox span,code){font-size:19px;line-height:1.35}
.orthoviz-lecture .widget-label{min-width:max-content}
.orthoviz-lecture :is(.widget-button,.widget-toggle-button,.widget-inline-hbox){height:auto;min-height:34px}
:is([data-jp-theme-light=false],.vscode-dark,[theme=dark]) .orthoviz-picture{
filter:invert(.93) hue-rotate(180deg)}
:is([data-jp-theme-light=false],.vscode-dark,[theme=dark]) .orthoviz-photo{
box-sizing:border-box;padding:8px;background:white}
</style>"""

# Notebook 7's shortcuts would take the arrow keys from a slider, unless it has this attribute
_KEEP_ARROWS = (
    "const view = this.closest('.orthoviz-view'); "
    "if (view &amp;&amp; !view.dataset.keys) { view.dataset.keys = 1; "
    "view.addEventListener('focusin', event => event.target.matches('.noUi-handle') &amp;&amp; "
    "event.target.setAttribute('data-lm-suppress-shortcuts', '')) }"
)


def theme(name: str = "notebook") -> None:
    """Choose how views look from now on; those that are open stay as they are.

    Args:
        name: "notebook", or "lecture" for a projector: large type, thick lines, high contrast.
    """
    global _theme
    if name not in THEMES:
        raise ValueError(f"theme must be one of {', '.join(map(repr, THEMES))}, got {name!r}")
    _theme = name


def current_theme() -> tuple[str, int]:
    """Name of the theme that new views take, and their width in CSS pixels."""
    return _theme, THEMES[_theme][0]


def img(data: bytes, text: str, *, photo: bool = False) -> str:
    """A picture with alternative text, as HTML that needs nothing else."""
    # decoding=sync: the new picture replaces the old one without a blank in between
    source, width = base64.b64encode(data).decode(), THEMES[_theme][0]
    return (
        f'{_CSS}<img class="orthoviz-{"photo" if photo else "picture"}" decoding="sync" '
        f'alt="{html.escape(text, quote=True)}" width="{width}" style="max-width:100%;height:auto" '
        f'src="data:image/png;base64,{source}" onload="{_KEEP_ARROWS}">'
    )


def caption_picture(data: bytes, text: str, *, title: str = "", photo: bool = False) -> str:
    """A picture with the same line as its alternative text and below it, and its title above."""
    above = f"<strong>{html.escape(title)}</strong><br>" if title else ""
    caption = f"<figcaption>{html.escape(text)}</figcaption>"
    return f'<figure style="margin:0">{above}{img(data, text, photo=photo)}{caption}</figure>'

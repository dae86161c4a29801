"""Draw the moving picture that opens the README and lesson 00: python site/hero.py

Two rows of the course's matrix G = U S V^T go to U V^T by way of U S^p V^T, with the ellipse that they span:
there in 0.6 seconds, a rest, and back. It is ``notebooks/hero.gif``, which is copied with the lessons.
"""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from orthoviz.plots import INK, ORTHOGONAL, PALE
from orthoviz.widgets.polar_lab import G

PAPER = "#FBFAF7"
FRAMES, MOVE, BACK = 20, 30, 20  # frames of a move, milliseconds a frame
REST, END = 1500, 2600  # milliseconds before and after it


def draw(p: float) -> Image.Image:
    """The rows of U S^p V^T, 800 x 400 pixels."""
    U, s, Vh = np.linalg.svd(np.array(G))
    rows = U @ np.diag(s**p) @ Vh
    turn = np.linspace(0, 2 * np.pi, 181)
    ellipse = np.stack([np.cos(turn), np.sin(turn)], 1) @ rows
    figure = Figure(figsize=(8, 4), dpi=100, facecolor=PAPER)
    ax = figure.add_axes((0.02, 0, 0.58, 1), xlim=(-2.3, 2.3), ylim=(-1.98, 1.98), aspect="equal")
    ax.axis("off")
    ax.plot(np.cos(turn), np.sin(turn), color=PALE, lw=1.2, ls=":")
    ax.fill(*ellipse.T, color=ORTHOGONAL, alpha=0.1, lw=0)
    ax.plot(*ellipse.T, color=ORTHOGONAL, lw=1.8, alpha=0.6)
    for row in rows:
        look = dict(arrowstyle="-|>", color=ORTHOGONAL, lw=6, shrinkA=0, shrinkB=0, mutation_scale=30)
        ax.annotate("", row, (0, 0), arrowprops=look)
    first, second = np.arctan2(rows[:, 1], rows[:, 0])
    arc = np.linspace(first, second, 40)
    ax.plot(0.55 * np.cos(arc), 0.55 * np.sin(arc), color=INK, lw=2)
    angle = np.degrees(second - first)
    figure.text(0.64, 0.62, f"{angle:.0f}°", fontsize=64, color=INK, va="center", weight="bold")
    figure.text(0.64, 0.43, "between two filters", fontsize=19, color=INK, va="center")
    says = "the gradient" if p == 1 else "the orthogonal step" if p == 0 else ""
    figure.text(0.64, 0.33, says, fontsize=15, color="#666666", va="center")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def main() -> None:
    way = (1 - np.cos(np.linspace(0, np.pi, FRAMES + 1))) / 2  # slow, fast, slow
    there = [draw(1 - part) for part in way]
    frames = there + there[-2:0:-1]
    times = [REST, *[MOVE] * (FRAMES - 1), END, *[BACK] * (FRAMES - 1)]
    path = Path(__file__).parents[1] / "notebooks" / "hero.gif"
    few = [frame.quantize(48, dither=Image.Dither.NONE) for frame in frames]
    few[0].save(path, save_all=True, append_images=few[1:], duration=times, loop=0)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

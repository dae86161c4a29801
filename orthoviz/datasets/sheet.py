"""A look at a data set: some images of every class on one page."""

import torch
from PIL import Image, ImageDraw, ImageFont

from orthoviz.datasets.dataset import Dataset


def contact_sheet(data: Dataset, per_class: int = 10, classes: int = 20) -> Image.Image:
    """The first training images of each class (of the first ``classes``), a row a class.

    Small images are enlarged to at least 48 pixels.
    """
    _, height, width = data.shape
    zoom = max(1, -(-48 // min(height, width)))
    cell_w, cell_h, gap = width * zoom, height * zoom, 4
    font = ImageFont.load_default(size=14)
    shown = data.classes[:classes]
    label_w = 12 + int(max(font.getlength(name) for name in shown))
    page_w, page_h = label_w + per_class * (cell_w + gap) + gap, len(shown) * (cell_h + gap) + gap
    page = Image.new("RGB", (page_w, page_h), "white")
    draw = ImageDraw.Draw(page)
    for row, name in enumerate(shown):
        top = gap + row * (cell_h + gap)
        draw.text((6, top + cell_h // 2), name, fill="black", font=font, anchor="lm")
        members = torch.nonzero(data.train.labels == row)[:per_class, 0]
        for column, index in enumerate(members.tolist()):
            pixels = data.train.images[index].permute(1, 2, 0).numpy()
            tile = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0]).convert("RGB")
            tile = tile.resize((cell_w, cell_h), Image.Resampling.NEAREST)
            page.paste(tile, (label_w + gap + column * (cell_w + gap), top))
    return page

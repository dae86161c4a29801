"""A look at a data set: some images of every class on one page."""

import torch
from PIL import Image, ImageDraw, ImageFont

from orthoviz.datasets.dataset import DataError, Dataset


def contact_sheet(data: Dataset, per_class: int = 10, classes: int = 20) -> Image.Image:
    """The first training images of each class (of the first ``classes``), a row a class.

    Small images are enlarged to at least 48 pixels.

    Raises:
        DataError: the data are no images.
    """
    if not getattr(data, "mean", ()):
        raise DataError(f"{data.name} has no images to show")
    _, height, width = data.shape
    zoom = max(1, -(-48 // min(height, width)))
    cell_w, cell_h, gap = width * zoom, height * zoom, 4
    font = ImageFont.load_default(size=14)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    shown = data.classes[:classes]
    label_w = 12 + int(max(font.getlength(name) for name in shown))
    page_w, page_h = label_w + per_class * (cell_w + gap) + gap, len(shown) * (cell_h + gap) + gap
    page = Image.new("RGB", (page_w, page_h), "white")
    draw = ImageDraw.Draw(page)
    for row, name in enumerate(shown):
        top = gap + row * (cell_h + gap)
        draw.text((6, top + cell_h // 2), name, fill="black", font=font, anchor="lm")
        members = torch.nonzero(data.train.labels == row)[:per_class, 0]
        images = [image for batch, _ in data.in_order(data.train.some(members)) for image in batch]
        for column, image in enumerate(images):
            pixels = (255 * (image * std + mean)).round().byte().expand(3, -1, -1)
            tile = Image.fromarray(pixels.permute(1, 2, 0).numpy())
            tile = tile.resize((cell_w, cell_h), Image.Resampling.NEAREST)
            page.paste(tile, (label_w + gap + column * (cell_w + gap), top))
    return page

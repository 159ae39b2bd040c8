"""Renders the sprite sheet from an emoji font: `python -m data_pipeline.world.make_sprites FONT.ttf`.

Run once by the maintainers; the sheet it writes (assets/sprites/objects.png, RGBA, one row of square cells in the
order of `OBJECTS`) is what everything else reads, so nobody needs the font.
"""

import sys

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_pipeline.world.sprites import CELL, SHEET
from data_pipeline.world.vocabulary import OBJECTS

GLYPH_SIZE = 109  # the only size of Noto Color Emoji's bitmaps


def main(font_path: str) -> None:
    font = ImageFont.truetype(font_path, GLYPH_SIZE)
    sheet = np.zeros((CELL, CELL * len(OBJECTS), 4), np.uint8)
    for i, glyph in enumerate(OBJECTS.values()):
        canvas = Image.new("RGBA", (160, 160))
        ImageDraw.Draw(canvas).text((10, 10), glyph, font=font, embedded_color=True)
        box = canvas.getbbox()
        if box is None:
            raise SystemExit(f"the font has no glyph for {glyph!r}")
        glyph_pixels = np.asarray(canvas.crop(box), np.float32)
        glyph_pixels[..., :3] *= glyph_pixels[..., 3:] / 255  # premultiplied, so that resizing has no dark rims
        h, w = glyph_pixels.shape[:2]
        scale = (CELL - 4) / max(h, w)
        small = cv2.resize(glyph_pixels, (round(w * scale), round(h * scale)), interpolation=cv2.INTER_AREA)
        y, x = (CELL - small.shape[0]) // 2, i * CELL + (CELL - small.shape[1]) // 2
        sheet[y : y + small.shape[0], x : x + small.shape[1]] = small.round().astype(np.uint8)
    SHEET.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(SHEET, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])

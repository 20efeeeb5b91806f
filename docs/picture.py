"""A picture for these pages from what a finished run has to show.

python docs/picture.py RUN docs/pictures/NAME.png [WORDS …]

joins the pictures of RUN/exhibit.json, or those whose caption contains one of the words, one under the other, each
enlarged by a whole number so that a pixel stays a pixel.
"""

import base64
import io
import json
import sys
from pathlib import Path

from PIL import Image

WIDTH, GAP = 640, 12


def picture(run: Path, words: list[str]) -> Image.Image:
    """Return the pictures of a run, one under the other."""
    entries = [entry for entry in json.loads((run / "exhibit.json").read_text()) if "picture" in entry]
    entries = [entry for entry in entries if not words or any(word in entry["name"] for word in words)]
    decoded = [Image.open(io.BytesIO(base64.b64decode(entry["picture"].partition(",")[2]))) for entry in entries]
    times = [max(1, WIDTH // one.width) for one in decoded]
    times = [min(times)] * len(times)  # one scale for all of them
    shown = [one.convert("RGB").resize((one.width * n, one.height * n), Image.Resampling.NEAREST)
             for one, n in zip(decoded, times, strict=True)]  # fmt: skip
    whole = Image.new("RGB", (max(one.width for one in shown), sum(one.height + GAP for one in shown) - GAP), "white")
    top = 0
    for one in shown:
        whole.paste(one, (0, top))
        top += one.height + GAP
    return whole.quantize(64)


if __name__ == "__main__":
    picture(Path(sys.argv[1]), sys.argv[3:]).save(sys.argv[2], optimize=True)

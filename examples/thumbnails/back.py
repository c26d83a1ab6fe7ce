"""Makes thumbnails. A file that is not a picture, or is damaged, causes a ValueError; the worker keeps running."""

from __future__ import annotations

import io
import os
import time
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

import mob

stats = mob.require("stats")

EDGE = 320
"""Longest edge of a thumbnail, in pixels."""
Image.MAX_IMAGE_PIXELS = 50_000_000
warnings.simplefilter("error", Image.DecompressionBombWarning)  # a small file may claim to be a huge picture

LIGHT = (np.linspace(0, 1, 256) ** 2.2).astype("f4")
"""Amount of light for each value of a pixel."""


@dataclass
class Thumbnail:
    image: bytes
    size: tuple[int, int]
    size_before: tuple[int, int]
    seconds: float
    worker: str


@mob.export(concurrency=1, idempotent=True)  # if a worker crashes, another one repeats the call
async def thumbnail(data: bytes, progress: Callable[[float, str], Awaitable[None]]) -> Thumbnail:
    """Return a smaller picture. `progress` is a function of the caller, which gets the share done and the next step.

    Awaiting it sends the progress at once, and lets this worker send its heartbeat.
    """
    began = time.perf_counter()
    try:
        await progress(0.1, "decoding")
        picture = decoded(data)
        bands: list[Image.Image] = []
        for number, band in enumerate(picture.split()):
            await progress(0.4 + 0.15 * number, "shrinking")
            bands.append(shrunk(band))
        await progress(0.9, "encoding")
    except ValueError:
        stats.refuse()
        raise
    small = Image.merge("RGB", bands)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=82)
    seconds = time.perf_counter() - began
    stats.add(len(data), file.tell(), seconds)
    return Thumbnail(file.getvalue(), small.size, picture.size, seconds, f"back.{mob.me().index} ({os.getpid()})")


def decoded(data: bytes) -> Image.Image:
    """Return the picture, upright, on white. `ValueError` if there is none."""
    try:
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGBA")
    except UnidentifiedImageError:
        raise ValueError("This is not a picture, or its format is not supported.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"The picture has more than {Image.MAX_IMAGE_PIXELS // 10**6} million pixels.") from None
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"The picture is incomplete or damaged ({error}).") from None
    paper = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(paper, picture).convert("RGB")


def shrunk(band: Image.Image) -> Image.Image:
    """Return one color channel, smaller. It averages light, not pixel values, else fine patterns become too dark."""
    light = Image.fromarray(LIGHT[np.asarray(band)])
    light.thumbnail((EDGE, EDGE), Image.Resampling.LANCZOS)
    values = np.clip(np.asarray(light), 0, 1) ** (1 / 2.2)
    return Image.fromarray(np.rint(values * 255).astype("u1"))

"""Images of the page, as PNG data URIs: augmented pairs, and queries with their neighbours."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from components.report import analysis
from components.report.content import Drift, Embeddings, UnusualImage, Views

# Larger pictures make the page heavy and are shown at this size anyhow.
MAX_SIDE_PX = 96
MAX_PAIRS = 8
QUERIES = 8
NEIGHBOURS = 6
# Precision is a mean over this many queries at most, of which the standard error is under 1.6 points.
PRECISION_QUERIES = 1000


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image with its key and class; `right` says whether the class is the query's."""

    data_uri: str
    key: str
    class_name: str
    right: bool = True


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Queries with their nearest images, and how often a neighbour shares the query's class."""

    strips: tuple[tuple[Picture, tuple[Picture, ...]], ...]
    precision: float
    n_precision_queries: int


def png_data_uri(image: np.ndarray) -> str:
    """Encodes a uint8 [height, width, 3] image, made smaller where a side exceeds MAX_SIDE_PX."""
    picture = Image.fromarray(image)
    if max(picture.size) > MAX_SIDE_PX:
        picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def view_pairs(views: Views) -> list[tuple[str, str, str]]:
    """The first MAX_PAIRS originals with their two views, as data URIs."""
    shown = [images[:MAX_PAIRS] for images in (views.original, views.view_a, views.view_b)]
    return [tuple(png_data_uri(image) for image in triple) for triple in zip(*shown, strict=True)]


def unusual_images(drift: Drift | None) -> list[tuple[UnusualImage, str]]:
    """The most unusual of the new images, each with its data URI; none where drift was not looked for."""
    shown = []
    for image in drift.unusual if drift else ():
        with Image.open(io.BytesIO(image.picture), formats=["PNG"]) as picture:
            shown.append((image, png_data_uri(np.asarray(picture.convert("RGB")))))
    return shown


def neighbour_strips(embeddings: Embeddings, *, seed: int) -> Neighbours | None:
    """Finds the neighbours of some test images in the test set; None where there are fewer than two images."""
    if len(embeddings.h) < 2:
        return None
    labels = embeddings.label_index
    sample = np.random.default_rng(seed).permutation(len(labels))[:PRECISION_QUERIES]
    nearest = analysis.nearest_neighbours(embeddings.h, sample, NEIGHBOURS)
    queries = analysis.choose_queries(labels, QUERIES, seed=seed)
    strips = []
    for query, others in zip(queries, analysis.nearest_neighbours(embeddings.h, queries, NEIGHBOURS), strict=True):
        found = tuple(_picture(embeddings, other, right=labels[other] == labels[query]) for other in others)
        strips.append((_picture(embeddings, query, right=True), found))
    return Neighbours(
        strips=tuple(strips),
        precision=float((labels[nearest] == labels[sample][:, None]).mean()),
        n_precision_queries=len(sample),
    )


def _picture(embeddings: Embeddings, row: int, *, right: bool) -> Picture:
    return Picture(
        data_uri=png_data_uri(embeddings.images[row]),
        key=embeddings.keys[row],
        class_name=embeddings.classes[embeddings.label_index[row]],
        right=bool(right),
    )

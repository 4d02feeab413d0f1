"""Tables of scores made by hand or drawn, for what measures them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unmask.evaluate.table import Meta, Scores, texts
from unmask.types import OperatingPoint

POINT = OperatingPoint("fpr5", 0.6, 0.4, source="validation part of x", n_real=40)
META = Meta(
    detector="tiny",
    detector_sha256="cd" * 32,
    operating_point=POINT,
    data_sha256="ab" * 32,
    versions={"unmask": "0.1.0"},
)


def table(
    label: Sequence[int],
    p_fake: Sequence[float],
    *,
    dataset: Sequence[str] | str = "a",
    generator: Sequence[str] | str = "",
    video: Sequence[str] | str = "",
    group: Sequence[str] | None = None,
    status: Sequence[str] | None = None,
    meta: Meta = META,
    **extra: np.ndarray,
) -> Scores:
    """A table of these items; NaN was not scored. Each is a group of its own unless told."""
    count = len(label)
    p = np.asarray(p_fake, np.float64)
    source = [f"in/{number}/f.png" for number in range(count)]
    found = ["ok" if np.isfinite(each) else "no_face" for each in p]
    with np.errstate(divide="ignore"):
        logit = np.log(p / (1 - p))

    def column(value: Sequence[str] | str) -> np.ndarray:
        return texts([value] * count if isinstance(value, str) else value)

    return Scores(
        source=texts(source),
        dataset=column(dataset),
        generator=column(generator),
        group=texts(group if group is not None else [f"g{each}" for each in source]),
        video=column(video),
        split=column("val"),
        label=np.asarray(label, np.int8),
        status=texts(status or found),
        p_fake=p,
        logit=logit,
        reasons=texts(["" if each == "ok" else each for each in found]),
        messages=texts(["" if each == "ok" else "no face was found" for each in found]),
        sha256=texts([f"{number:064x}" for number in range(count)]),
        elapsed_ms=np.full(count, 5.0),
        extra=extra,
        meta=meta,
    )


def drawn(
    count: int = 60, *, dataset: str = "a", distance: float = 2.0, seed: int = 0
) -> tuple[list[int], list[float]]:
    """Labels (half of them fake) and P(fake) of one data set."""
    generator = np.random.default_rng([seed, *dataset.encode()])
    labels = np.arange(count) % 2
    logits = generator.normal((labels - 0.5) * distance)
    return labels.tolist(), (1 / (1 + np.exp(-logits))).tolist()


def several(*datasets: str, count: int = 60, seed: int = 0) -> Scores:
    """A table of drawn data sets."""
    parts = [drawn(count, dataset=name, seed=seed) for name in datasets]
    return table(
        [each for labels, _ in parts for each in labels],
        [each for _, p_fake in parts for each in p_fake],
        dataset=[name for name in datasets for _ in range(count)],
    )

"""MesoNet as a detector of this package: the peer of the benchmark page.

Meso-4 and MesoInception-4 (Afchar, Nozick, Yamagishi and Echizen, MesoNet: a Compact Facial Video
Forgery Detection Network, WIFS 2018), written anew for torch. Their weights are read from the
Keras files of the authors (``Meso4_DF.h5``, ``MesoInception_DF.h5``; Apache-2.0), which hold no
description of the network, only layers with names.

What is not in the files follows the authors' published classifier:

- input: RGB, 256 x 256, 0..1, nothing subtracted;
- every convolution keeps the size of the picture and is followed by ReLU;
- batch normalisation with Keras' epsilon of 1e-3; leaky ReLU of slope 0.1 between the two last
  layers; dropout does nothing when it is used;
- polarity: classes were numbered by name, ``df`` before ``real``, so the sigmoid of the output is
  P(real). The logit here is its negative.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmask.errors import IncompatibleWeights, MissingSource
from unmask.models.configuration import DetectorSpec, HeadSpec
from unmask.models.detector import Detector
from unmask.models.weights import file_sha256
from unmask.preprocess import Preprocess
from unmask.types import DetectorRef, FaceSpec

__all__ = ["FILES", "Meso4", "MesoInception4", "load_mesonet"]

FILES = {"Meso4": "Meso4_DF.h5", "MesoInception4": "MesoInception_DF.h5"}
SIDE = 256
_EPSILON = 1e-3
_SLOPE = 0.1
_FLAT = 8 * 8 * 16
Layer = dict[str, Tensor]


def same(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size of the picture, as Keras' ``same`` does for odd kernels."""
    return nn.Conv2d(inputs, outputs, kernel, padding="same", dilation=dilation)


class Inception(nn.Module):
    """Four branches side by side: 1x1 alone, then 1x1 before a 3x3 that is 1, 2 and 3 apart."""

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        first, *others = widths
        self.alone = same(inputs, first, 1)
        self.before = nn.ModuleList(same(inputs, width, 1) for width in others)
        self.after = nn.ModuleList(
            same(width, width, 3, dilation) for dilation, width in enumerate(others, start=1)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        branches = [F.relu(self.alone(pixels))]
        for before, after in zip(self.before, self.after, strict=True):
            branches.append(F.relu(after(F.relu(before(pixels)))))
        return torch.cat(branches, dim=1)

    def convolutions(self) -> list[nn.Conv2d]:
        """In the order in which the authors' network makes them, which their names count."""
        pairs = zip(self.before, self.after, strict=True)
        return [self.alone, *(each for pair in pairs for each in pair)]  # type: ignore[list-item]


class Meso(nn.Module):
    """Four blocks of convolution and pooling, then two linear layers."""

    def __init__(
        self, blocks: Sequence[nn.Module], widths: Sequence[int], spec: DetectorSpec
    ) -> None:
        super().__init__()
        self.spec = spec
        self.blocks = nn.ModuleList(blocks)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, eps=_EPSILON) for width in widths)
        self.hidden, self.output = nn.Linear(_FLAT, 16), nn.Linear(16, 1)

    @property
    def head(self) -> nn.Module:
        """Its last layer, by the name that a detector's model has for it."""
        return self.output

    def logit(self, pixels: Tensor) -> Tensor:
        """``(B,)``, positive = fake, of pictures ``(B, 3, 256, 256)`` in 0..1."""
        values = pixels
        for block, norm, pool in zip(self.blocks, self.norms, (2, 2, 2, 4), strict=True):
            values = F.relu(block(values)) if isinstance(block, nn.Conv2d) else block(values)
            values = F.max_pool2d(norm(values), pool)
        flat = values.permute(0, 2, 3, 1).flatten(1)  # Keras has the channels last
        return -self.output(F.leaky_relu(self.hidden(flat), _SLOPE))[:, 0]

    def convolutions(self) -> list[nn.Conv2d]:
        """In the order of their numbers in the file."""
        found: list[nn.Conv2d] = []
        for block in self.blocks:
            found += block.convolutions() if isinstance(block, Inception) else [block]  # type: ignore[list-item]
        return found


class Meso4(Meso):
    """Four plain convolutions."""

    def __init__(self, spec: DetectorSpec) -> None:
        blocks = [same(3, 8, 3), same(8, 8, 5), same(8, 16, 5), same(16, 16, 5)]
        super().__init__(blocks, (8, 8, 16, 16), spec)


class MesoInception4(Meso):
    """Two blocks of four branches, then two plain convolutions."""

    def __init__(self, spec: DetectorSpec) -> None:
        blocks = [
            Inception(3, (1, 4, 4, 2)),
            Inception(11, (2, 4, 4, 2)),
            same(12, 16, 5),
            same(16, 16, 5),
        ]
        super().__init__(blocks, (11, 12, 16, 16), spec)


def load_mesonet(folder: Path, name: str, face: FaceSpec) -> Detector:
    """One of :data:`FILES` as a detector on the CPU, in float32.

    Args:
        folder: Holds the authors' files.
        name: ``Meso4`` or ``MesoInception4``.
        face: How the face is cut; its size should be 256.

    Raises:
        MissingSource: no such file.
        IncompatibleWeights: the file is not that of this network.
    """
    path = folder / FILES[name]
    if not path.is_file():
        raise MissingSource(f"{path}: no such file; expected the weights of {name} (--mesonet DIR)")
    preprocess = Preprocess(SIDE, SIDE, "squash", "bilinear", (0.0,) * 3, (1.0,) * 3)
    spec = DetectorSpec(
        backbone_config={"model_type": "mesonet"},
        features=("flat",),
        head=HeadSpec(),
        preprocess=preprocess,
        domain="face",
        face=face,
        license="apache-2.0",
    )
    model = {"Meso4": Meso4, "MesoInception4": MesoInception4}[name](spec)
    fill(model, read_layers(path), path.name)
    model.eval().requires_grad_(False)
    ref = DetectorRef(name, file_sha256(path), trained=True)
    return Detector(
        model,  # type: ignore[arg-type]  # what a detector asks of a model is there
        spec.to_config(),
        preprocess,
        ref,
        torch.device("cpu"),
        torch.float32,
    )


def read_layers(path: Path) -> dict[str, list[Layer]]:
    """Kind of layer (``conv2d``, ``dense``, ...) to its layers, in the order of their numbers."""
    found: dict[str, dict[int, Layer]] = {}
    with h5py.File(path) as file:
        for layer in file.values():
            for name in layer.attrs.get("weight_names", ()):
                kind, number, weight = parts_of(name.decode())
                value = torch.from_numpy(np.asarray(layer[name], np.float32))
                found.setdefault(kind, {}).setdefault(number, {})[weight] = value
    return {kind: [layers[number] for number in sorted(layers)] for kind, layers in found.items()}


def parts_of(name: str) -> tuple[str, int, str]:
    """Kind and number of the layer, and the weight's name.

    >>> parts_of("conv2d_5/kernel:0")
    ('conv2d', 5, 'kernel')
    """
    found = re.fullmatch(r"(\w+)_(\d+)/(\w+):0", name)
    if found is None:
        raise IncompatibleWeights(f"the weight {name!r} is not named as Keras names it")
    return found[1], int(found[2]), found[3]


def fill(model: Meso, layers: Mapping[str, Sequence[Layer]], name: str) -> None:
    """Put the layers of a file into the network; every weight must be there and fit."""
    places = {
        "conv2d": model.convolutions(),
        "batch_normalization": list(model.norms),
        "dense": [model.hidden, model.output],
    }
    counts = {kind: len(found) for kind, found in layers.items()}
    expected = {kind: len(modules) for kind, modules in places.items()}
    if counts != expected:
        raise IncompatibleWeights(f"{name} has the layers {counts}; {expected} were expected")
    for kind, modules in places.items():
        for module, layer in zip(modules, layers[kind], strict=True):
            state = {**module.state_dict(), **state_of(kind, layer)}
            try:
                module.load_state_dict(state)
            except RuntimeError as error:
                raise IncompatibleWeights(
                    f"{name}: a layer {kind} does not fit: {error}"
                ) from error


def state_of(kind: str, layer: Layer) -> Layer:
    """Keras' names and axes as torch's."""
    if kind == "conv2d":
        return {"weight": layer["kernel"].permute(3, 2, 0, 1), "bias": layer["bias"]}
    if kind == "dense":
        return {"weight": layer["kernel"].T, "bias": layer["bias"]}
    return {
        "weight": layer["gamma"],
        "bias": layer["beta"],
        "running_mean": layer["moving_mean"],
        "running_var": layer["moving_variance"],
    }

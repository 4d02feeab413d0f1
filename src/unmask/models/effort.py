"""The SVD residual of Effort: linear layers whose smallest singular directions are trained.

``W = W_main + U diag(S) Vh``: ``W_main`` holds the largest singular triples and is frozen, the
others are trained and merged back into one weight in the end. See ``docs/effort.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from torch import Tensor, nn

from unmask.errors import ConfigError, CorruptWeights, IncompatibleWeights, near_names
from unmask.models.residual import RESIDUAL, SVDResidualLinear, exchanged, split

__all__ = [
    "RESIDUAL",
    "Progress",
    "SVDResidualLinear",
    "Targets",
    "adapter_parameters",
    "adapter_state",
    "apply_state",
    "attach",
    "detach",
    "merge",
    "residual_layers",
    "split",
    "target_layers",
]

Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
"""Told what is done and how many times; gives a function to call after each."""
Targets = str | Sequence[str]
"""``attention``, ``mlp`` or ``all``, or the ends of layer names, such as ``q_proj``."""


def target_layers(tower: nn.Module, targets: Targets = "attention") -> list[str]:
    """The names of a tower's linear layers that ``targets`` means.

    ``attention`` are the projections of every attention, ``mlp`` the other layers of the blocks,
    ``all`` both; pooling heads belong to neither. The out-projection of torch's own
    ``MultiheadAttention`` is never among them: its weight is read without calling the layer.

    Raises:
        ConfigError: If an end of a name fits no linear layer.
        IncompatibleWeights: If the tower has no layers of that kind.
    """
    # Exactly nn.Linear, for the reason above.
    linear = [name for name, module in tower.named_modules() if type(module) is nn.Linear]
    if targets in ("attention", "mlp", "all"):
        names = [name for name in linear if _kind_of(name) and targets in (_kind_of(name), "all")]
        if not names:
            where = {"attention": "attention", "mlp": "MLPs", "all": "blocks"}[str(targets)]
            raise IncompatibleWeights(
                f"{type(tower).__name__} has no linear layers in its {where} to attach to"
            )
        return names
    ends = (targets,) if isinstance(targets, str) else tuple(targets)
    for end in ends:
        if not any(_ends_with(name, end) for name in linear):
            leaves = {name.rpartition(".")[2] for name in linear}
            known = near_names(end, leaves | {"attention", "mlp", "all"})
            raise ConfigError(
                f"no linear layer of {type(tower).__name__} has a name that ends with {end!r}. "
                f"{known}"
            )
    return [name for name in linear if any(_ends_with(name, end) for end in ends)]


def attach(
    tower: nn.Module,
    *,
    keep: int | float = -1,
    targets: Targets = "attention",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Split layers of a tower in place; their names. Everything but the residuals is frozen.

    A fresh split changes no output. An error leaves the tower as it was.

    Args:
        tower: A vision tower.
        keep: How many singular triples stay frozen in a layer of width n (the smaller side of its
            weight). A whole number is that many, and counts from n where negative: -1 is n - 1,
            as in the paper, so that one triple is trained. A fraction between 0 and 1 is of n.
        targets: Which layers, see :func:`target_layers`.
        cache: A folder of singular triples computed earlier, see
            :func:`unmask.models.svd.default_cache`; ``None`` computes them.
        progress: Told about every layer.

    Raises:
        ConfigError: If a layer would be left with nothing to train, or nothing frozen; if
            ``keep`` or ``targets`` is not understood; if the tower is split already.
        CorruptWeights: If a weight is not finite.
        IncompatibleWeights: If the tower has none of the targeted layers.
    """
    if residual_layers(tower):
        raise ConfigError("the tower is split already; merge or detach it first")
    names = target_layers(tower, targets)
    found: dict[str, SVDResidualLinear] = {}
    with _progress(progress, "Splitting layers", len(names)) as advance:
        for name in names:
            linear = _plain_layer(tower, name)
            with _naming(name):
                found[name] = split(linear, _kept(keep, min(linear.weight.shape)), cache=cache)
            advance()
    tower.requires_grad_(False)
    _replace_all(tower, found)
    return names


def residual_layers(tower: nn.Module) -> dict[str, SVDResidualLinear]:
    """The layers that are split, by name."""
    return {
        name: module
        for name, module in tower.named_modules()
        if isinstance(module, SVDResidualLinear)
    }


def merge(tower: nn.Module) -> list[str]:
    """Put plain layers of the same effect in place of split ones; their names.

    Raises:
        CorruptWeights: If a weight is not finite; nothing is replaced then.
    """
    return _replace_all(tower, _plain_layers(tower, SVDResidualLinear.merged))


def detach(tower: nn.Module) -> list[str]:
    """Put the layers that were split back in place, as they were; their names.

    What was trained is lost, see :func:`adapter_state`.

    Raises:
        IncompatibleWeights: If a layer was not split by :func:`attach`, or its frozen part was
            changed since; nothing is replaced then.
    """
    return _replace_all(tower, _plain_layers(tower, SVDResidualLinear.original))


def adapter_parameters(tower: nn.Module, head: nn.Module | None = None) -> dict[str, nn.Parameter]:
    """Exactly what trains, by name: the residuals of the tower, then the head as ``head.*``."""
    parameters = {
        f"{name}.{part}": layer.get_parameter(part)
        for name, layer in residual_layers(tower).items()
        for part in RESIDUAL
    }
    if head is not None:
        parameters |= {f"head.{name}": value for name, value in head.named_parameters()}
    return parameters


def adapter_state(tower: nn.Module) -> dict[str, Tensor]:
    """Copies of the residuals, by ``<layer>.U_residual``, ``.S_residual`` and ``.V_residual``."""
    return {name: value.detach().clone() for name, value in adapter_parameters(tower).items()}


def apply_state(
    tower: nn.Module, state: Mapping[str, Tensor], *, cache: Path | None = None
) -> list[str]:
    """Merge trained residuals into the plain tower they began from; the names of the layers.

    ``W - U0 diag(S0) Vh0 + U diag(S) Vh``, computed in float64, with the k smallest triples of
    ``W`` itself as U0, S0 and Vh0.

    Args:
        tower: Plain, with the weights that were split; that they are the same ones is for the
            caller to know.
        state: As :func:`adapter_state` gives it.
        cache: As of :func:`attach`.

    Raises:
        CorruptWeights: If a residual, or a weight of the tower, is not finite.
        IncompatibleWeights: If a key or a shape does not fit the tower, or a key is missing.
            Nothing is changed by an error.
    """
    weights: dict[str, Tensor] = {}
    for name, parts in _by_layer(state).items():
        weight = _plain_layer(tower, name).weight.detach()
        with _naming(name):
            weights[name] = exchanged(weight, *parts, cache=cache)
    for name, weight in weights.items():
        linear = _plain_layer(tower, name)
        linear.weight = nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
    return list(weights)


def _kind_of(name: str) -> str:
    """``attention`` or ``mlp``; empty outside both."""
    parents = name.split(".")[:-1]
    if any("self_attn" in part or "attention" in part for part in parents):
        return "attention"
    return "mlp" if any(part.isdecimal() for part in parents) else ""


def _ends_with(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _kept(keep: int | float, n: int) -> int:
    if isinstance(keep, int):
        return n + keep if keep < 0 else keep
    if not 0 < keep < 1:
        raise ConfigError(
            f"keep is {keep}; expected a fraction between 0 and 1, or a whole number such as -1"
        )
    return round(n * keep)


def _plain_layers(
    tower: nn.Module, make: Callable[[SVDResidualLinear], nn.Linear]
) -> dict[str, nn.Linear]:
    layers: dict[str, nn.Linear] = {}
    for name, layer in residual_layers(tower).items():
        with _naming(name):
            layers[name] = make(layer)
    return layers


@contextmanager
def _naming(layer: str) -> Iterator[None]:
    """Put the layer's name before what is said about it."""
    try:
        yield
    except (ConfigError, CorruptWeights, IncompatibleWeights) as error:
        raise type(error)(f"{layer}: {error}") from error


def _plain_layer(tower: nn.Module, name: str) -> nn.Linear:
    try:
        module = tower.get_submodule(name)
    except AttributeError:
        module = None
    if type(module) is not nn.Linear:
        raise IncompatibleWeights(
            f"the adapter has a residual for {name}, which "
            f"{'is missing' if module is None else f'is a {type(module).__name__}'} in "
            f"{type(tower).__name__}; give it the plain tower it was made on"
        )
    return module


def _by_layer(state: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        name, _, part = key.rpartition(".")
        if part not in RESIDUAL or not name:
            raise IncompatibleWeights(
                f"{key!r} is no part of a residual; expected <layer>.{', <layer>.'.join(RESIDUAL)}"
            )
        parts.setdefault(name, {})[part] = value
    for name, found in parts.items():
        absent = [part for part in RESIDUAL if part not in found]
        if absent:
            raise IncompatibleWeights(f"the residual of {name} lacks {', '.join(absent)}")
    return {
        name: (found["U_residual"], found["S_residual"], found["V_residual"])
        for name, found in parts.items()
    }


def _replace_all(tower: nn.Module, layers: Mapping[str, nn.Module]) -> list[str]:
    for name, layer in layers.items():
        parent, _, leaf = name.rpartition(".")
        layer.train(tower.get_submodule(name).training)
        setattr(tower.get_submodule(parent), leaf, layer)
    return list(layers)


def _progress(
    progress: Progress | None, what: str, total: int
) -> AbstractContextManager[Callable[[], None]]:
    return nullcontext(lambda: None) if progress is None else progress(what, total)

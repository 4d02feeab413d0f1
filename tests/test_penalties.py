"""Penalties: what the published ones gave, what they mean, and where they come to rest."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from unmask.errors import ConfigError, IncompatibleWeights
from unmask.models.backbone import load_backbone
from unmask.models.effort import attach, merge, residual_layers, split
from unmask.models.penalties import (
    Original,
    effective_rank,
    kept_singular_values,
    originals,
    orthogonality,
    residual_orthogonality,
    summed_singular_values,
)
from unmask.models.residual import SVDResidualLinear

FIXTURES = Path(__file__).parent / "fixtures" / "effort"
RECORDED = json.loads((FIXTURES / "recorded.json").read_text())
NAMES = list(RECORDED["perturbed"]["modules"])

Start = dict[str, Original]


@pytest.fixture
def tower() -> nn.Module:
    """Split as the recorded one was, one triple of 64 trained."""
    tower = load_backbone(FIXTURES / "tiny_clip", ("pooler",))
    attach(tower, keep=63)
    return tower


@pytest.fixture
def start(tower: nn.Module) -> Start:
    return originals(tower)


@pytest.fixture
def perturbed(tower: nn.Module, start: Start) -> nn.Module:
    """The tower with the recorded disturbance of its residuals."""
    recorded = load_file(FIXTURES / "B_released_layout.safetensors")
    tower.load_state_dict(
        {
            key.removeprefix("backbone."): value
            for key, value in recorded.items()
            if key.startswith("backbone.")
        },
        strict=True,
    )
    return tower


def float_of(penalty: Tensor) -> float:
    return float(penalty.detach())


def only(tower: nn.Module, name: str) -> nn.Module:
    """A tower of this one layer."""
    return nn.ModuleDict({"layer": tower.get_submodule(name)})


def of(start: Start, name: str) -> Start:
    return {"layer": start[name]}


def random_split(out: int, width: int, kept: int) -> nn.Module:
    torch.manual_seed(3)
    return nn.ModuleDict({"layer": split(nn.Linear(width, out).double(), kept)})


def disturb(tower: nn.Module) -> None:
    with torch.no_grad():
        for one in tower.parameters():
            if one.requires_grad:
                one += 0.1 * torch.randn_like(one)


@pytest.mark.parametrize("name", NAMES)
def test_orthogonality_is_the_recorded_one(name: str, perturbed: nn.Module, start: Start) -> None:
    ours = orthogonality(only(perturbed, name), of(start, name))
    recorded = RECORDED["perturbed"]["modules_float64"][name]["orth"]
    assert float_of(ours) == pytest.approx(recorded, abs=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_kept_singular_values_are_the_recorded_ones(
    name: str, perturbed: nn.Module, start: Start
) -> None:
    ours = kept_singular_values(only(perturbed, name), of(start, name))
    recorded = RECORDED["perturbed"]["modules_float64"][name]["keepsv"]
    # The recorded W_main comes from a float32 SVD, so W_main + L0 is not quite the weight: their
    # squared norms, the recorded difference included, differ by up to 4e-5 (float64, these files).
    assert float_of(ours) == pytest.approx(recorded, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_residual_orthogonality_is_the_recorded_one(name: str, perturbed: nn.Module) -> None:
    recorded = RECORDED["perturbed"]["scl_residual_only_orth"][name]
    assert float_of(residual_orthogonality(only(perturbed, name))) == pytest.approx(
        recorded, abs=2e-6
    )


@pytest.mark.parametrize("name", NAMES)
def test_residual_orthogonality_starts_at_the_recorded_value(name: str, tower: nn.Module) -> None:
    recorded = RECORDED["start"]["residual_orthogonality"][name]
    assert float_of(residual_orthogonality(only(tower, name))) == pytest.approx(recorded, abs=2e-6)


def test_the_first_published_sum_is_the_mean_over_layers(
    perturbed: nn.Module, start: Start
) -> None:
    ours = orthogonality(perturbed, start) + kept_singular_values(perturbed, start)
    recorded = RECORDED["perturbed"]["regulariser_yzy_commented_lambda1_mean"]
    # As above, for the kept singular values.
    assert float_of(ours) == pytest.approx(recorded, abs=3e-5)


def test_the_second_published_sum_is_that_over_layers(perturbed: nn.Module) -> None:
    recorded = RECORDED["perturbed"]["regulariser_scl_commented_lambda0.1_sum"]
    assert float_of(0.1 * residual_orthogonality(perturbed)) == pytest.approx(recorded, abs=1e-5)


def test_summed_singular_values_are_the_recorded_ones(tower: nn.Module) -> None:
    recorded = RECORDED["start"]["summed_singular_values"]
    assert float_of(summed_singular_values(tower)) == pytest.approx(recorded, abs=1e-5)


def test_d23_summing_changes_no_weight(tower: nn.Module) -> None:
    # D23: the published function adds into the first weight of each shape.
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    summed_singular_values(tower).backward()
    assert all(torch.equal(value, before[key]) for key, value in tower.state_dict().items())


def test_summed_singular_values_add_up_over_shapes() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 5)]
    tower = nn.ModuleList(split(layer, 4) for layer in layers)
    weights = [layer.weight.detach() for layer in layers]
    expected = -sum(
        float(torch.linalg.svdvals(each).mean()) for each in (weights[0] + weights[1], weights[2])
    )
    assert float_of(summed_singular_values(tower)) == pytest.approx(expected, abs=1e-6)


def test_penalties_that_compare_begin_at_nothing(tower: nn.Module, start: Start) -> None:
    assert float_of(orthogonality(tower, start)) < 1e-6
    assert float_of(kept_singular_values(tower, start)) == 0


def test_at_the_start_their_gradients_are_finite(tower: nn.Module, start: Start) -> None:
    (orthogonality(tower, start) + kept_singular_values(tower, start)).backward()
    layer = next(iter(residual_layers(tower).values()))
    assert torch.isfinite(layer.U_residual.grad).all()
    assert torch.isfinite(layer.V_residual.grad).all()


@pytest.mark.parametrize("kept", [11, 6])
def test_orthogonality_is_that_of_all_directions(kept: int) -> None:
    tower = random_split(12, 12, kept)
    start = originals(tower)
    main = tower.get_submodule("layer").weight_main.detach()
    U, _, Vh = torch.linalg.svd(main)
    disturb(tower)
    layer = tower.get_submodule("layer")
    all_U = torch.cat([U[:, :kept], layer.U_residual], dim=1)
    all_V = torch.cat([Vh[:kept], layer.V_residual])
    eye = torch.eye(12, dtype=torch.float64)
    expected = ((all_U @ all_U.T - eye).norm() + (all_V @ all_V.T - eye).norm()) / 2
    torch.testing.assert_close(orthogonality(tower, start), expected, atol=1e-12, rtol=0)
    ours = torch.autograd.grad(orthogonality(tower, start), layer.U_residual)[0]
    theirs = torch.autograd.grad(expected, layer.U_residual)[0]
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", [(20, 12), (12, 20)])
def test_orthogonality_of_a_weight_that_is_not_square_is_that_of_its_columns(
    shape: tuple[int, int],
) -> None:
    tower = random_split(*shape, 9)
    start = originals(tower)
    assert float_of(orthogonality(tower, start)) < 1e-12
    layer = tower.get_submodule("layer")
    U, _, Vh = torch.linalg.svd(layer.weight_main.detach(), full_matrices=False)
    disturb(tower)
    all_U = torch.cat([U[:, :9], layer.U_residual], dim=1)
    all_V = torch.cat([Vh[:9], layer.V_residual])
    eye = torch.eye(12, dtype=torch.float64)
    expected = ((all_U.T @ all_U - eye).norm() + (all_V @ all_V.T - eye).norm()) / 2
    torch.testing.assert_close(orthogonality(tower, start), expected, atol=1e-12, rtol=0)


def test_kept_singular_values_are_the_change_of_the_squared_norm() -> None:
    tower = random_split(10, 14, 7)
    start = originals(tower)
    layer = tower.get_submodule("layer")
    before = layer.merged().weight.square().sum()
    disturb(tower)
    expected = (layer.merged().weight.square().sum() - before).abs()
    ours = kept_singular_values(tower, start)
    torch.testing.assert_close(ours.detach(), expected, atol=1e-12, rtol=0)


def test_d26_the_minimum_of_residual_orthogonality_is_not_nothing() -> None:
    # D26: a tall U cannot have U U' = I; the least is sqrt(out - k), where it is orthonormal.
    tower = random_split(16, 16, 15)
    least = 0.5 * 15**0.5
    assert float_of(residual_orthogonality(tower)) == pytest.approx(least, abs=1e-12)
    disturb(tower)
    assert float_of(residual_orthogonality(tower)) > least


def test_residual_orthogonality_is_its_formula() -> None:
    tower = random_split(10, 14, 7)
    disturb(tower)
    layer = tower.get_submodule("layer")
    U, V = layer.U_residual, layer.V_residual
    eye = torch.eye(10, dtype=torch.float64)
    expected = ((U @ U.T - eye).norm() + (V @ V.T - eye[:3, :3]).norm()) / 2
    torch.testing.assert_close(residual_orthogonality(tower), expected, atol=1e-12, rtol=0)


def test_effective_rank_of_equal_singular_values_is_the_width() -> None:
    linear = nn.Linear(6, 6, bias=False)
    linear.weight = nn.Parameter(3 * torch.linalg.qr(torch.randn(6, 6)).Q)
    tower = nn.ModuleDict({"layer": split(linear, 5)})
    assert float_of(effective_rank(tower)) == pytest.approx(6, abs=1e-4)


def test_effective_rank_is_the_exponential_of_the_entropy() -> None:
    linear = nn.Linear(3, 3, bias=False)
    linear.weight = nn.Parameter(torch.diag(torch.tensor([2.0, 1.0, 1.0])))
    tower = nn.ModuleDict({"layer": split(linear, 2)})
    # p = 1/2, 1/4, 1/4: H = 1.5 ln 2
    assert float_of(effective_rank(tower)) == pytest.approx(2**1.5, abs=1e-5)


def test_a_gradient_of_every_penalty_reaches_the_residuals(
    perturbed: nn.Module, start: Start
) -> None:
    layer = next(iter(residual_layers(perturbed).values()))
    for penalty in (
        orthogonality(perturbed, start),
        kept_singular_values(perturbed, start),
        residual_orthogonality(perturbed),
        summed_singular_values(perturbed),
        effective_rank(perturbed),
    ):
        gradient = torch.autograd.grad(penalty, layer.U_residual)[0]
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 0


def test_originals_may_be_made_while_training(tower: nn.Module, start: Start) -> None:
    disturb(tower)
    later = originals(tower)
    assert all(torch.equal(later[name].U, start[name].U) for name in start)
    assert float_of(orthogonality(tower, later)) > 0.01


def test_originals_take_little_more_than_the_smallest_triples(start: Start) -> None:
    # D25: the published layer keeps all kept directions a second time.
    one = start[NAMES[0]]
    assert (one.U.shape, one.S.shape, one.Vh.shape) == ((64, 1), (1,), (1, 64))
    assert one.left is None
    assert one.right is None


def test_a_layer_of_a_published_file_has_no_original() -> None:
    parts = (torch.eye(4), torch.ones(4, 1), torch.ones(1), torch.ones(1, 4))
    tower = nn.ModuleDict({"layer": SVDResidualLinear(*parts)})
    with pytest.raises(IncompatibleWeights, match="layer: the layer was not split here"):
        originals(tower)


def test_a_tower_that_is_not_split_has_no_penalty(tower: nn.Module, start: Start) -> None:
    merge(tower)
    for penalty in (residual_orthogonality, summed_singular_values, effective_rank, originals):
        with pytest.raises(ConfigError, match=r"no split layers.*attach to it first"):
            penalty(tower)


def test_originals_of_other_layers_are_refused(tower: nn.Module, start: Start) -> None:
    del start[NAMES[0]]
    for penalty in (orthogonality, kept_singular_values):
        with pytest.raises(ConfigError, match="originals are of other layers than are split"):
            penalty(tower, start)


def test_half_precision_keeps_its_type() -> None:
    tower = nn.ModuleDict({"layer": split(nn.Linear(8, 8).bfloat16(), 7)})
    value: Tensor = orthogonality(tower, originals(tower))
    assert value.dtype == torch.bfloat16

"""The smallest singular triples: right, precise, and kept on disk without being believed."""

import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from unmask.errors import ConfigError, CorruptWeights
from unmask.models import svd
from unmask.models.svd import Triples, default_cache, smallest_triples

WIDE = 256  # the smallest at which only the needed triples are computed


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Steps of microseconds in several threads wait for each other where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def orthonormal(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(rows, columns, generator=generator, dtype=torch.float64)).Q


def matrix(singular_values: Tensor, rows: int = 0, columns: int = 0) -> Tensor:
    n = len(singular_values)
    return (orthonormal(rows or n, n, 1) * singular_values) @ orthonormal(columns or n, n, 2).mT


def towards_zero(n: int) -> Tensor:
    """As in trained attention: a few large values, then an almost straight line to 0."""
    line = 0.6 * (1 - (torch.arange(n, dtype=torch.float64) + 0.5) / n)
    line[:8] += torch.linspace(2.5, 0.3, 8, dtype=torch.float64)
    return line


def full(weight: Tensor, k: int) -> Tensor:
    """The product of the k smallest triples of a full SVD in float64."""
    U, S, Vh = torch.linalg.svd(weight.double(), full_matrices=False)
    return (U[:, -k:] * S[-k:]) @ Vh[-k:]


def product(triples: Triples) -> Tensor:
    return (triples.U * triples.S) @ triples.Vh


@pytest.fixture
def no_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a full SVD was computed")

    monkeypatch.setattr(svd, "_full", refuse)


@pytest.mark.parametrize("k", [1, 4, 8, 9, 40])
@pytest.mark.usefixtures("no_full")
def test_they_are_those_of_a_full_svd_without_computing_one(k: int) -> None:
    weight = matrix(towards_zero(WIDE)).float()
    found = smallest_triples(weight, k)
    # Reached is about 1e-15; ending as soon as the residual is small would leave 3e-13.
    assert (product(found) - full(weight, k)).abs().max() < 1e-13 * found.S[0]
    torch.testing.assert_close(
        found.S, torch.linalg.svdvals(weight.double())[-k:], atol=1e-14, rtol=0
    )


@pytest.mark.parametrize("kind", ["towards zero", "even", "singular"])
@pytest.mark.parametrize("k", [1, 12, 100])
def test_the_residual_is_below_the_stated_bound(kind: str, k: int) -> None:
    values = torch.linspace(1, 0.5, WIDE, dtype=torch.float64)
    if kind != "even":
        values = towards_zero(WIDE)
    if kind == "singular":
        values[-2:] = 0
    weight = matrix(values)
    found = smallest_triples(weight, k)
    right = weight @ found.Vh.mT - found.U * found.S
    left = weight.mT @ found.U - found.Vh.mT * found.S
    bound = WIDE * 2.0**-52 * weight.norm()
    assert max(right.norm(dim=0).max(), left.norm(dim=0).max()) < bound


@pytest.mark.usefixtures("no_full")
def test_they_are_more_precise_than_a_full_svd_in_single_precision() -> None:
    weight = matrix(towards_zero(WIDE)).float()
    U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
    single = ((U[:, -1:] * S[-1:]) @ Vh[-1:]).double()
    truth = full(weight, 1)
    ours = (product(smallest_triples(weight, 1)) - truth).abs().max()
    assert ours < 1e-6 * (single - truth).abs().max()


@pytest.mark.parametrize("shape", [(300, WIDE), (WIDE, 300)])
@pytest.mark.usefixtures("no_full")
def test_a_weight_need_not_be_square(shape: tuple[int, int]) -> None:
    weight = matrix(towards_zero(WIDE), *shape)
    found = smallest_triples(weight, 2)
    assert (found.U.shape, found.S.shape, found.Vh.shape) == (
        (shape[0], 2), (2,), (2, shape[1])
    )  # fmt: skip
    assert (product(found) - full(weight, 2)).abs().max() < 1e-13


@pytest.mark.usefixtures("no_full")
def test_a_nearly_equal_pair_is_told_apart() -> None:
    values = towards_zero(WIDE)
    values[-1] = values[-2] * (1 - 1e-6)
    weight = matrix(values)
    found = smallest_triples(weight, 1)
    exact = values[-1] * orthonormal(WIDE, WIDE, 1)[:, -1:] @ orthonormal(WIDE, WIDE, 2)[:, -1:].mT
    # The pair is 1e-9 apart and the weight rounded at 1e-16, so no method can do better than 1e-7.
    assert (product(found) - exact).abs().max() / values[-1] < 1e-6
    both = smallest_triples(weight, 2)
    assert (product(both) - full(weight, 2)).abs().max() < 1e-13


@pytest.mark.usefixtures("no_full")
def test_values_that_do_not_fall_towards_zero_are_found_by_way_of_the_gram_matrix() -> None:
    weight = matrix(torch.linspace(1, 0.9, WIDE, dtype=torch.float64))
    found = smallest_triples(weight, 3)
    assert (product(found) - full(weight, 3)).abs().max() < 1e-12


@pytest.mark.parametrize(
    "values",
    [
        torch.cat([towards_zero(WIDE - 5), torch.zeros(5, dtype=torch.float64)]),
        torch.zeros(WIDE, dtype=torch.float64),
    ],
    ids=["rank deficient", "zero"],
)
def test_a_singular_weight_has_triples_all_the_same(values: Tensor) -> None:
    weight = matrix(values)
    found = smallest_triples(weight, 3)
    eye = torch.eye(3, dtype=torch.float64)
    assert found.S.abs().max() < 1e-14
    torch.testing.assert_close(found.U.mT @ found.U, eye, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.Vh @ found.Vh.mT, eye, atol=1e-12, rtol=0)
    assert (weight @ found.Vh.mT).abs().max() < 1e-13
    assert (weight.mT @ found.U).abs().max() < 1e-13


def test_an_iteration_that_never_settles_ends_in_a_full_svd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(svd, "_iterate", lambda *_: None)
    weight = matrix(towards_zero(WIDE))
    assert (product(smallest_triples(weight, 2)) - full(weight, 2)).abs().max() < 1e-15


def test_a_weight_without_inverse_is_not_iterated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svd, "_iterate", None)
    assert smallest_triples(torch.zeros(WIDE, WIDE), 1).S == 0


def test_an_inverse_that_overflows_is_not_iterated() -> None:
    values = torch.full((8,), 1e-300, dtype=torch.float64)
    values[0] = 1.0
    weight = torch.diag(values)
    lu, pivots, _ = torch.linalg.lu_factor_ex(weight * 1e-20)
    block = orthonormal(8, 4, 3) * 1e300
    assert svd._iterate(weight, lu, pivots, block, 1) is None


def test_many_triples_come_from_a_full_svd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svd, "_iterate", None)
    weight = matrix(towards_zero(WIDE))
    found = smallest_triples(weight, WIDE // 2)
    assert (product(found) - full(weight, WIDE // 2)).abs().max() < 1e-14


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_result_is_in_double_precision_on_the_cpu(dtype: torch.dtype) -> None:
    weight = matrix(towards_zero(32)).to(dtype)
    found = smallest_triples(weight, 2)
    assert {part.dtype for part in (found.U, found.S, found.Vh)} == {torch.float64}
    assert {part.device.type for part in (found.U, found.S, found.Vh)} == {"cpu"}
    assert (product(found) - full(weight, 2)).abs().max() < 1e-14


def test_on_the_meta_device_there_are_shapes() -> None:
    found = smallest_triples(torch.empty(1024, 512, device="meta"), 3)
    assert (found.U.shape, found.S.shape, found.Vh.shape) == ((1024, 3), (3,), (3, 512))
    assert found.U.is_meta


@pytest.mark.parametrize(("shape", "k"), [((4, 5), 0), ((4, 5), 5), ((4,), 1), ((4, 5, 6), 1)])
def test_triples_that_do_not_exist_are_refused(shape: tuple[int, ...], k: int) -> None:
    with pytest.raises(ConfigError, match=rf"{k} singular triples .* shape .* expected a matrix"):
        smallest_triples(torch.ones(shape), k)


def test_a_weight_that_is_not_finite_is_refused() -> None:
    weight = torch.eye(4)
    weight[1, 2] = torch.nan
    with pytest.raises(CorruptWeights, match=r"not finite.*fetch or train"):
        smallest_triples(weight, 1)


def test_the_second_time_the_triples_come_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = matrix(towards_zero(40)).float()
    first = smallest_triples(weight, 2, cache=tmp_path / "new" / "svd")
    monkeypatch.setattr(svd, "_compute", None)
    second = smallest_triples(weight, 2, cache=tmp_path / "new" / "svd")
    assert torch.equal(first.U, second.U)
    assert torch.equal(first.S, second.S)
    assert torch.equal(first.Vh, second.Vh)
    assert [path.suffix for path in (tmp_path / "new" / "svd").iterdir()] == [".safetensors"]


def test_another_weight_count_or_precision_has_its_own_file(tmp_path: Path) -> None:
    weight = matrix(towards_zero(40)).float()
    other = weight.clone()
    other[0, 0] += 1e-6
    smallest_triples(weight, 1, cache=tmp_path)
    for one, k in ((weight, 2), (other, 1), (weight.double(), 1), (weight[:20], 1)):
        before = len(list(tmp_path.iterdir()))
        smallest_triples(one, k, cache=tmp_path)
        assert len(list(tmp_path.iterdir())) == before + 1


def stored(tmp_path: Path) -> tuple[Tensor, Path]:
    weight = matrix(towards_zero(40)).float()
    smallest_triples(weight, 1, cache=tmp_path)
    return weight, next(tmp_path.glob("*.safetensors"))


def check_recomputed(weight: Tensor, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    damaged = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        found = smallest_triples(weight, 1, cache=path.parent)
    assert (product(found) - full(weight, 1)).abs().max() < 1e-15
    assert "computed again" in caplog.text
    assert path.read_bytes() != damaged


@pytest.mark.parametrize("kept", [0, 10, 700])
def test_a_cache_file_cut_short_is_computed_again(
    tmp_path: Path, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    weight, path = stored(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    check_recomputed(weight, path, caplog)


def test_a_cache_file_with_one_flipped_bit_is_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weight, path = stored(tmp_path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    check_recomputed(weight, path, caplog)


def test_a_cache_file_of_another_weight_under_this_name_is_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weight, path = stored(tmp_path / "one")
    smallest_triples(weight * 2, 1, cache=tmp_path / "two")
    next((tmp_path / "two").iterdir()).replace(path)
    check_recomputed(weight, path, caplog)


def test_a_cache_file_that_says_nothing_of_its_content_is_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weight, path = stored(tmp_path)
    save_file(load_file(path), path)
    check_recomputed(weight, path, caplog)


def test_a_cache_that_cannot_be_written_is_only_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weight = matrix(towards_zero(40))
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        found = smallest_triples(weight, 1, cache=tmp_path / "file" / "svd")
    assert (product(found) - full(weight, 1)).abs().max() < 1e-15
    assert "cannot be kept in" in caplog.text


def test_a_write_that_breaks_off_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_self: Path, _target: Path) -> None:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", fail)
    smallest_triples(matrix(towards_zero(40)), 1, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert "no space" in caplog.text


def test_the_default_cache_is_below_the_home_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNMASK_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "svd"


def test_the_benchmark_measures_every_way_against_double_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    benchmark = importlib.import_module("svd")
    rows = benchmark.measure("trained", 48, 2, 2)
    monkeypatch.delitem(sys.modules, "svd")
    assert [row.way for row in rows] == list(benchmark.WAYS)
    assert all(row.seconds > 0 for row in rows)
    single, double, _, ours = rows
    assert double.error == 0
    assert ours.error < 1e-12 < single.error
    assert ours.residual < 1e-14 < single.residual
    assert f"| trained | unmask | {ours.seconds * 96:.1f} |" in benchmark.table(rows, 96)


def test_the_spectra_of_the_benchmark_descend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    benchmark = importlib.import_module("svd")
    monkeypatch.delitem(sys.modules, "svd")
    for kind in benchmark.SPECTRA:
        values = benchmark.spectrum(kind, 64)
        assert (values.diff() < 0).all()
        assert values[-1] > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float8_e4m3fn])
def test_a_cached_file_of_another_type_is_computed_again(dtype, tmp_path, caplog):
    """numpy has no bfloat16, so that its bytes cannot even be hashed."""
    weight, path = stored(tmp_path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    other = {name: part.to(dtype) for name, part in load_file(path).items()}
    save_file(other, path, metadata=metadata)
    check_recomputed(weight, path, caplog)

"""Two batches at a time: same answers, same order, half of the threads each."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch

from unmask.train.lanes import side_by_side

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Torch with four threads, whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_however_long_each_takes():
    def compute(number: int) -> int:
        time.sleep(0.02 if number % 2 == 0 else 0)
        return number * number

    assert list(side_by_side(compute, range(7), CPU)) == [n * n for n in range(7)]


def test_two_batches_are_computed_at_a_time():
    both = threading.Barrier(2, timeout=10)
    list(side_by_side(lambda _: both.wait(), range(4), CPU))


def test_each_has_half_of_the_threads():
    assert set(side_by_side(lambda _: torch.get_num_threads(), range(6), CPU)) == {2}


def test_afterwards_torch_has_its_threads_again():
    list(side_by_side(str, range(3), CPU))
    assert torch.get_num_threads() == 4
    with closing(side_by_side(str, range(9), CPU)) as computed:
        next(computed)
    assert torch.get_num_threads() == 4


def test_an_error_is_raised_where_its_result_would_be():
    def compute(number: int) -> float:
        return 1 / (2 - number)

    computed = side_by_side(compute, range(5), CPU)
    assert [next(computed), next(computed)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(computed)
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("device", "count"), [("cuda", 4), ("mps", 4), ("cpu", 1)])
def test_elsewhere_and_on_one_thread_batches_follow_one_another(device, count):
    torch.set_num_threads(count)
    here = threading.current_thread()
    computed = side_by_side(lambda _: threading.current_thread(), range(3), torch.device(device))
    assert set(computed) == {here}


def test_batches_are_taken_only_a_little_ahead():
    taken = []

    def batches() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    with closing(side_by_side(str, batches(), CPU)) as computed:
        next(computed)
        assert len(taken) <= 3

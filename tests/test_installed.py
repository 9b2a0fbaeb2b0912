"""Tests of a wheel in an environment with only the wheel, torch, numpy and pytest.

`make wheel` copies this file out of the sources and runs it with each wheel; in the sources it
tests the module built in place. Every operator is called on both routes, by pybind11's entry and by
torch's dispatcher, and must refuse wrong arguments with the same message on both: C++ exceptions
must pass through torch and Python unchanged, however the module is linked.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from detcore import ops, reference
from detcore.ops._native import _C
from detcore.ops.registry import CALLS, OPERATORS
from detcore.ops.samples import random_boxes, scores_for

ROUTES: dict[str, Callable[[str], Callable[..., Any]]] = {
    "entry": lambda op: getattr(_C, op),
    "operator": lambda op: getattr(torch.ops.detcore, op),
}
# torch 2.15's dispatcher turns every C++ exception that is not torch's into a RuntimeError, but the
# public functions still raise a ValueError on both routes
REFUSALS: dict[str, type[Exception]] = {
    "entry": ValueError,
    "operator": ValueError if torch.__version__ < (2, 15) else RuntimeError,
}
both_routes = pytest.mark.parametrize("route", ROUTES)
every_operator = pytest.mark.parametrize("op", OPERATORS)


def tensors(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result or [])


def test_no_operator_is_left_out() -> None:
    registered = torch._C._dispatch_get_registrations_for_dispatch_key("CPU")
    ours = {name.removeprefix("detcore::") for name in registered if name.startswith("detcore::")}
    assert ours == set(OPERATORS)


@every_operator
def test_both_routes_give_the_same(op: str) -> None:
    arguments = OPERATORS[op].arguments()
    entry, operator = (tensors(route(op)(*arguments)) for route in ROUTES.values())
    assert len(entry) == len(operator)
    assert entry or op.endswith("_out")
    for a, b in zip(entry, operator, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@both_routes
@every_operator
def test_errors_come_in_their_own_words(op: str, route: str) -> None:
    place, wrong, words = OPERATORS[op].fault
    arguments = OPERATORS[op].arguments()
    arguments[place] = wrong
    for _ in range(3):  # an exception must not affect the next one
        with pytest.raises(REFUSALS[route]) as raised:
            ROUTES[route](op)(*arguments)
        assert type(raised.value) is REFUSALS[route]
        assert str(raised.value) == words
    ROUTES[route](op)(*OPERATORS[op].arguments())


@pytest.mark.parametrize("requires_grad", [False, True])
def test_a_public_function_s_refusal_is_a_value_error(requires_grad: bool) -> None:
    with pytest.raises(ValueError, match=r"fmt must be one of xyxy, .* got 'yxyx'"):
        ops.box_iou(random_boxes(7).requires_grad_(requires_grad), random_boxes(9), "yxyx")


@both_routes
def test_torch_s_own_errors_come_through(route: str) -> None:
    """Thrown in libtorch, passed through its C interface, thrown again by the module.

    The message is included since torch 2.13. Before, it goes to stderr, and the error names the
    call.
    """
    many = torch.zeros(1, 4).expand(1 << 24, 4)
    with pytest.raises(RuntimeError) as raised:
        ROUTES[route]("box_iou")(many, many, "xyxy", "iou", 0.0)
    words = "alloc" if torch.__version__ >= (2, 13) else "aoti_torch_empty_strided"
    assert words in str(raised.value)


@pytest.mark.parametrize("name", CALLS)
def test_results_are_the_reference_s(name: str) -> None:
    call = CALLS[name]
    arguments = call.samples(0, 60)
    got = tensors(call.run(ops, *arguments))
    wanted = tensors((call.reference or call.run)(reference, *arguments))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4, check_dtype=False)


def test_on_several_threads() -> None:
    """Work on several threads, and a gradient."""
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            first = random_boxes(3000).requires_grad_()
            kept = ops.nms(random_boxes(20_000), scores_for(20_000), 0.5)
            ops.box_iou(first, random_boxes(2000, seed=2)).sum().backward()
            results.append((kept, first.grad))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)

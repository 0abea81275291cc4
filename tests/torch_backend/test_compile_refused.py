"""What the backend does not compile: it says so once, counts it, and the answer is eager mode's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import pytest
import torch
from side_by_side import X, agree, same
from torch import nn

import optc
from optc import request, torch_backend
from optc.ort_errors import ORT_FAILURES
from optc.torch_backend import FallbackWarning, Stats, reset_stats, stats


def dropout(x: Any) -> Any:
    return nn.functional.dropout(x, 0.5, training=True) * 0


def inverse(x: Any) -> Any:
    return torch.linalg.inv(x @ x.mT + torch.eye(3))


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "random": (dropout, "draws random numbers"),
    "no form": (inverse, "linalg_inv_ex"),
    "training": (nn.BatchNorm1d(3), "training mode; call eval"),
    "no kernel": (lambda x: torch.special.erf(x.double()), "Erf"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_one_warning_names_the_graph_and_the_reason(name: str) -> None:
    function, reason = REFUSED[name]
    compiled = torch.compile(function, backend="optc")
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = [compiled(X) for _ in range(3)]
        same(results[2], function(X))
    ours = [w for w in caught if issubclass(w.category, FallbackWarning)]
    assert len(ours) == 1
    text = str(ours[0].message)
    assert "runs in eager mode instead of optc" in text and reason in text
    found = stats()
    assert (found.graphs, found.artifact_calls, found.fallbacks, found.eager_calls) == (0, 0, 1, 3)
    assert list(found.reasons.values()) == [1] and reason in next(iter(found.reasons))


def test_other_graphs_of_the_function_are_compiled_all_the_same() -> None:
    def function(x: Any) -> Any:
        y = torch.linalg.inv(x @ x.mT + torch.eye(3))
        torch._dynamo.graph_break()
        return y + 1

    with pytest.warns(FallbackWarning, match="linalg_inv_ex"):
        found = agree(function, (X,))
    assert (found.graphs, found.artifact_calls, found.fallbacks) == (1, 1, 1)


def test_the_warning_names_the_line() -> None:
    with pytest.warns(FallbackWarning, match=r"test_compile_refused.py:\d+"):
        agree(inverse, (X,))


def test_inputs_that_overlap_and_are_changed() -> None:
    def function(a: Any, b: Any) -> Any:
        a.add_(1)
        return a + b

    compiled = torch.compile(function, backend="optc")
    with torch.no_grad():
        apart = [torch.ones(4), torch.ones(4)]
        compiled(*apart)
        ours, theirs = torch.ones(6), torch.ones(6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            same(compiled(ours[:4], ours[2:]), function(theirs[:4], theirs[2:]))
        same(ours, theirs)


def test_a_wrong_executable_is_found_by_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    from optc.torch_backend.executable import Executable

    right = Executable.__call__
    monkeypatch.setattr(Executable, "__call__", lambda self, values: [t + 1 for t in right(self, values)])
    with pytest.warns(FallbackWarning, match="is not right here: result 0 has a relative error"):
        agree(lambda x: x * 2, (X,))


class Careless(optc.Pass):
    """Fails, as a pass with a defect does."""

    name = "careless"

    def run(self, model: ir.Model, ctx: optc.Context) -> optc.Report:
        raise KeyError("a value that is gone")


class Breaking(optc.Pass):
    """Leaves a value without its type."""

    name = "breaking"

    def run(self, model: ir.Model, ctx: optc.Context) -> optc.Report:
        for node in model.graph:
            node.outputs[0].type = None
        return optc.Report(changed=True)


@pytest.mark.parametrize(
    "step,text",
    [
        pytest.param(Careless, "KeyError: 'a value that is gone'\n  in the pass 'careless'", id="raises"),
        pytest.param(Breaking, "VerifyError: after pass 'breaking'", id="invalid"),
    ],
)
def test_a_pass_that_fails_is_no_fallback(
    step: type[optc.Pass], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eager mode would hide a defect of the compiler behind right answers."""
    monkeypatch.setattr(request, "choose_pipeline", lambda *_, **__: optc.Pipeline((step(),)))
    compiled = torch.compile(lambda x: x * 2 + 1, backend="optc")
    with torch.no_grad(), pytest.raises(optc.OptcError) as caught:
        compiled(X)
    assert not isinstance(caught.value, optc.UserError)
    assert text in str(caught.value) and "defect of optc" in str(caught.value)
    assert "test_compile_refused.py" in str(caught.value)
    assert stats() == Stats()


@pytest.mark.parametrize(
    "place,stage",
    [
        pytest.param("optc.torch_backend.plan._Planner.plan", "planning", id="the plan"),
        pytest.param("optc.torch_backend.analysis._Watch._note_writes", "planning", id="the analysis"),
        pytest.param("optc.torch_backend.functional._body", "capturing", id="the module to capture"),
        pytest.param("optc.capture.torch_model.to_ir", "capturing", id="the capture"),
    ],
)
def test_our_own_errors_are_no_fallback(place: str, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise KeyError("a node that is gone")

    monkeypatch.setattr(place, fail)
    compiled = torch.compile(lambda x: x * 2 + 1, backend="optc")
    with torch.no_grad(), pytest.raises(optc.OptcError) as caught:
        compiled(X)
    assert not isinstance(caught.value, optc.UserError)
    assert str(caught.value).startswith(f"{stage} failed on a graph of 2 operators")
    assert "Error: " in str(caught.value) and "a node that is gone" in str(caught.value)
    assert "defect of optc" in str(caught.value)
    assert stats() == Stats()


@pytest.mark.parametrize("error", [KeyError, TypeError, RuntimeError], ids=lambda error: error.__name__)
def test_an_operator_that_does_not_run_without_data_falls_back(error: type[Exception]) -> None:
    @torch.library.custom_op(f"optc_tests::needs_data_{error.__name__}", mutates_args=())
    def needs_data(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @needs_data.register_fake
    def _(x: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_dynamo_compiling() and broken:
            raise error("it wants the data")
        return torch.empty_like(x)

    broken = False
    backend = torch_backend.optc

    def late(module: Any, inputs: Any) -> Any:
        nonlocal broken
        compiled = backend(module, inputs)
        broken = True  # dynamo itself has traced it
        return compiled

    with pytest.warns(FallbackWarning, match="Error: .*it wants the data"), torch.no_grad():
        same(torch.compile(lambda x: needs_data(x) + 1, backend=late)(X), X + 1)
    assert stats().fallbacks == 1


def test_what_the_target_cannot_do_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise optc.UserError("the target has no such machine")

    monkeypatch.setattr(request, "choose_pipeline", refuse)
    with pytest.warns(FallbackWarning, match="no such machine"):
        found = agree(lambda x: x * 2 + 1, (X,))
    assert found.fallbacks == 1


@pytest.mark.parametrize("error", [*ORT_FAILURES[:1], RuntimeError], ids=lambda error: error.__name__)
def test_a_runtime_that_fails_leaves_the_call_to_eager_mode(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    from optc.torch_backend.executable import Executable

    def fail(*_: Any) -> Any:
        raise error("no memory")

    monkeypatch.setattr(Executable, "__call__", fail)
    with pytest.warns(FallbackWarning, match="the runtime failed: .*no memory"):
        found = agree(lambda x: x.add_(1) * 2, (X,))
    assert (found.fallbacks, found.eager_calls) == (1, 1)


def test_what_fails_in_eager_mode_too_says_nothing_about_the_graph() -> None:
    """A wrong call among right ones, as a server may see it."""
    table = nn.Embedding(10, 4)
    compiled, right = torch.compile(table, backend="optc"), torch.tensor([1, 2])
    with torch.no_grad():
        same(compiled(right), table(right))
        with pytest.raises(IndexError, match="out of range"):
            compiled(torch.tensor([1, 10]))
        same(compiled(right), table(right))
    assert (stats().artifact_calls, stats().fallbacks) == (2, 0)


def test_dropout_is_named_with_what_to_do() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    with (
        torch.no_grad(),
        pytest.warns(FallbackWarning, match=r"dropout .*draws .*call eval\(\) on the model"),
    ):
        torch.compile(model, backend="optc")(X)


def test_gradients_are_refused() -> None:
    model = nn.Linear(4, 2)
    compiled = torch.compile(model, backend="optc")
    with pytest.raises(optc.UserError) as caught:
        compiled(X)
    assert "torch.no_grad()" in str(caught.value) and "torch.inference_mode()" in str(caught.value)
    with torch.no_grad():
        same(compiled(X), model(X))
    with pytest.raises(optc.UserError):
        compiled(X)
    with torch.inference_mode():
        same(compiled(X), model(X))


def test_grad_mode_that_the_model_switches_on_keeps_its_gradients() -> None:
    layer = nn.Linear(4, 2)

    def function(x: Any) -> Any:
        with torch.enable_grad():
            y = layer(x)
        return y, layer.weight.view(-1)

    with torch.no_grad(), pytest.warns(FallbackWarning, match=r"linear .* requires a gradient"):
        found = torch.compile(function, backend="optc")(X)
    assert found[0].requires_grad
    found[0].sum().backward()
    assert layer.weight.grad is not None


def test_grad_mode_inside_of_which_nothing_comes_out_is_fine() -> None:
    layer = nn.Linear(4, 2)

    def function(x: Any) -> Any:
        with torch.enable_grad():
            y = layer(x)
        return y.detach(), y.argmax(), layer.weight.view(-1), layer.weight

    compiled = torch.compile(function, backend="optc")
    with torch.no_grad():
        same(compiled(X), function(X))
    assert (stats().artifact_calls, stats().fallbacks) == (1, 0)


def test_grad_mode_without_anything_to_differentiate_is_fine() -> None:
    model = nn.Linear(4, 2).requires_grad_(False)
    same(torch.compile(model, backend="optc")(X), model(X))
    assert stats().artifact_calls == 1


def test_counts_start_at_zero_and_are_read_by_name() -> None:
    assert stats() == Stats()
    assert stats()["graphs"] == stats().graphs == 0
    with pytest.raises(KeyError):
        stats()["no such count"]
    agree(lambda x: x + 1, (X,))
    assert stats()["artifact_calls"] == 1
    reset_stats()
    assert stats() == Stats()

"""per_sample=True: each sample's own gradient is that of a run with it alone, or the call is refused, with a reason."""

from __future__ import annotations

import copy

import pytest
import test_modules
import torch
from harness import MODULES

import dlref
from dlref.manual import nn

X = torch.arange(48.0).sin().view(4, 3, 4)
STATISTICS = {"running": {}, "none": {"track_running_stats": False}}


def alone(module, inputs, dy, i):
    """The gradients of the inputs and of the parameters that sample i gives by itself."""
    module.zero_grad()
    _, pullback = module.vjp(*(x[i : i + 1] for x in inputs))
    grads = pullback(dy[i : i + 1])
    return grads, [torch.zeros_like(p) if p.grad is None else p.grad for p in module.parameters()]


def check(module, inputs) -> None:
    single, before = copy.deepcopy(module), [b.clone() for b in module.buffers()]
    output, pullback = module.vjp(*inputs, per_sample=True)
    after = [b.clone() for b in module.buffers()]
    dy = torch.randn(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(1))
    grads = pullback(dy)
    for b, was in zip(module.buffers(), after, strict=True):
        assert torch.equal(b, was), "changed a second time"
    assert all(p.grad is None for p in module.parameters())
    for i in range(len(dy)):
        for b, was in zip(single.buffers(), before, strict=True):
            b.copy_(was)
        dx, dparameters = alone(single, inputs, dy, i)
        for a, b in zip(grads, dx, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a[i : i + 1], b, rtol=1e-9, atol=1e-11, equal_nan=True)
        for p, b in zip(module.parameters(), dparameters, strict=True):
            torch.testing.assert_close(p.grad_sample[i], b, rtol=1e-9, atol=1e-11, equal_nan=True)


@pytest.mark.filterwarnings("ignore:kl_div")
@pytest.mark.parametrize("name", [n for n in MODULES if not n.startswith("Lazy")])
def test_every_module(name, record_property):
    """The gradients of runs with one sample each; or a ValueError, never another error, never another number."""
    count = 0
    for args, kwargs, inputs, named in test_modules.cases(name)[:8]:
        if named or not inputs or not all(isinstance(x, torch.Tensor) and x.dim() for x in inputs):
            continue
        module = test_modules.build(nn, name, args, kwargs, True)
        if type(module) is not getattr(nn, name):
            continue
        try:
            check(module, tuple(x.detach() for x in inputs))
        except ValueError as error:
            assert "per_sample=True" in str(error), error
            continue
        count += 1
    record_property("inputs", count)


def nested(norm):
    return nn.Sequential(nn.Conv1d(3, 3, 1), nn.Sequential(norm))


def shortcut(norm):
    return nn.Residual(nn.Sequential(nn.Identity(), norm))


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("make", [nested, shortcut])
def test_batch_norm_is_refused_by_its_path(make, statistics):
    model = make(nn.BatchNorm1d(3, **STATISTICS[statistics]))
    path = next(n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm1d))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=rf"{path.replace('.', '[.]')} \(BatchNorm1d\).*GroupNorm"):
        model.vjp(X, per_sample=True)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    model.eval()
    if statistics == "running":  # each sample by the same numbers
        check(model.double(), (X.double(),))
    else:
        with pytest.raises(ValueError, match="BatchNorm1d"):
            model.vjp(X, per_sample=True)


def test_converted_model():
    model = torch.nn.Sequential(torch.nn.Conv1d(3, 2, 1), torch.nn.BatchNorm1d(2))
    with pytest.raises(ValueError, match=r"1 \(BatchNorm1d\)"):
        dlref.convert(model, "manual").vjp(X, per_sample=True)


class Centred(nn.Identity):
    """A user's module that takes the mean of its batch."""

    def explicit(self, input):
        return input - input.mean(0), lambda dy, needs=None: (dy - dy.mean(0),)


@pytest.mark.parametrize("model", [Centred(), nn.Sequential(nn.Linear(4, 4), Centred()), nn.Softmax(0)])
def test_what_sees_the_batch_is_found(model):
    _, pullback = model.vjp(X, per_sample=True)
    with pytest.raises(ValueError, match="per_sample=True needs samples that do not see each other"):
        pullback(torch.randn(X.shape))


def test_instance_norm_moves_its_statistics_once():
    layer, twin = (nn.InstanceNorm1d(3, affine=True, track_running_stats=True).double() for _ in range(2))
    twin(X.double())
    _, pullback = layer.vjp(X.double(), per_sample=True)
    pullback(X.double().cos())
    assert torch.equal(layer.running_mean, twin.running_mean) and torch.equal(layer.running_var, twin.running_var)


def test_embedding_counts_within_a_sample():
    words = torch.tensor([[0, 1, 1], [2, 2, 2], [0, 1, 2]])
    for options in ({"scale_grad_by_freq": True}, {"padding_idx": 1}, {"max_norm": 0.5}):
        torch.manual_seed(0)
        check(nn.Sequential(nn.Embedding(3, 2, **options)).double(), (words,))

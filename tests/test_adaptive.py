"""The adaptive softmax against torch's: every class, each output's gradient alone, what it predicts, what it refuses."""

from __future__ import annotations

import pytest
import torch

import dlref
from dlref import builtin, manual

KINDS = [
    ((5, 12, [3, 7]), {"div_value": 1.5}),
    ((5, 12, [1, 2, 11]), {"div_value": 1.2, "head_bias": True}),
    ((5, 3, [2]), {}),
]


def made(args, kwargs, dtype=torch.float64):
    sides = []
    for side in (builtin, manual):
        torch.manual_seed(0)
        sides.append(side.nn.AdaptiveLogSoftmaxWithLoss(*args, **kwargs, dtype=dtype))
    return sides


def inputs(classes, dtype=torch.float64, scale=3.0):
    generator = torch.Generator().manual_seed(1)
    x = scale * torch.randn(classes + 2, 5, generator=generator, dtype=torch.float64)
    return x.to(dtype), torch.arange(classes + 2) % classes  # every class


@pytest.mark.parametrize("used", ["both", "output", "loss"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_each_outputs_gradient(kind, used):
    theirs, ours = made(*kind)
    x, t = inputs(kind[0][1])
    dys = [None if used == "loss" else t.double().cos(), None if used == "output" else torch.tensor(0.7).double()]
    grads = []
    for module in (theirs, ours):
        module.zero_grad()
        leaf = x.clone().requires_grad_()
        answer = module(leaf, t)
        assert answer._fields == ("output", "loss") and answer.output.shape == t.shape
        torch.autograd.backward(*zip(*((o, d) for o, d in zip(answer, dys, strict=True) if d is not None), strict=True))
        grads.append([*answer, leaf.grad, *(p.grad for p in module.parameters())])
    ours.zero_grad()
    answer, pull = ours.vjp(x, t)
    dx, dt = pull(tuple(dys))
    grads.append([*answer, dx, *(p.grad for p in ours.parameters())])
    assert dt is None and type(answer).__name__ == "_ASMoutput" and pull.trains
    for found in grads[1:]:
        for a, b in zip(found, grads[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert pull(tuple(dys), needs=(False, False)) == (None, None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_log_prob_and_predict(kind, dtype):
    """All probabilities are one in sum; that of the target is the output; the largest is what is predicted."""
    theirs, ours = made(*kind, dtype)
    x, t = inputs(kind[0][1], dtype)
    log_p, bound = ours.log_prob(x), 32 * torch.finfo(dtype).eps
    torch.testing.assert_close(log_p, theirs.log_prob(x), rtol=bound, atol=bound)
    torch.testing.assert_close(log_p.double().exp().sum(1), torch.ones(len(x)).double(), rtol=bound, atol=bound)
    torch.testing.assert_close(ours(x, t).output, log_p.gather(1, t[:, None])[:, 0], rtol=bound, atol=bound)
    if dtype == torch.float64:
        assert torch.equal(ours.predict(x), theirs.predict(x)) and torch.equal(ours.predict(x), log_p.argmax(1))
        everything = inputs(kind[0][1], scale=0.01)[0]
        assert torch.equal(ours.predict(everything), theirs.predict(everything))


def test_a_row_without_a_batch_and_no_rows():
    theirs, ours = made(*KINDS[0])
    x, t = inputs(12)
    for args in ((x[0], t[4]), (x[:1], t[4:5]), (x[:0], t[:0])):
        expected = theirs(*args)
        for answer in (ours(*args), ours.vjp(*args)[0]):
            for a, b in zip(answer, expected, strict=True):
                assert a.shape == b.shape
                torch.testing.assert_close(a, b, equal_nan=True, rtol=1e-12, atol=1e-12)


def test_certain_classes_keep_their_digits():
    """$\\log p = -\\log(1 + e^{-50})$ is not 0."""
    _, ours = made((1, 3, [2]), {"div_value": 1.0})
    with torch.no_grad():
        ours.head.weight.copy_(torch.tensor([[50.0], [0.0], [-50.0]]))
    output, _ = ours(torch.ones(1, 1).double(), torch.tensor([0]))
    assert output.item() == pytest.approx(-1.9287498479639178e-22, rel=1e-12)


def test_second_derivatives_of_the_whole():
    _, ours = made(*KINDS[0])
    x, t = inputs(12, scale=0.5)
    parameters = [p.detach().clone().requires_grad_() for p in ours.parameters()]

    def function(x, *values):
        state = dict(zip(dict(ours.named_parameters()), values, strict=True))
        return tuple(torch.func.functional_call(ours, state, (x, t)))

    arguments = (x.requires_grad_(), *parameters)
    assert torch.autograd.gradcheck(function, arguments, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, arguments, fast_mode=True)


def test_vmap_over_batches():
    theirs, ours = made(*KINDS[1])
    x, t = inputs(12)
    batch, targets = torch.stack([x, x.flip(0)]), torch.stack([t, t.flip(0)])
    found = torch.func.vmap(lambda a, b: tuple(ours(a, b)))(batch, targets)
    for i in range(2):
        for a, b in zip(found, theirs(batch[i], targets[i]), strict=True):
            torch.testing.assert_close(a[i], b, rtol=1e-12, atol=1e-12)


def test_converted_both_ways():
    theirs, ours = made(*KINDS[1])
    x, t = inputs(12)
    expected, keys = theirs(x, t), list(theirs.state_dict())
    turned = dlref.convert(theirs)
    assert type(turned) is manual.nn.AdaptiveLogSoftmaxWithLoss and list(ours.state_dict()) == keys
    torch.testing.assert_close(turned.vjp(x, t)[0].loss, expected.loss, rtol=1e-12, atol=0)
    back = dlref.convert(ours, "builtin")
    assert type(back) is torch.nn.AdaptiveLogSoftmaxWithLoss and type(back.head) is torch.nn.Linear
    torch.testing.assert_close(back(x, t).loss, expected.loss, rtol=1e-12, atol=0)


def test_what_is_frozen_gets_no_gradient():
    _, ours = made(*KINDS[0])
    x, t = inputs(12)
    ours.tail[0][1].weight.requires_grad_(False)
    ours.vjp(x, t)[1]((None, torch.ones(()).double()))
    assert [n for n, p in ours.named_parameters() if p.grad is None] == ["tail.0.1.weight"]


@pytest.mark.parametrize("cutoffs", [[], [0], [3, 2], [2, 2], [12], [2.5], [-1, 4]], ids=str)
def test_cutoffs_that_torch_refuses(cutoffs):
    for side in (builtin, manual):
        with pytest.raises(ValueError):
            side.nn.AdaptiveLogSoftmaxWithLoss(5, 12, cutoffs)


def test_refused():
    sides = made(*KINDS[0])
    x, t = inputs(12)
    for args in ((x, t + 1), (x, t - 1), (x, t[:3]), (x[0], t), (x, t[0]), (x, t[:, None]), (x[None], t)):
        for call in (*sides, sides[1].vjp):
            with pytest.raises(RuntimeError):
                call(*args)
    _, pull = sides[1].vjp(x, t)
    with pytest.raises(RuntimeError, match="output and loss"):
        pull()
    torch.nn.utils.parametrizations.weight_norm(sides[1].head)
    with pytest.raises(RuntimeError, match="parametrization"):
        sides[1].vjp(x, t)


def test_a_target_that_nobody_could_look_at_gives_no_number():
    _, ours = made(*KINDS[0])
    x, t = inputs(12)
    torch._dynamo.reset()
    compiled = torch.compile(ours, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, t).loss, ours(x, t).loss, rtol=1e-12, atol=0)
    assert compiled(x, torch.where(t == 3, 12, t)).loss.isnan() and compiled(x, torch.where(t == 3, -1, t)).loss.isnan()

"""Every operation against torch's function of its name: PyTorch's database, hard samples, all dtypes, all layouts."""

from __future__ import annotations

import functools
import re
import warnings

import harness
import pytest
import torch
from harness import DRAWN_BY_DTYPE, FORMS, NAMES, Sample
from torch.utils._pytree import tree_map

from dlref.samples.hard import ERRORS

COMPLEX = (torch.complex64, torch.complex128)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, *COMPLEX)


def differentiable(output) -> list[bool]:
    return [t.requires_grad for t in harness.flat(output)]


def check_value_and_gradients(op, sample: Sample, exactly: bool, turn: int | None = None) -> None:
    """One sample: output and every gradient, under autograd and by vjp, for every layout of the upstream gradient, or for the
    dense one and that whose turn it is."""
    before = [t.detach().clone() for t in sample.tensors()]
    ours, theirs = harness.run(op, sample), harness.run(sample.builtin, sample)
    reference = None if exactly else harness.run(sample.builtin, lifted := sample.map(harness.lifted))
    extra = harness.CONDITION.get(op.__name__, 0.0)
    there = harness.value_error(op.__name__)
    harness.assert_equal(ours, theirs, reference, sample, there, extra)
    assert differentiable(ours) == differentiable(theirs), sample
    explicit, pullback = harness.run(op.vjp, sample)
    assert not any(differentiable(explicit)) or explicit is sample.args[0], sample
    if not all(map(harness.same, harness.flat(explicit), harness.flat(ours))):
        harness.assert_equal(explicit, theirs, reference, sample, there, extra)
    if not any(differentiable(theirs)):
        return
    passed = [*sample.args, *sample.kwargs.values()]
    bound = harness.torch_error(op.__name__)
    layouts = list(harness.layouts(harness.flat(theirs)))
    if turn is not None and len(layouts) > 2:
        layouts = [layouts[0], layouts[1 + turn % (len(layouts) - 1)]]
    for layout, dy in layouts:
        kept = [d if d is None else d.clone() for d in dy]
        grads = harness.gradients(ours, sample, dy)
        expected = harness.unless_refused(lambda dy=dy: harness.gradients(theirs, sample, dy))
        if expected is None:
            continue
        best = None
        if reference is not None:
            pairs = zip(dy, harness.flat(reference), strict=True)
            best = harness.gradients(reference, lifted, [d if d is None else d.to(r.device, r.dtype) for d, r in pairs])
        by_hand = pullback(tuple(dy) if len(dy) > 1 else dy[0])
        assert len(by_hand) == len(passed), sample
        by_hand = [g for g, a in zip(by_hand, passed, strict=True) if isinstance(a, torch.Tensor) and a.requires_grad]
        for i, (a, b, c) in enumerate(zip(grads, expected, by_hand, strict=True)):
            what = (layout, i, sample)
            if b is None:  # torch has no gradient there
                continue
            r = None if best is None else best[i]
            if op.__name__ in harness.TORCH_NAN:
                assert not a.isnan().any(), what
                a, b, c, r = (t if t is None else torch.where(b.isnan().to(t.device), 0, t) for t in (a, b, c, r))
            harness.assert_equal(a, b, r, what, bound, extra)
            if not harness.same(a, c):
                harness.assert_equal(c, b, r, ("vjp", *what), bound, extra)
        for d, was in zip(dy, kept, strict=True):
            assert d is None or torch.equal(d.nan_to_num(), was.nan_to_num()), (
                "upstream gradient changed",
                layout,
                sample,
            )
    for t, was in zip(sample.tensors(), before, strict=True):
        assert torch.equal(t.detach().nan_to_num(), was.nan_to_num()), ("argument changed", sample)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("name", FORMS)
def test_value_and_gradients(name, dtype, record_property):
    """Every sample in float64, with every layout wherever two options meet; in the other dtypes those where two meet."""
    if dtype not in harness.supported(name, backward=True):
        pytest.skip("torch's function does not take this dtype")
    op = harness.operation(name)
    # The others draw other numbers in another dtype.
    exactly = dtype in (torch.float64, torch.complex128) or name in DRAWN_BY_DTYPE
    every = list(harness.database_samples(name, dtype))
    found = [*harness.in_pairs(every), *(harness.hard_samples(name, dtype) if dtype not in COMPLEX else ())]
    for turn, sample in enumerate(found):
        check_value_and_gradients(op, sample, exactly, None if dtype == torch.float64 else turn)
    if dtype == torch.float64:
        met = set(map(id, found))
        rest = [sample for sample in every if id(sample) not in met]
        for turn, sample in enumerate(rest):
            check_value_and_gradients(op, sample, exactly, turn)
        found += rest
    assert found or dtype in COMPLEX, f"{name} has neither an entry in PyTorch's database nor hard samples"
    record_property("samples", len(found))


@pytest.mark.parametrize("name", FORMS)
def test_non_contiguous(name, record_property):
    from torch.testing._internal.common_utils import noncontiguous_like

    record_property("samples", len(found := harness.pair_samples(name, torch.float64)))
    for turn, sample in enumerate(found):
        strided = sample.map(
            lambda t: noncontiguous_like(t.detach()).requires_grad_(t.requires_grad) if t.numel() else t
        )
        check_value_and_gradients(harness.operation(name), strided, True, turn)


@pytest.mark.parametrize("name", FORMS)
def test_integers(name):
    """Where torch's function takes integers or bools, so does ours."""
    if name in harness.TORCH_INTEGERS:
        pytest.skip("torch's own result is rounded")
    for dtype in harness.supported(name, backward=False):
        if not (dtype.is_floating_point or dtype.is_complex):
            for sample in harness.in_pairs(harness.database_samples(name, dtype, requires_grad=False)):
                theirs = harness.run(sample.builtin, sample)
                harness.assert_equal(harness.run(harness.operation(name), sample), theirs, theirs, sample)


@pytest.mark.parametrize("name", NAMES)
def test_errors(name, record_property):
    """Each error input of PyTorch's database, and of the operation's own, raises here what it raises there."""
    count = 0
    for info in harness.opinfos(name):
        if info.error_inputs_func is None:
            continue
        for case in info.error_inputs("cpu"):
            s, count = case.sample_input, count + 1
            for function in (harness.operation(name), harness.operation(name).vjp):
                with pytest.raises(case.error_type), harness.quietly():
                    function(s.input, *s.args, **s.kwargs)
    op = harness.operation(name)
    if name in ERRORS:
        for error, (args, kwargs) in ERRORS[name](torch.tensor):
            for function in (op.builtin, op, op.vjp):
                with pytest.raises(error), harness.quietly():
                    function(*args, **kwargs)
            count += 1
    record_property("error inputs", count)


@pytest.mark.parametrize("name", FORMS)
def test_second_derivatives(name, record_property):
    """gradcheck (reverse and forward mode) and gradgradcheck, wherever two options meet."""
    op = harness.operation(name)
    count = 0
    for sample in harness.in_pairs(harness.smooth_samples(name), sizes=False):
        learning = sample.learning()
        if not learning or not any(differentiable(harness.run(sample.builtin, sample))):
            continue

        def function(*values, sample=sample, learning=learning):
            swap = dict(zip(map(id, learning), values, strict=True))
            return harness.floating(harness.run(op, sample.map(lambda t: swap.get(id(t), t))))

        options = {"fast_mode": True, "nondet_tol": harness.ORDER}
        assert torch.autograd.gradcheck(function, learning, check_forward_ad=True, **options), sample
        assert torch.autograd.gradgradcheck(function, learning, **options), sample
        count += 1
    record_property("samples", count)


def small(name: str, limit: int) -> list[Sample]:
    """The smallest samples of the database, of distinct options, that have a gradient."""
    chosen: dict = {}
    for sample in sorted(harness.smooth_samples(name), key=lambda s: sum(t.numel() for t in s.tensors())):
        outputs = harness.flat(harness.run(sample.builtin, sample))
        options = tree_map(lambda v: v.dim() if isinstance(v, torch.Tensor) else v, (sample.args, sample.kwargs))
        size = sum(t.numel() for t in sample.learning())
        if (
            0 < size <= 150
            and all(t.numel() for t in sample.tensors())
            and repr(options) not in chosen
            and any(differentiable(outputs))
            and all(o.numel() for o in outputs)
        ):
            chosen[repr(options)] = sample
            if len(chosen) == limit:
                break
    return list(chosen.values())


@pytest.mark.parametrize("name", NAMES)
def test_torch_func(name, record_property):
    """grad, vjp, jvp, vmap of grad, jacrev, jacfwd and hessian of the bridge, against torch's function."""
    op = harness.operation(name)
    found = small(name, 8)
    if name in harness.MUTATING:  # under vmap nothing can be changed in place, torch's neither
        found = [sample for sample in found if all(t.requires_grad for t in sample.tensors() if t.is_floating_point())]
    record_property("samples", len(found))
    for sample in found:
        learning = sample.learning()

        def bind(function, sample=sample, learning=learning):
            def bound(*values):
                swap = dict(zip(map(id, learning), values, strict=True))
                return harness.floating(harness.run(function, sample.map(lambda t: swap.get(id(t), t))))  # noqa: B023

            return bound

        ours, theirs = bind(op), bind(sample.builtin)
        x = tuple(t.detach() for t in learning)
        which = tuple(range(len(x)))
        output = theirs(*x)
        c = tree_map(lambda o: torch.randn(o.shape, dtype=o.dtype, generator=torch.Generator().manual_seed(1)), output)

        def close(a, b, sample=sample):
            bound = max(1e-8, 10 * harness.torch_error(name, 0.0))
            torch.testing.assert_close(a, b, rtol=bound, atol=bound, equal_nan=True, msg=lambda m: f"{m}\n{sample}")

        def energy(function, c=c):
            def value(*v):
                outputs = harness.flat(function(*v))
                return sum((k * o).sum() + (o**2).sum() for k, o in zip(harness.flat(c), outputs, strict=True))

            return value

        tangents = tuple(torch.randn(t.shape, dtype=t.dtype, generator=torch.Generator().manual_seed(2)) for t in x)
        if name in harness.TORCH_UNTRANSFORMED or (
            name in harness.TORCH_NAN and any(g.isnan().any() for g in torch.func.vjp(theirs, *x)[1](c))
        ):
            theirs = bind(harness.plain(op))
        try:
            jvp = torch.func.jvp(theirs, x, tangents)
        except NotImplementedError:  # torch has no forward mode there
            jvp = torch.func.jvp(bind(harness.plain(op)), x, tangents)
        close(torch.func.jvp(ours, x, tangents), jvp)
        close(torch.func.vjp(ours, *x)[1](c), torch.func.vjp(theirs, *x)[1](c))
        close(torch.func.grad(energy(ours), which)(*x), torch.func.grad(energy(theirs), which)(*x))
        jacobian = torch.func.jacrev(theirs, which)(*x)
        close(torch.func.jacrev(ours, which)(*x), jacobian)
        close(torch.func.jacfwd(ours, which, randomness="same")(*x), jacobian)
        # torch's own second derivative of layer_norm is wrong in places, so autograd through the plain forward is the measure.
        plain = energy(bind(harness.plain(op)))
        hessian = torch.func.jacrev(torch.func.jacrev(plain, which), which)(*x)
        for outer in (torch.func.jacrev, functools.partial(torch.func.jacfwd, randomness="same")):
            close(outer(torch.func.jacrev(energy(ours), which), which)(*x), hessian)
            close(outer(torch.func.jacfwd(energy(ours), which, randomness="same"), which)(*x), hessian)
        batch = tuple(torch.stack([t, t / 2, t * 0.9]) for t in x)
        batched = torch.func.vmap(torch.func.grad(energy(ours), which), randomness="same")(*batch)
        singly = [torch.func.grad(energy(theirs), which)(*(t[i] for t in batch)) for i in range(3)]
        close(batched, tuple(torch.stack(parts) for parts in zip(*singly, strict=True)))


@pytest.mark.parametrize("name", NAMES)
def test_compile(name, record_property):
    """torch.compile(fullgraph=True): output and gradients are eager's."""
    op = harness.operation(name)
    record_property("samples", len(found := small(name, 2)))
    together = Sample(None, tuple((s.args, s.kwargs) for s in found), {}, "together", name)

    def every(*calls):
        return [op(*args, **kwargs) for args, kwargs in calls]

    torch._dynamo.reset()
    compiled = torch.compile(every, fullgraph=True, backend="aot_eager")
    for sample, ours, theirs in zip(found, harness.run(compiled, together), harness.run(every, together), strict=True):
        harness.assert_equal(ours, theirs, None, sample)
        _, dy = next(harness.layouts(harness.flat(theirs)))
        for a, b in zip(harness.gradients(ours, sample, dy), harness.gradients(theirs, sample, dy), strict=True):
            if b is not None:
                harness.assert_equal(a, b, None, sample)


@pytest.mark.parametrize("name", FORMS)
def test_no_grad_and_inference_mode(name):
    for sample in small(name, 4):
        theirs = harness.run(sample.builtin, sample)
        _, dy = next(harness.layouts(harness.flat(theirs)))
        expected = iter(harness.gradients(theirs, sample, dy))
        expected = [next(expected) if isinstance(a, torch.Tensor) and a.requires_grad else None
                    for a in (*sample.args, *sample.kwargs.values())]  # fmt: skip
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                harness.assert_equal(harness.run(harness.operation(name), sample), theirs, None, sample)
                output, pullback = harness.run(harness.operation(name).vjp, sample)
                harness.assert_equal(output, theirs, None, sample)
                for a, b in zip(pullback(tuple(dy) if len(dy) > 1 else dy[0]), expected, strict=True):
                    if b is not None:
                        harness.assert_equal(a, b, None, sample, harness.torch_error(name))


@pytest.mark.parametrize("name", FORMS)
def test_needs(name):
    """A gradient that nobody wants is None; under autograd a frozen argument gets none, and the others keep theirs."""
    for sample in small(name, 4):
        output, pullback = harness.run(harness.operation(name).vjp, sample)
        dy = tuple(next(harness.upstream(o))[1] if o.is_floating_point() else None for o in harness.flat(output))
        dy = dy if len(dy) > 1 else dy[0]
        everything = pullback(dy)
        for i, grad in enumerate(everything):
            alone = pullback(dy, needs=tuple(j == i for j in range(len(everything))))
            assert all(g is None for j, g in enumerate(alone) if j != i), sample
            assert grad is None or torch.equal(alone[i], grad), sample


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", FORMS)
def test_autocast(name, device):
    """Under autocast: the dtype that torch's function gives (on a pretended GPU too), its value, its gradient's dtype."""
    pretended = device == "cuda"
    device = "cuda" if pretended else harness.DEVICE.type
    if pretended and isinstance(name, harness.Alone):
        pytest.skip("of tensors that stand for others, definitions are what the operation's own test sees")
    op = harness.operation(name)
    dtype = torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch._subclasses.fake_tensor import FakeTensorMode

        fake = FakeTensorMode(allow_non_fake_inputs=False)
        for mixed in (False, True):
            for sample in list(harness.database_samples(name, dtype))[:6]:
                if mixed:  # the first argument in half precision, as the layer before would leave it
                    first = sample.args[0]
                    if not isinstance(first, torch.Tensor) or not first.is_floating_point():
                        continue
                    sample.args = (
                        first.detach().to(torch.bfloat16).requires_grad_(first.requires_grad),
                        *sample.args[1:],
                    )
                if pretended:
                    sample = sample.map(lambda t: _fake(fake, t))
                outcome = []
                with fake if pretended else torch.enable_grad():
                    for function in (sample.builtin, op):
                        try:
                            torch.set_autocast_enabled(device, True)
                            torch.set_autocast_dtype(device, torch.bfloat16)
                            output = harness.run(function, sample)
                        except RuntimeError as e:
                            output = e
                        finally:
                            torch.set_autocast_enabled(device, False)
                            torch.clear_autocast_cache()
                        outcome.append(output)
                    theirs, ours = outcome
                    if isinstance(theirs, RuntimeError):
                        continue  # torch has no such kernel, or forbids it under autocast
                    assert not isinstance(ours, RuntimeError), (ours, sample)
                    ours, theirs = harness.flat(ours), harness.flat(theirs)
                    dtypes = [[t.dtype for t in side] for side in (ours, theirs)]
                    assert dtypes[0] == dtypes[1] or name in harness.TORCH_AUTOCAST, (sample, dtypes)
                    if not pretended:
                        assert harness.error(ours[0], theirs[0]) <= 0.05, (harness.error(ours[0], theirs[0]), sample)
                    if ours[0].requires_grad and not pretended:
                        grads = harness.gradients(ours[0], sample, [torch.ones_like(ours[0])])
                        for g, t in zip(grads, sample.learning(), strict=True):
                            assert g is None or g.dtype == t.dtype, sample


def _fake(mode, t):
    with mode:
        return torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cuda").requires_grad_(t.requires_grad)


@pytest.mark.parametrize("name", NAMES)
def test_fake_cuda(name, record_property):
    """On a pretended GPU nothing is made on the CPU: forward, autograd and vjp, wherever two options meet."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    op, mode = harness.operation(name), FakeTensorMode(allow_non_fake_inputs=False)
    found = harness.in_pairs(harness.samples(name, torch.float32), sizes=False)
    record_property("samples", len(found))
    for sample in found:
        fake = sample.map(lambda t: _fake(mode, t))
        with mode:
            output = harness.flat(harness.run(op, fake))
            assert all(o.device.type == "cuda" for o in output), sample
            _, pullback = harness.run(op.vjp, fake)
            dy = [torch.empty_strided(o.shape, o.stride(), dtype=o.dtype, device="cuda") if o.requires_grad else None
                  for o in output]  # fmt: skip
            if any(differentiable(output)):
                # The engine asks the driver for a stream, so the node of the bridge is called without it.
                node = output[0].grad_fn
                grads = pullback(tuple(dy) if len(dy) > 1 else dy[0])
                grads = [*grads, *(node.apply(*dy) if hasattr(node, "op") else ())]
                assert all(g is None or g.device.type == "cuda" for g in grads), sample


@pytest.mark.parametrize("name", NAMES)
def test_documented(name):
    """Forward and gradient state their equations; the public signature is torch's."""
    op = harness.operation(name)
    assert "$" in (op.__doc__ or ""), f"{name}: the forward's docstring gives no equation"
    assert "$" in (op.pull.__doc__ or ""), f"{name}: the gradient's docstring gives no equation"


LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


@pytest.mark.parametrize("name", FORMS)
def test_memory_format(name, record_property):
    """Channels last in the first or the second argument, or in all: the output stands as torch's, whoever asks."""
    number = 0
    for dtype in (torch.float32, torch.float64):
        for sample in harness.pair_samples(name, dtype):
            tensors = sample.tensors()
            last = [t for t in tensors if t.dim() in LAYOUTS and t.numel()]
            for chosen in (last[:1], last[1:2], last):
                if not chosen or (chosen is last and len(last) < 2):
                    continue
                laid = sample.map(lambda t, chosen=chosen: (t.detach().contiguous(memory_format=LAYOUTS[t.dim()])
                                  if any(t is c for c in chosen) else t.detach()))  # fmt: skip
                expected = harness.unless_refused(lambda laid=laid: harness.flat(harness.run(laid.builtin, laid)))
                if expected is None:
                    continue
                with torch.enable_grad():
                    learning = laid.map(lambda t: t.requires_grad_() if t.is_floating_point() else t)
                    ours = harness.flat(harness.run(harness.operation(name), learning))
                by_hand = harness.flat(harness.run(harness.operation(name).vjp, learning)[0])
                for a, b, c in zip(ours, by_hand, expected, strict=True):
                    # Which kernel torch's convolution takes in three dimensions hangs on sizes and threads.
                    if c.dim() in LAYOUTS and c.numel() and not re.fullmatch("conv.*3d", name):
                        number += 1
                        for form in (torch.contiguous_format, LAYOUTS[c.dim()]):
                            right = c.is_contiguous(memory_format=form)
                            assert a.is_contiguous(memory_format=form) == right, (laid, a.stride(), c.stride())
                            assert b.is_contiguous(memory_format=form) == right, (laid, b.stride(), c.stride())
    record_property("outputs", number)

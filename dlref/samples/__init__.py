"""The calls that pairs are compared on: PyTorch's databases, hard samples, upstream gradients of every layout."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import inspect
import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from ..builtin import composed
from ..builtin.ctc_loss import ctc_loss
from ..core import compat
from ..core.modes import has_float64
from ..core.pair import OPS
from .hard import SAMPLES

NAMES = sorted(name for name, op in OPS.items() if op.builtin is not None)
# Operations that draw random numbers.
RANDOM = {"GaussianNoise", "alpha_dropout", "attention", "dropout", "dropout1d", "dropout2d", "dropout3d",
          "feature_alpha_dropout", "fractional_max_pool2d", "fractional_max_pool2d_with_indices", "fractional_max_pool3d",
          "fractional_max_pool3d_with_indices", "gumbel_softmax", "reparametrize", "rrelu",
          "scaled_dot_product_attention"}  # fmt: skip
# Those of them that draw other numbers in another dtype.
DRAWN_BY_DTYPE = RANDOM - {"attention", "scaled_dot_product_attention"}
# Operations that change arguments of theirs in place (running statistics): each run gets its own copies.
MUTATING = {"batch_norm", "instance_norm", "embedding", "embedding_bag"}
# Operations whose first two arguments PyTorch's database exchanges.
SWAPPED = {"embedding", "embedding_bag"}
# Where torch's own float64 result is worse than float64: how much worse, and why.
TORCH_ERROR = {
    "cosine_embedding_loss": 4e-9,  # its 1e-12 is rounded to float32
    "hardsigmoid": 4e-8,  # its gradient multiplies by 1/6 rounded to float32
}
# Where rounding is magnified on the way: the scores of the database's attention reach 200, and exp turns a relative error
# eps of a score s into |s| eps.
CONDITION = {
    "scaled_dot_product_attention": 200 * torch.finfo(torch.float32).eps,
    "attention": 15 * torch.finfo(torch.float32).eps,  # of its hard samples
    "cluster_log_prob": 40 * torch.finfo(torch.float32).eps,  # the same
}
# Where torch's gradient is NaN and the true one is not.
TORCH_NAN = {
    "poisson_nll_loss",  # of a target of 0, with full=True: 0 * log 0 below its mask
    "kl_div",  # of a target t of 0: t / t beside log t, which is minus infinity
    "orpo_loss",  # of a chosen answer that is certain: 0 times the infinite slope of its odds
}
# Where else torch itself is wrong, so that the truth is the manual side in float64.
TORCH_WRONG = {
    "ctc_loss": "its gradient is larger by the exponentials of log_probs, which a log_softmax before it takes out again",
    "binary_cross_entropy": "at a probability and a target of 0, or of 1, its gradient is 0, and not 1, or -1",
    "CrossMapLRN2d": "the first channel is in every window, and its gradient is of other windows than its value",
    "pdist": "of an infinite norm ties get all of the gradient each, which is no subgradient; others overflow",
    "z_loss": "the logarithm of a sum that is nearly 1 is rounded to 0",
    "soft_margin_loss": "log(1 + exp(z)) overflows as it is written",
    "multi_margin_loss": "the mean over no samples is memory that was never written",
    "multilabel_margin_loss": "the mean over no samples is memory that was never written",
    "pixel_unshuffle": "an empty batch keeps its shape",
    **({} if compat.COUNTS_OF_BAGS else {"embedding_bag": compat.COUNTS_OF_BAGS.before}),
}
NOT_THE_TRUTH = {*TORCH_ERROR, *TORCH_NAN, *TORCH_WRONG}  # torch's float64 of these; the definition's is


def _linear_cross_entropy(*args: Any, options: Any = None, **kwargs: Any) -> Any:
    return composed.linear_cross_entropy(*args, **kwargs)


def _pdist(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    nothing = input.dim() == 2 and not input.numel()
    return input.sum().expand(len(input) * (len(input) - 1) // 2) if nothing else F.pdist(input, *args, **kwargs)


# What torch's own gradients end in: pooling in three dimensions, of an image without a batch; on a GPU normalisations with a
# shift and no scale, and shuffled channels of an upstream gradient that is not contiguous.
TORCH_REFUSES = ("Unsupported memory format", "tensor does not have a device", "view size is not compatible")
DOUBLE = {torch.float64, torch.complex128}
# Whose eps is by default the machine epsilon of what they compute in.
EPS_OF_DTYPE = {"rms_norm"}
# What is measured in the place of torch's function. Where options choose its memory and not its meaning, it goes without them:
# its chunks have no second derivative, a forward-mode derivative of 0, and refuse float64 where float32 sums are asked for. Of
# ctc_loss torch's gradient holds through log_softmax alone; pdist's gradient of no rows or columns ends the process.
MEASURED = {"linear_cross_entropy": _linear_cross_entropy, "ctc_loss": ctc_loss, "pdist": _pdist}


class Sample:
    """One call of an operation, and torch's function that must answer the same."""

    def __init__(self, builtin: Any, args: tuple, kwargs: dict[str, Any], where: str, name: str = ""):
        self.builtin, self.args, self.kwargs, self.where, self.name = builtin, args, kwargs, where, name

    def map(self, function) -> Sample:
        """The sample with every tensor replaced."""
        return Sample(self.builtin, _mapped(function, self.args), _mapped(function, self.kwargs), self.where, self.name)

    def tensors(self) -> list[Tensor]:
        return [*tensors_in(self.args), *tensors_in(self.kwargs)]

    def learning(self) -> list[Tensor]:
        return [t for t in self.tensors() if t.requires_grad]

    def __repr__(self) -> str:
        def show(v):
            return f"{v.dtype} {tuple(v.shape)} {v.stride()}" if isinstance(v, Tensor) else v

        return f"{self.where}: {tree_map(show, (self.args, self.kwargs))}"


@functools.cache
def database() -> list:
    """PyTorch's database of operations; empty where the package that it needs, expecttest, is not installed."""
    collects = gc.isenabled()
    gc.disable()  # a third of the import's time
    try:
        return compat.op_db()
    except ImportError:
        return []
    finally:
        if collects:
            gc.enable()


@functools.cache
def opinfos(name: str) -> list:
    """PyTorch's database entries of an operation."""
    names = {f"nn.functional.{name}", name} - {"unfold"}  # which is Tensor.unfold, another function
    return [info for info in database() if info.name in names]


def supported(name: str, *, backward: bool, device: str = "cpu") -> set[torch.dtype]:
    """The dtypes that torch's function takes on the device; all floating ones where it has no entry."""
    infos = opinfos(name)
    if infos:
        return set().union(*(taken(info, backward, device) for info in infos))
    found = {dtype for dtype in (torch.float64, torch.float32, torch.bfloat16) if implemented(name, dtype)}
    return found if has_float64(torch.device(device)) else found - DOUBLE


def taken(info: Any, backward: bool, device: str) -> set[torch.dtype]:
    """The dtypes that the database's entry takes on the device."""
    found = (info.supported_backward_dtypes if backward else info.supported_dtypes)(device)
    return found if has_float64(torch.device(device)) else found - DOUBLE


def implemented(name: str, dtype: torch.dtype) -> bool:
    """Whether torch's function takes the hard samples of that dtype."""
    try:
        list(hard_samples(name, dtype))
    except NotImplementedError:
        return False
    return True


def database_samples(
    name: str, dtype: torch.dtype, requires_grad: bool = True, device: str = "cpu"
) -> Iterator[Sample]:
    """PyTorch's own samples of an operation, of a dtype that it takes there; none where the database is not installed."""
    for info in opinfos(name):
        if dtype in taken(info, requires_grad, device):
            # They are drawn at once, from one seed, so that a sample's name is enough to have it again.
            with seeded(device):
                drawn = list(info.sample_inputs(device, dtype, requires_grad=requires_grad))
            for i, s in enumerate(drawn):
                # The database's own wrapper of a random operation draws from a seed of its own.
                builtin = OPS[name].builtin if name in RANDOM | SWAPPED else MEASURED.get(name, info.op)
                args = (*s.args, s.input) if name in SWAPPED else (s.input, *s.args)
                where = "-".join(filter(None, ("database", info.variant_test_name, str(i))))
                if not beyond(sample := Sample(builtin, args, s.kwargs, where, name), device):
                    yield sample


def beyond(sample: Sample, device: str) -> bool:
    """Whether an option asks for float64 where the device has none."""
    asked = {v for v in (*sample.args, *sample.kwargs.values()) if isinstance(v, torch.dtype)}
    return bool(asked & DOUBLE) and not has_float64(torch.device(device))


def hard_samples(name: str, dtype: torch.dtype, device: str = "cpu") -> Iterator[Sample]:
    """Our own samples of an operation: ties, kinks, extremes, rare options; KeyError where there is no such operation."""
    op = OPS[name]
    if name in SAMPLES and (dtype not in DOUBLE or has_float64(torch.device(device))):
        for i, (args, kwargs) in enumerate(SAMPLES[name](functools.partial(torch.tensor, dtype=dtype, device=device))):
            sample = Sample(MEASURED.get(name, op.builtin), args, kwargs, f"hard-{i}", name)
            if beyond(sample, device):
                continue
            learning = sample.map(lambda t: t.clone().requires_grad_() if t.dtype == dtype else t)
            try:
                run(op.builtin, learning)
            except RuntimeError as e:  # class weights and the like, which torch refuses to differentiate
                if "not differentiable with respect to argument" in str(e):
                    first = sample.args[0]
                    learning = sample.map(lambda t, first=first: t.clone().requires_grad_() if t is first else t)
                elif device == "cpu":  # elsewhere it may be what torch has not, or a pretended device
                    raise
            yield learning


def samples(name: str, dtype: torch.dtype, requires_grad: bool = True, device: str = "cpu") -> list[Sample]:
    """Both: PyTorch's samples and the hard ones."""
    return [*database_samples(name, dtype, requires_grad, device), *hard_samples(name, dtype, device)]


@functools.cache
def accelerator() -> torch.device | None:
    """The accelerator of this machine that torch can use, if there is one."""
    return torch.accelerator.current_accelerator(check_available=True)


def seed(number: int) -> None:
    """torch.manual_seed for what is in use: for an accelerator that is not yet, it would keep the text of the whole stack,
    which takes longer than most samples."""
    if (found := accelerator()) is None or (found.type == "cuda" and not torch.cuda.is_initialized()):
        torch.default_generator.manual_seed(number)
    else:
        torch.random.manual_seed(number)


@contextlib.contextmanager
def seeded(device: str) -> Iterator[None]:
    """Inside, random numbers from one seed, and PyTorch's databases, which seed before each sample, do so by `seed`; they look
    through the stack, which is deep under pytest, for no unittest that they would name."""
    quick = mock.patch.object(torch, "manual_seed", seed) if device == "cpu" else contextlib.nullcontext()
    with torch.random.fork_rng(devices=[]), quick, compat.of_no_unittest():
        torch.manual_seed(0)
        yield


def run(function: Any, sample: Sample, number: int = 0) -> Any:
    """Call it with the random numbers that every other call here draws."""
    seed(number)
    if sample.name in MUTATING:
        sample = sample.map(lambda t: t if t.requires_grad else t.clone())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice on arguments; that ours gives it too is a test of its own
        return function(*sample.args, **sample.kwargs)


def draws(sample: Sample) -> bool:
    """Whether the call's result depends on the random numbers: only on a CPU are those of one seed torch's and ours."""
    first = flat(run(sample.builtin, sample))
    others = (flat(run(sample.builtin, sample, number)) for number in range(1, 9))
    return any(not torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def flat(output: Any) -> list[Tensor]:
    """The tensors of an output, in order."""
    return list(tensors_in(output))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """As torch.utils._pytree.tree_leaves, without its registry, which takes longer than a small kernel."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(part)


def _mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The value with every tensor replaced, in the order of `tensors_in`."""
    if isinstance(value, Tensor):
        return function(value)
    if type(value) in (tuple, list):
        return type(value)([_mapped(function, part) for part in value])
    if type(value) is dict:
        return {name: _mapped(function, part) for name, part in value.items()}
    if isinstance(value, (tuple, list, dict)):  # one of a class of its own
        return tree_map(lambda v: function(v) if isinstance(v, Tensor) else v, value)
    return value


def floating(output: Any) -> Any:
    """The outputs that can have a derivative: the one tensor, or a tuple."""
    found = tuple(t for t in flat(output) if t.is_floating_point() or t.is_complex())
    return found[0] if len(found) == 1 else found


def layouts(outputs: list[Tensor]) -> Iterator[tuple[str, list[Tensor | None]]]:
    """Upstream gradients of every layout for all outputs together; where there are several, each absent in turn."""
    learning = [o for o in outputs if o.requires_grad]
    for parts in itertools.zip_longest(*map(upstream, learning)):
        usable = [part or next(upstream(o)) for part, o in zip(parts, learning, strict=True)]
        given = iter(usable)
        yield usable[0][0], [next(given)[1] if o.requires_grad else None for o in outputs]
    for i, o in enumerate(outputs):
        if o.requires_grad and len(learning) > 1:
            yield f"only output {i}", [next(upstream(o))[1] if o is p else None for p in outputs]


def upstream(output: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Random upstream gradients of the output's shape, in every layout that autograd may send."""
    shape = output.shape

    def draw(*size):
        generator = torch.Generator().manual_seed(len(size) + sum(size))
        return torch.randn(size, generator=generator, dtype=torch.float64, device="cpu").to(output.device, output.dtype)

    yield "dense", draw(*shape)
    if output.dim() >= 1:
        yield "expanded", draw(*(1 for _ in shape)).expand(shape)
        yield "narrowed", draw(*(2 * n + 1 for n in shape))[tuple(slice(1, None, 2) for _ in shape)]
    if output.dim() >= 2:
        yield "transposed", draw(*reversed(shape)).permute(*reversed(range(output.dim())))
    if output.dim() in (4, 5):
        format = torch.channels_last if output.dim() == 4 else torch.channels_last_3d
        yield "channels-last", draw(*shape).contiguous(memory_format=format)


def gradients(output: Any, sample: Sample, dy: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    """By autograd, of the sample's tensors that want one, from one upstream gradient an output; None where it is absent."""
    pairs = [(o, d) for o, d in zip(flat(output), dy, strict=True) if d is not None]
    outputs, upstreams = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, sample.learning(), upstreams, retain_graph=True, allow_unused=True)


def lifted(t: Tensor) -> Tensor:
    """A tensor in the reference precision, with the same values, on the CPU, where that is computed."""
    if not (t.is_floating_point() or t.is_complex()):
        return t.cpu()
    return exactly(t.detach()).requires_grad_(t.requires_grad)


def widened(sample: Sample) -> Sample:
    """The call in the reference precision; a default that torch takes from the dtype stays that of the call's."""

    def finer(v: Any) -> Any:  # the dtype that an option asks for
        return exact(v) if isinstance(v, torch.dtype) and (v.is_floating_point or v.is_complex) else v

    wide = sample.map(lifted)
    wide.args, wide.kwargs = tree_map(finer, (wide.args, wide.kwargs))
    if sample.name in EPS_OF_DTYPE:
        eps = torch.finfo(torch.promote_types(sample.tensors()[0].dtype, torch.float32)).eps
        module = getattr(sample.builtin, "module", None)
        if module is not None and module.eps is None:
            wide.builtin, module = copy.copy(sample.builtin), copy.copy(module)
            wide.builtin.module, module.eps = module, eps
        elif module is None:
            given = inspect.signature(sample.builtin).bind(*wide.args, **wide.kwargs)
            if given.arguments.get("eps") is None:
                wide.builtin = functools.partial(sample.builtin, eps=eps)
                wide.args, wide.kwargs = given.args[:3], {}
    return wide


def exact(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which the reference value of a lower precision is computed."""
    return torch.complex128 if dtype.is_complex else torch.float64


def exactly(t: Tensor) -> Tensor:
    """The tensor in the reference precision, on the CPU: other devices round constants, or have no float64."""
    return t.cpu().to(exact(t.dtype))


def error(actual: Tensor, reference: Tensor) -> float:
    """The largest difference, in units of the reference's largest value; infinities and NaN must agree."""
    actual, reference = exactly(actual.detach()), exactly(reference.detach()).to(exact(actual.dtype))
    if actual.shape != reference.shape:
        return float("inf")
    if not reference.numel():
        return 0.0
    difference = float((actual - reference).abs().max())
    if math.isfinite(difference):
        return difference / max(1.0, float(reference.abs().max()))
    finite = reference.isfinite()
    special = torch.where(finite, 0, reference)
    if not torch.equal(torch.nan_to_num(torch.where(actual.isfinite(), 0, actual), nan=7.0),
                       torch.nan_to_num(special, nan=7.0)):  # fmt: skip
        return float("inf")
    distance = torch.where(finite, actual - reference, 0).abs()
    scale = torch.where(finite, reference, 0).abs()
    return float(distance.max() / scale.max().clamp(min=1))

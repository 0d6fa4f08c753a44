"""A whole training step of each network, by explicit gradients and in every way that torch offers to take it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import builtin, manual, models
from ..core.flat import flatten
from ..core.names import one_of
from ..step.compile import compile_step
from ..step.products import Products, by_onednn
from .measure import measure
from .optimizers import ways

SGD = ("SGD", {"lr": 1e-3})
MOMENTUM = ("SGD", {"lr": 1e-3, "momentum": 0.9})
ADAM = ("Adam", {"lr": 1e-4})
ADAMW = ("AdamW", {"lr": 1e-4})
IMAGES = (1, 8, 8)


@dataclass(frozen=True)
class Network:
    """A network to be trained: `make` makes it of a namespace, of inputs of the shape (without the batch).

    target: "classes" (of 10, or of `classes`), "input" (an autoencoder) or "next" (the next of `classes` symbols).
    """

    make: Callable[[Any], Any]
    shape: tuple[int, ...]
    batches: tuple[int, ...] = (200,)
    optimizers: tuple[tuple[str, dict[str, Any]], ...] = (MOMENTUM,)
    target: str = "classes"
    classes: int = 10
    loss: str = "CrossEntropyLoss"

    def data(self, batch: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """A batch of random inputs and targets, the same at each call."""
        generator = torch.Generator().manual_seed(0)
        if self.target == "next":
            text = torch.randint(self.classes, (batch, *self.shape), generator=generator).to(device)
            return text, text.roll(-1, 1)
        x = torch.randn((batch, *self.shape), generator=generator).to(device)
        if self.target == "input":
            return x, x
        return x, torch.randint(self.classes, (batch,), generator=generator).to(device)


NETWORKS = {
    "mlp": Network(lambda ns: models.mlp(ns, 64, 128, 10), (64,), (200, 1), (SGD, MOMENTUM, ADAM, ADAMW)),
    "mlp_large": Network(lambda ns: models.mlp(ns, 1024, 1024, 1000), (1024,), (256,), (SGD, ADAM), classes=1000),
    "rbf_network": Network(lambda ns: models.rbf_network(ns, 64, 200, 10), (64,)),
    "locally_connected": Network(models.locally_connected, IMAGES),
    "cnn": Network(models.cnn, IMAGES, optimizers=(MOMENTUM, ADAM)),
    "residual_network": Network(models.residual_network, IMAGES),
    "rnn": Network(lambda ns: models.row_classifier(ns, "RNN"), IMAGES),
    "lstm": Network(lambda ns: models.row_classifier(ns, "LSTM"), IMAGES, optimizers=(MOMENTUM, ADAM)),
    "gru": Network(lambda ns: models.row_classifier(ns, "GRU"), IMAGES),
    "transformer": Network(models.vision_transformer, IMAGES, optimizers=(MOMENTUM, ADAMW)),
    "language_model": Network(lambda ns: models.language_model(ns, 64), (32,), (32,), (ADAM,), "next", 64),
    "autoencoder": Network(models.autoencoder, (64,), target="input", loss="MSELoss"),
    "convolutional_autoencoder": Network(models.convolutional_autoencoder, IMAGES, target="input", loss="MSELoss"),
    "variational_autoencoder": Network(
        models.variational_autoencoder, (64,), optimizers=(ADAM,), target="input", loss="VariationalLoss"
    ),
}  # fmt: skip
SAME = ", same products"
GRAPH = "reduce-overhead"  # torch.compile's name of what captures a CUDA graph
MANUAL = ("manual", "manual played back", "manual compiled", "manual CUDA graph")


def time_steps(
    name: str,
    *,
    device: torch.device | str = "cpu",
    compile: bool = False,
    rounds: int = 20,
    seconds: float | None = None,
    threads: int = 1,
) -> list[dict[str, Any]]:
    """Seconds of a training step of a network of NETWORKS, one record a batch size and optimizer; as in the JSON.

    manual: `manual.training.step` on the network with its parameters laid into one tensor. manual played back, manual
    compiled: by `compile_step`, without and with a compiler. builtin ...: zero_grad, forward, backward, step of torch.nn, with
    the optimizer's default, foreach and fused ways, with the forward compiled and with all of the step compiled. ... CUDA
    graph: the compiled step as one, on a card. products: the matrix products of the affine layers alone, where there is nothing
    else: what no implementation can be faster than.
    The steps by hand take the products that training takes (`dlref.products`), the built-in ones torch's choice; where these
    are others, "builtin ..., same products" are the built-in ones with ours. Each variant trains a network of its own from one
    start. ValueError where there is no network of that name.
    """
    one_of("name", name, NETWORKS)
    case, found = NETWORKS[name], []
    for batch in case.batches:
        for optimizer in case.optimizers:
            times = measure(step_variants(case, batch, optimizer, device, compile), rounds, seconds, threads)
            variants = times.seconds
            same = [variant for variant in variants if variant.endswith(SAME)]
            theirs = [variant for variant in variants if variant.startswith("builtin") and variant not in same]
            ratios = {key: vars(times.ratio(key, theirs)) for key in MANUAL if key in variants}
            if same:
                ratios["builtin" + SAME] = vars(times.ratio(times.fastest(same), theirs))
            if "products" in variants:
                ratios["over products"] = vars(times.ratio(times.fastest(MANUAL), ["products"]))
            label, options = optimizer
            label += " momentum" if options.get("momentum") else ""
            found.append({"name": name, "batch": batch, "optimizer": label, "times": times.as_dict(), "ratios": ratios})
    return found


def step_variants(
    case: Network, batch: int, optimizer: tuple[str, dict[str, Any]], device: torch.device | str, compile: bool
) -> dict[str, Callable[[], Any]]:
    """The steps that are timed."""
    x, y = case.data(batch, device)

    def parts(space: Any, **way: Any) -> tuple[Any, Any, Any]:
        return step_parts(case, space, optimizer, device, **way)

    def step(space: Any, parts: tuple[Any, Any, Any]) -> Callable[[], Any]:
        by = Products(parts[0]) if space is manual else lambda x: contextlib.nullcontext()

        def take() -> Any:
            with by(x):
                return space.training.step(*parts, x, y)

        return take

    variants: dict[str, Callable[[], Any]] = {
        "manual": step(manual, parts(manual)),
        "manual played back": functools.partial(compile_step(*parts(manual), backend="eager"), x, y),
    }
    for name, way in ways(getattr(torch.optim, optimizer[0])).items():
        variants[name] = step(builtin, parts(builtin, **way))
    if compile:
        torch.compiler.reset()  # the code of another network would make this one's shapes dynamic
        variants["manual compiled"] = functools.partial(compile_step(*parts(manual)), x, y)
        network, criterion, rule = parts(builtin)
        variants["builtin forward compiled"] = step(builtin, (torch.compile(network, dynamic=False), criterion, rule))
        variants["builtin step compiled"] = torch.compile(step(builtin, parts(builtin)), dynamic=False)
        if x.is_cuda:
            variants["manual CUDA graph"] = functools.partial(compile_step(*parts(manual), mode=GRAPH), x, y)
            variants["builtin CUDA graph"] = torch.compile(step(builtin, parts(builtin)), dynamic=False, mode=GRAPH)
    (by := Products(case.make(builtin).to(device)))(x)
    if by.taken == "onednn":
        variants |= {way + SAME: with_onednn(work) for way, work in variants.items() if way.startswith("builtin")}
    layers = [layer for layer in case.make(builtin).modules() if not isinstance(layer, nn.Sequential)]
    if all(isinstance(layer, (nn.Linear, nn.ReLU)) for layer in layers):
        variants["products"] = _products([layer for layer in layers if isinstance(layer, nn.Linear)], x)
    return variants


def with_onednn(work: Callable[[], Any]) -> Callable[[], Any]:
    def take() -> Any:
        with by_onednn():
            return work()

    return take


def step_parts(
    case: Network, space: Any, optimizer: tuple[str, dict[str, Any]], device: torch.device | str, **way: Any
) -> tuple[Any, Any, Any]:
    """Network, criterion and optimizer in a namespace, from one start in both; by hand with its parameters in one tensor."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = case.make(space).to(device)
    if space is manual:
        flatten(network)
    kind, options = optimizer
    return network, getattr(space.nn, case.loss)(), getattr(space.optim, kind)(network.parameters(), **options, **way)


def _products(layers: Sequence[nn.Linear], x: Tensor) -> Callable[[], None]:
    """The products of a step of affine layers: forward, and of the gradients all but that of the network's input."""
    sizes = [(layer.in_features, layer.out_features) for layer in layers]
    inputs = [x.new_ones(len(x), n) for n, _ in sizes]
    outputs = [x.new_ones(len(x), m) for _, m in sizes]
    weights = [layer.weight.detach().to(x.device) for layer in layers]

    def products() -> None:
        for a, w in zip(inputs, weights, strict=True):
            a @ w.t()
        for i, (a, dy, w) in enumerate(zip(inputs, outputs, weights, strict=True)):
            dy.t() @ a
            if i:
                dy @ w

    return products

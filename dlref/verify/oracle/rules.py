"""Rules of optimizers that are taken for another: each is a hypothesis of what a candidate does where it goes another way."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

Options = dict[str, Any]


class Rule(torch.optim.Optimizer):
    """An optimizer of a function that changes one parameter; options it is not given are the reference's defaults."""

    def __init__(self, rule: Callable[..., None], reference: type, params: Any, **options: Any):
        known = inspect.signature(reference).parameters
        super().__init__(params, {n: p.default for n, p in known.items() if p.default is not p.empty} | options)
        self.rule = rule

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        returned = None if closure is None else closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.rule(p, -p.grad if group.get("maximize") else p.grad, self.state[p], group)
        return returned


def sgd(p: Tensor, g: Tensor, state: Options, o: Options, *, nesterov: bool | None = None, dampened: bool = False,
        inside: bool = False, decoupled: bool = False) -> None:  # fmt: skip
    """nesterov: always or never. dampened: the first gradient, too. inside: v = mu v + lr g. decoupled: the decay."""
    if decoupled:
        p.mul_(1 - o["lr"] * o["weight_decay"])
    else:
        g = g + o["weight_decay"] * p
    lr, mu, part = o["lr"], o["momentum"], 1 - o["dampening"]
    if mu:
        first = "v" not in state
        g = lr * g if inside else g
        state["v"] = mu * state.get("v", torch.zeros_like(g)) + (g if first and not dampened else part * g)
        g = g + mu * state["v"] if (o["nesterov"] if nesterov is None else nesterov) else state["v"]
    p.sub_(g if mu and inside else lr * g)


def adam(p: Tensor, g: Tensor, state: Options, o: Options, *, inside: bool = False, corrected: tuple[bool, bool] = (True, True),
         decay: str = "", early: bool = False) -> None:  # fmt: skip
    """inside: eps in the root. corrected: which moment's bias. decay: added, decoupled, or without the rate. early: eps
    before the second moment's correction."""
    if o["amsgrad"]:
        raise ValueError
    (a, b), lr, wd = o["betas"], o["lr"], o["weight_decay"]
    if decay == "added":
        g = g + wd * p
    elif decay:
        p.mul_(1 - (wd if decay == "without the rate" else lr * wd))
    state["t"] = t = state.get("t", 0) + 1
    state["m"] = a * state.get("m", torch.zeros_like(g)) + (1 - a) * g
    state["v"] = b * state.get("v", torch.zeros_like(g)) + (1 - b) * g * g
    m = state["m"] / (1 - a**t) if corrected[0] else state["m"]
    c = 1 - b**t if corrected[1] else 1.0
    root = (
        (state["v"] / c + o["eps"]).sqrt() if inside else (state["v"] / c).sqrt() + o["eps"] / (c**0.5 if early else 1)
    )
    p.sub_(lr * m / root)


def rmsprop(p: Tensor, g: Tensor, state: Options, o: Options, *, momentum: str = "") -> None:
    """With eps inside the root; momentum: of the gradients, or with the rate inside."""
    if o["centered"] or o["momentum"]:
        raise ValueError
    g = g + o["weight_decay"] * p
    state["v"] = o["alpha"] * state.get("v", torch.zeros_like(g)) + (1 - o["alpha"]) * g * g
    p.sub_(o["lr"] * g / (state["v"] + o["eps"]).sqrt())


def adagrad(p: Tensor, g: Tensor, state: Options, o: Options) -> None:
    """With eps inside the root."""
    g, t = g + o["weight_decay"] * p, state.setdefault("t", 0)
    state["v"] = state.get("v", torch.full_like(g, o["initial_accumulator_value"])) + g * g
    state["t"] = t + 1
    p.sub_(o["lr"] / (1 + t * o["lr_decay"]) * g / (state["v"] + o["eps"]).sqrt())


how = functools.partial
ADAM: list[tuple[str, Callable[..., None]]] = [
    ("eps stands inside of the root", how(adam, inside=True)),
    ("eps is added before the second moment's bias is corrected", how(adam, early=True)),
    ("the moments' bias is not corrected", how(adam, corrected=(False, False))),
    ("the first moment's bias is not corrected", how(adam, corrected=(False, True))),
    ("the second moment's bias is not corrected", how(adam, corrected=(True, False))),
]
ADDED, DECOUPLED = "its weight decay is added to the gradient, as Adam's", "its weight decay is decoupled, as AdamW's"
UNSCALED = "its weight decay is decoupled and not multiplied by the learning rate"


def decayed(rules: list, decay: str) -> list[tuple[str, Callable[..., None]]]:
    return [(text, how(rule, decay=decay)) for text, rule in rules]


RULES: dict[str, list[tuple[str, Callable[..., None]]]] = {
    "SGD": [
        ("nesterov is always on", how(sgd, nesterov=True)),
        ("nesterov is never on", how(sgd, nesterov=False)),
        ("the first gradient is dampened, too", how(sgd, dampened=True)),
        ("the learning rate stands inside of the momentum", how(sgd, inside=True)),
        ("its weight decay is decoupled", how(sgd, decoupled=True)),
    ],
    "Adam": [*decayed(ADAM, "added"), (DECOUPLED, how(adam, decay="decoupled")),
             (UNSCALED, how(adam, decay="without the rate"))],
    "AdamW": [*decayed(ADAM, "decoupled"), (ADDED, how(adam, decay="added")), (UNSCALED, how(adam, decay="without the rate"))],
    "RMSprop": [("eps stands inside of the root", rmsprop)],
    "Adagrad": [("eps stands inside of the root", adagrad)],
}  # fmt: skip


def rules(reference: type, kwargs: Options) -> Iterator[tuple[str, Callable[..., Any], Options]]:
    """(words, maker, options) of what an optimizer with these options may be taken for."""
    known = inspect.signature(reference).parameters
    for option, value in kwargs.items():
        yield f"ignores {option} ({value!r})", reference, {k: v for k, v in kwargs.items() if k != option}
    if "maximize" in known:
        yield "goes uphill", reference, {**kwargs, "maximize": not kwargs.get("maximize", False)}
    for text, rule in RULES.get(reference.__name__, ()):
        yield text, how(Rule, rule, reference), kwargs

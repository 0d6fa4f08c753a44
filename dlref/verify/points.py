"""Where operations are held to fifty digits: numbers and rows that a dtype holds, and the cases made of them.

Zeros, subnormals, kinks and their neighbours, tails, the largest numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

NONE = {"reduction": "none"}


@dataclass(frozen=True)
class Case:
    """An operation with options, and where it is tried.

    points: the values of each argument that varies, as a function of the dtype: numbers, or rows for vectors.
    options: numbers, the equation's and torch's. fixed: numbers of the equation that torch takes as a tensor, one a point.
    only_call: what only the call takes. batch: the first argument has a batch of one before the points.
    """

    name: str
    points: Callable[[torch.dtype], dict[str, list]]
    options: dict[str, Any] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    only_call: dict[str, Any] = field(default_factory=dict)
    batch: bool = False

    @property
    def label(self) -> str:
        return ", ".join([self.name, *(f"{k}={v}" for k, v in (self.options | self.fixed).items())])


MIDDLE = (1e-8, 1e-3, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.2784645, 1.5, 2.0, 3.0, 5.0)
FAR = (8.0, 9.5, 12.0, 13.2, 17.0, 20.0, 30.0, 37.0, 38.2, 40.0, 60.0, 87.5, 90.0, 100.0, 103.0, 400.0, 700.0, 709.5, 720.0,
       742.0)  # fmt: skip


def extremes(dtype: torch.dtype) -> list[float]:
    """Zero, subnormal numbers, the smallest normal one, and what is near the largest."""
    kind = torch.finfo(dtype)
    smallest = kind.tiny * kind.eps
    return [
        0.0,
        smallest,
        5 * smallest,
        kind.tiny,
        math.sqrt(kind.tiny),
        1e4,
        math.sqrt(kind.max),
        kind.max / 2,
        kind.max,
    ]


def held(numbers: Any, dtype: torch.dtype) -> list[float]:
    """The numbers as the dtype holds them, each once (both zeros)."""
    rounded = torch.tensor(list(numbers), dtype=torch.float64).to(dtype).double()
    return [v for v, _ in dict.fromkeys((v, math.copysign(1, v)) for v in rounded.tolist() if math.isfinite(v))]


def both_signs(numbers: list[float]) -> list[float]:
    return [s * v for v in numbers for s in (1.0, -1.0)]


def line(*kinks: float) -> Callable[[torch.dtype], list[float]]:
    """Numbers of every size and both signs, and the kinks with their neighbours."""

    def numbers(dtype: torch.dtype) -> list[float]:
        near = torch.tensor(kinks, dtype=torch.float64).to(dtype)
        ends = (torch.full_like(near, end) for end in (math.inf, -math.inf))
        beside = [v for end in ends for v in torch.nextafter(near, end).tolist()]
        drawn = torch.randn(24, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu") * 4
        all_of_them = [*both_signs([*extremes(dtype), *MIDDLE, *FAR]), *near.tolist(), *beside, *drawn.tolist()]
        return held(all_of_them, dtype)

    return numbers


def alone(argument: str = "input", *kinks: float) -> Callable[[torch.dtype], dict[str, list]]:
    return lambda dtype: {argument: line(*kinks)(dtype)}


def pairs(**arguments: list[float] | None) -> Callable[[torch.dtype], dict[str, list]]:
    """Every combination of numbers for several arguments; None stands for the line, without its drawn numbers' crowd."""

    def points(dtype: torch.dtype) -> dict[str, list]:
        lines = [line()(dtype)[::3] if numbers is None else held(numbers, dtype)
                 for numbers in arguments.values()]  # fmt: skip
        return dict(zip(arguments, map(list, zip(*itertools.product(*lines), strict=True)), strict=True))

    return points


ROWS = (
    (0.0, 0.0, 0.0), (1.0, 1.0, -2.0), (37.43, 0.0, -1.0), (-3.0, 37.43, 36.0), (0.5, -0.0, 40.0), (88.5, 0.0, 1.0),
    (-104.0, 0.0, 0.0), (700.0, 0.0, -30.0), (0.0, -740.0, -744.0), (1e4, -1e4, 9990.0), (1e-3, 2e-3, -1e-3), (-0.7, 1.3, 2.9),
    (17.0, 17.0, -17.0),
)  # fmt: skip


def rows(
    *names: str, scales: tuple[float, ...] = (1.0,), wide: bool = True, zero: bool = True
) -> Callable[[torch.dtype], dict[str, list]]:
    """Rows with ties, with one entry far above or below, and with the smallest and the largest numbers of the dtype."""

    def points(dtype: torch.dtype) -> dict[str, list]:
        kind = torch.finfo(dtype)
        drawn = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu") * 3
        few = [tuple(s * v for v in row) for s in scales for row in (*ROWS[not zero :], *drawn.tolist())]
        if wide:
            few += [(kind.max, 0.0, 1.0), (kind.max / 2, -kind.max / 2, kind.max / 2), (kind.tiny, 0.0, -2 * kind.tiny)]
        few = [tuple(torch.tensor(row, dtype=torch.float64).to(dtype).tolist()) for row in few]
        few = [row for row in few if all(map(math.isfinite, row))]
        return {name: few[4 * i :] + few[: 4 * i] for i, name in enumerate(names)}

    return points


def one_column(points: Callable[[torch.dtype], dict[str, list]]) -> Callable[[torch.dtype], dict[str, list]]:
    """Numbers as rows of one entry."""
    return lambda dtype: {name: [(v,) for v in values] for name, values in points(dtype).items()}


def first_of(name: str, points: Callable[[torch.dtype], dict[str, list]]) -> Callable[[torch.dtype], dict[str, list]]:
    """Rows, but for one argument's, of which the first entry is taken."""
    return lambda dtype: {n: [v[:1] for v in values] if n == name else values for n, values in points(dtype).items()}


def with_probabilities(points: Callable[[torch.dtype], dict[str, list]]) -> Callable[[torch.dtype], dict[str, list]]:
    """Rows of logits, each with a target of probabilities."""
    targets = [(0.0, 1.0, 0.0), (0.25, 0.5, 0.25), (1.0, 0.0, 0.0)]

    def both(dtype: torch.dtype) -> dict[str, list]:
        logits = points(dtype)
        return logits | {"target": [targets[i % 3] for i in range(len(logits["input"]))]}

    return both


def tokens(dtype: torch.dtype) -> dict[str, list]:
    """Sequences of one token: with a ratio that is clipped or not, up or down, and advantages of both signs."""
    found = pairs(logps=[-90.0, -3.0, -0.75, -1e-3], old_logps=[-2.5, -0.625], reference_logps=[-3.0, -0.5],
                  advantages=[2.0, 1e-3, -0.75])(dtype)  # fmt: skip
    return {name: values if name == "advantages" else [(v,) for v in values] for name, values in found.items()}


def at(**arguments: Any) -> Callable[[torch.dtype], dict[str, list]]:
    """One point."""
    return lambda dtype: {name: [value] for name, value in arguments.items()}


UNIT = [2.0**-20, 1e-3, 0.25, 0.5, 0.75, 0.96875]
LABELS = [0.0, 1.0, 0.25, 0.9]
SIGNS = [1.0, -1.0]
SIZES = [0.0, 1e-3, 1.0, 3.0, 1e4]


def cases() -> Iterator[Case]:
    yield Case("relu", alone())
    yield Case("relu6", alone("input", 6.0))
    yield Case("threshold", alone("input", 0.5), {"threshold": 0.5, "value": -2.0})
    yield Case("leaky_relu", alone(), {"negative_slope": 0.25})
    yield Case("prelu", pairs(input=None, weight=[0.25, -2.0]), batch=True)
    yield Case("rrelu", alone(), {"lower": 0.25, "upper": 0.5})
    yield Case("elu", alone(), {"alpha": 0.75})
    yield Case("celu", alone(), {"alpha": 2.0})
    yield Case("selu", alone())
    yield Case("hardtanh", alone("input", -0.5, 2.0), {"min_val": -0.5, "max_val": 2.0})
    yield Case("hardsigmoid", alone("input", -3.0, 3.0))
    yield Case("hardswish", alone("input", -3.0, -1.5, 3.0))
    yield Case("hardshrink", alone("input", -0.5, 0.5), {"lambd": 0.5})
    yield Case("softshrink", alone("input", -0.5, 0.5), {"lambd": 0.5})
    yield Case("sigmoid", alone())
    yield Case("tanh", alone())
    yield Case("logsigmoid", alone())
    yield Case("softplus", alone("input", 20.0), {"beta": 1.0, "threshold": 20.0})
    yield Case("softplus", alone("input", 1.5), {"beta": 2.0, "threshold": 3.0})
    yield Case("softsign", alone())
    yield Case("tanhshrink", alone())
    yield Case("silu", alone())
    yield Case("mish", alone())
    yield Case("gelu", alone("input", -0.7517915), {"approximate": "none"})
    yield Case("gelu", alone("input", -0.7523765), {"approximate": "tanh"})
    yield Case("swiglu", pairs(gate=None, up=[0.25, -2.0]))
    yield Case("geglu", pairs(gate=None, up=[0.25, -2.0]), {"approximate": "none"})
    yield Case("geglu", pairs(gate=None, up=[0.25, -2.0]), {"approximate": "tanh"})
    yield Case("glu", lambda dtype: {"input": [
        pair for pair in list(itertools.product(line()(dtype)[::4], repeat=2))[::3] if abs(pair[0]) < 1e30]})  # fmt: skip
    for name, options in (
        ("l1_loss", {}),
        ("mse_loss", {}),
        ("smooth_l1_loss", {"beta": 0.5}),
        ("huber_loss", {"delta": 2.0}),
    ):
        yield Case(name, pairs(input=None, target=[0.0, 1.0, -3.0]), options, {}, NONE)
    yield Case("binary_cross_entropy", pairs(input=UNIT, target=LABELS), {}, {}, NONE)
    logits = pairs(input=None, target=LABELS)
    yield Case("binary_cross_entropy_with_logits", logits, {}, {}, NONE)
    yield Case("binary_cross_entropy_with_logits", logits, {}, {"weight": 0.5, "pos_weight": 3.0}, NONE)
    yield Case("soft_margin_loss", pairs(input=None, target=SIGNS), {}, {}, NONE)
    yield Case("multilabel_soft_margin_loss", one_column(logits), {}, {}, NONE)
    for log_input, full in itertools.product((True, False), repeat=2):
        inputs = None if log_input else [0.0, 1e-30, 1e-3, 1.0, 30.0, 1e4]
        yield Case("poisson_nll_loss", pairs(input=inputs, target=[0.0, 0.5, 1.0, 1.5, 30.0]),
                   {"log_input": log_input, "full": full, "eps": 2.0**-10}, {}, NONE)  # fmt: skip
    normal = pairs(input=[-3.0, 1e-3, 1.0, 2.0, 1e3], target=[0.0, 1.0, -50.0], var=[1e-3, 1.0, 4.0, 3e4])
    yield Case("gaussian_nll_loss", normal, {"full": True}, {}, NONE)
    yield Case(
        "kl_div", pairs(input=[-1e3, -5.0, -1.0, -1e-3, 0.0], target=[*UNIT, 1.0]), {"log_target": False}, {}, NONE
    )
    yield Case("kl_div", pairs(input=[-1e3, -5.0, -1.0, -1e-3, 0.0], target=[-740.0, -90.0, -2.0, -1e-3, 0.0]),
               {"log_target": True}, {}, NONE)  # fmt: skip
    for sign in SIGNS:
        yield Case("hinge_embedding_loss", alone("input", 1.0), {"margin": 1.0}, {"target": sign}, NONE)
        yield Case(
            "margin_ranking_loss", pairs(input1=SIZES, input2=[*SIZES, -7.5]), {"margin": 1.0}, {"target": sign}, NONE
        )
        yield Case("cosine_embedding_loss", rows("input1", "input2", scales=(1.0, 1e-3), wide=False), {"margin": 0.25},
                   {"target": sign}, NONE)  # fmt: skip
    for name in ("softmax", "softmin", "log_softmax"):
        yield Case(name, rows("input", scales=(1.0, -1.0)), {}, {}, {"dim": -1})
    scores = rows("input", scales=(1.0, -1.0))
    for target, smoothing in itertools.product((0, 1), (0.0, 0.125)):
        yield Case("cross_entropy", scores, {"label_smoothing": smoothing}, {"target": target}, NONE)
    yield Case("cross_entropy", with_probabilities(scores), {"label_smoothing": 0.0}, {}, NONE)
    for p in (2.0, 3.0):
        yield Case("normalize", rows("input", wide=False), {"p": p, "eps": 2.0**-10}, {}, {"dim": -1})
    yield Case("weight_norm", first_of("weight_g", rows("weight_g", "weight_v", wide=False, zero=False)))
    yield Case("cosine_similarity", rows("x1", "x2", scales=(-1.0,), wide=False, zero=False), {}, {}, {"dim": -1})
    for p in (1.5, 2.0, 3.0):
        yield Case("pairwise_distance", rows("x1", "x2", wide=False), {"p": p, "eps": 2.0**-10})
    yield Case("sparsemax", rows("input", scales=(1.0, 0.25, -0.125)), {}, {}, {"dim": -1})
    yield Case("entmax", rows("input", scales=(1.0, 0.25, -0.125)), {"alpha": 1.5}, {}, {"dim": -1})
    logs = pairs(
        input=[-1e3, -90.0, -5.0, -1.0, -0.5, -1e-3, 0.0], target=[-740.0, -89.0, -2.0, -0.4375, -2e-3, -(2.0**-20)]
    )
    for beta in (0.5, 0.125, 0.0, 1.0):
        yield Case("js_div", logs, {"beta": beta}, {}, NONE)
    yield Case("tv_distance", logs, {}, {}, NONE)
    yield Case("z_loss", rows("input", wide=False), {"coefficient": 0.25}, {}, NONE)
    for target, gamma in itertools.product((0, 1), (0.0, 0.5, 2.0)):
        yield Case("focal_loss", scores, {"gamma": gamma}, {"target": target}, NONE)
    answers = pairs(chosen=[-10.0, -31.5, -700.0], rejected=[-12.0, -7.0, -1e-3], reference_chosen=[-11.0, -1e3],
                    reference_rejected=[-11.5, -8.0])  # fmt: skip
    for smoothing in (0.0, 0.125):
        yield Case("dpo_loss", answers, {"beta": 0.25, "label_smoothing": smoothing}, {}, NONE)
    yield Case("kto_loss", pairs(logps=[-10.0, -31.5, -700.0, -7.0], reference_logps=[-11.0, -8.0, -1e3]), {"beta": 0.25},
               {"kl": 0.5, "desirable": True}, NONE)  # fmt: skip
    means = pairs(chosen=[-90.0, -2.0, -0.75, -0.5, -1e-3], rejected=[-30.0, -3.0, -0.7, -0.5, -(2.0**-20)])
    yield Case("simpo_loss", means, {"beta": 2.0, "gamma": 0.5}, {}, NONE)
    yield Case("orpo_loss", means, {"weight": 0.5}, {}, NONE)
    yield Case("grpo_loss", tokens, {"beta": 0.25, "epsilon": 0.25}, {}, NONE)
    for smooth in (1.0, 2.0**-10):
        regions = at(input=(0.75, 0.125, 1.0, 0.0), target=(1.0, 0.0, 1.0, 0.25))
        yield Case("dice_loss", regions, {"smooth": smooth})
        yield Case("tversky_loss", regions, {"alpha": 0.25, "beta": 0.75, "smooth": smooth})

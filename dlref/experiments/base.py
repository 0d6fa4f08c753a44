"""What an experiment is: a claim of the article, how it is tried, the numbers that decide, and the verdict."""

from __future__ import annotations

import json
import math
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .. import builtin, manual
from ..core.extras import optional

HOLDS, IN_PART, FAILS = "holds", "holds in part", "does not hold"
# How far the side by hand and the built-in side may be apart, as a share of the largest value of a curve: in float64 they
# start apart by 1e-16, and a training multiplies that.
AGREEMENT = 1e-6


@dataclass(frozen=True)
class Rule:
    """What the claim says of one number, in its mean over the seeds: a bound that was set before anything was measured."""

    number: str
    at_least: float = -math.inf
    at_most: float = math.inf

    def __call__(self, value: float) -> bool:
        return self.at_least <= value <= self.at_most

    @property
    def bounds(self) -> str:
        named = {"at least": self.at_least, "at most": self.at_most}
        return " and ".join(f"{name} {bound:g}" for name, bound in named.items() if math.isfinite(bound))


@dataclass(frozen=True)
class Found:
    """What one seed gives.

    numbers: by name, for the rules. curves: by name, lists for the picture. varying: numbers too, of seconds or of
    rounding errors, which are not compared between the sides.
    """

    numbers: dict[str, float]
    curves: dict[str, Any] = field(default_factory=dict)
    varying: dict[str, float] = field(default_factory=dict)

    @property
    def all(self) -> dict[str, float]:
        return self.numbers | self.varying


class Experiment:
    """A claim is the docstring of a subclass, in our own words.

    section: of the article. title: of its picture, its name if empty. setup: what is done. rules: what the claim says of the
    numbers. epochs: passes or steps of a training, which a test makes fewer. compared: after how many the two sides are
    compared, where rounding errors grow so fast that they must be so after fewer. `measure` gives what one seed gives, by one
    namespace, and ArithmeticError is raised where a number of it is not finite; `plot` draws all seeds.
    """

    section: ClassVar[str]
    title: ClassVar[str] = ""
    setup: ClassVar[str]
    rules: ClassVar[tuple[Rule, ...]]
    epochs: ClassVar[int] = 1
    compared: ClassVar[int | None] = None

    def __init__(self, name: str):
        self.name = name

    @property
    def claim(self) -> str:
        return " ".join((type(self).__doc__ or "").split())

    def measure(self, ns: Any, seed: int, epochs: int) -> Found:
        raise NotImplementedError

    def plot(self, figure: Any, runs: list[Found]) -> None:
        raise NotImplementedError

    def verdict(self, means: dict[str, float]) -> str:
        """All rules are met, none, or some."""
        met = [rule(means[rule.number]) for rule in self.rules]
        return HOLDS if all(met) else IN_PART if any(met) else FAILS

    def run(self, folder: Path, seeds: int = 5, epochs: int | None = None) -> dict[str, Any]:
        """Measure by hand for each seed and by the built-in side for the first; result.json and NAME.png go to the folder."""
        epochs, start = epochs or self.epochs, time.perf_counter()
        runs = [self.measure(manual, seed, epochs) for seed in range(seeds)]
        values = {name: [run.all[name] for run in runs] for name in runs[0].all}
        for name, found in values.items():
            if not all(map(math.isfinite, found)):
                raise ArithmeticError(f"{self.name}: {name} must be finite, it is {found}")
        compared = min(epochs, self.compared or epochs)
        first = runs[0] if compared == epochs else self.measure(manual, 0, compared)
        means = {name: statistics.fmean(found) for name, found in values.items()}
        verdict = self.verdict(means)
        result: dict[str, Any] = {
            "name": self.name, "section": self.section, "claim": self.claim, "setup": " ".join(self.setup.split()),
            "verdict": verdict, "seeds": seeds, "epochs": epochs,
            "rules": [{"number": r.number, "must be": r.bounds, "met": r(means[r.number]),
                       "seeds that meet it": sum(map(r, values[r.number]))} for r in self.rules],
            "numbers": {name: {"mean": means[name], "deviation": statistics.pstdev(found), "values": found}
                        for name, found in values.items()},
            "built-in differs by": apart(first, self.measure(builtin, 0, compared)), "compared after": compared,
        }  # fmt: skip
        self.draw(folder / f"{self.name}.png", runs, verdict)
        result["seconds"] = time.perf_counter() - start
        (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
        return result

    @optional()
    def draw(self, path: Path, runs: list[Found], verdict: str) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4.2), layout="constrained")
        self.plot(figure, runs)
        figure.suptitle(f"{self.title or self.name.replace('_', ' ')}: the claim {verdict}", fontsize=11)
        figure.savefig(path, dpi=120, metadata={"Software": None})


def apart(ours: Found, theirs: Found) -> float:
    """The largest difference of two sides' numbers and curves, each as a share of the largest value of its curve."""
    largest = 0.0
    for a, b in ((ours.numbers, theirs.numbers), (ours.curves, theirs.curves)):
        for name in a:
            x, y = (np.asarray(side[name], dtype=float) for side in (a, b))
            largest = max(largest, float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-9)))
    return largest

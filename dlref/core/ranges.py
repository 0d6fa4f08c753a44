"""What the numbers of options must be: one table by name, for commands, scripts, modules and dictionaries of arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

LARGEST, LARGEST_INTEGER = 3.4028234663852886e38, 2**63 - 1  # of float32 and of int64


class Range(NamedTuple):
    """Numbers from least to most; open: without the least (or the most) itself; whole: integers alone."""

    least: float = -math.inf
    most: float = math.inf
    open: str = ""
    whole: bool = False

    def __str__(self) -> str:
        if self.most < math.inf:
            left, right = "(" if "least" in self.open else "[", ")" if "most" in self.open else "]"
            return f"{'an integer' if self.whole else 'a number'} in {left}{self.least:g}, {self.most:g}{right}"
        return f"{'an integer of ' if self.whole else ''}{'greater than' if self.open else 'at least'} {self.least:g}"

    def holds(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (self.whole and value != int(value)):
            return False
        below = value <= self.least if "least" in self.open else value < self.least
        above = value >= self.most if "most" in self.open else value > self.most
        return not (below or above)


POSITIVE, AT_LEAST_0 = Range(0, open="least"), Range(0)
COUNT, NATURAL, DEEP = Range(1, whole=True), Range(0, whole=True), Range(1, 1000, whole=True)
RANGES: dict[str, Range] = {
    **dict.fromkeys("lr max_norm gradient_clip_val temperature base_lr max_lr width gamma seconds time_limit "
                    "minutes val_check_interval".split(), POSITIVE),
    **dict.fromkeys("beta ridge noise eps weight_decay eta_min power start_factor end_factor min_lr threshold "
                    "degrees shear momentum tolerance".split(), AT_LEAST_0),
    **dict.fromkeys("batch_size max_iter splits components in_features features classes hidden units code embedding "
                    "characters steps samples rounds threads limit top_k accumulate_grad_batches check_val_every_n_epoch "
                    "channels in_channels size patch heads step_size T_max T_0 T_mult total_steps step_size_up seeds "
                    "jobs number stride".split(), COUNT),
    **dict.fromkeys("epochs seed patience cooldown total_iters milestones length num_workers".split(), NATURAL),
    **dict.fromkeys(("layers", "depth"), DEEP),
    "dropout": Range(0, 1, "most"),
    "label_smoothing": Range(0, 1),
    **dict.fromkeys(("validation", "test"), Range(0, 1, "most")),
    **dict.fromkeys(("translate",), Range(0, 1)),
    "max_epochs": Range(-1, whole=True),
    "max_steps": Range(-1, whole=True),
}  # fmt: skip


def check_number(name: str, value: Any, needed: bool = False) -> None:
    """ValueError where a number is not finite, or larger than float32 and int64 hold, or outside its option's range.

    name: of an option, of which the part after the last dot counts. value: what it was given; of a list or a mapping what is
    in it. needed: whether it has to be a number, which is known of an option's type, not of a dictionary's entries.
    """
    if isinstance(value, Mapping):
        for key, one in value.items():
            check_number(f"{name}.{key}", one, needed=one is not None)
        return
    wanted = RANGES.get(name.rpartition(".")[2].lstrip("-"))
    if isinstance(value, (list, tuple)):
        for one in value:
            check_number(name, one, needed)
        if needed and wanted is not None and not value:
            raise ValueError(f"{name} must hold {wanted}, it is empty")
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be {wanted or 'a finite number'}, it is {value}")
    if isinstance(value, (int, float)) and abs(value) > (LARGEST_INTEGER if isinstance(value, int) else LARGEST):
        kind = "int64" if isinstance(value, int) else "float32"
        also = f"{wanted}, and " if wanted else ""
        raise ValueError(f"{name} must be {also}a number that {kind} holds, it is {shown(value)}")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if wanted is not None and (number or needed) and not wanted.holds(value):
        raise ValueError(f"{name} must be {wanted}, it is {shown(value)}")


def check_numbers(*, needed: bool = False, **given: Any) -> None:
    """`check_number` of each."""
    for name, value in given.items():
        check_number(name, value, needed)


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = f"{value:.4g}" if isinstance(value, int) and abs(value) > 10**18 and value < 10**300 else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

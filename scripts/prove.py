"""Prove dlref on a device: the most telling part first, in the time that there is, and a page of what was found.

It needs torch and expecttest. Both sides compute on the device; TF32 and sums in half precision are off while they are held to
each other.
"""

from __future__ import annotations

import argparse
import copy
import functools
import gc
import importlib.util
import inspect
import platform
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

import dlref
from dlref import builtin, manual
from dlref.bench import NETWORKS, OPTIMIZERS, environment
from dlref.bench.steps import step_parts, time_steps
from dlref.builtin.ctc_loss import ctc_loss
from dlref.core.flat import flatten
from dlref.core.modes import finest
from dlref.core.names import device_named
from dlref.core.ranges import check_number
from dlref.samples import NAMES, supported
from dlref.verify.compare import Comparison, compare_sample
from dlref.verify.oracle.care import finished, usual
from dlref.verify.oracle.courses import configurations
from dlref.verify.oracle.modules import ModuleSamples, infos
from dlref.verify.oracle.report import Report

STEPS = 20
MODULES = sorted(
    name for name, value in vars(manual.nn).items()
    if isinstance(value, type) and issubclass(value, torch.nn.Module) and hasattr(builtin.nn, name) and infos(name)
    and not name.startswith("Lazy")  # which becomes the module that is named like it
)  # fmt: skip
MARK = "<!-- written by scripts/prove.py -->"
FASTEST = ("mlp", "cnn", "transformer", "lstm", "mlp_large", "language_model")  # whose steps are timed, in this order


@dataclass
class Part:
    """What one part of the proof found: how many things were tried, numbers compared, and failures in a line each."""

    title: str
    planned: int = 0
    tried: int = 0
    numbers: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def operations(dtype: torch.dtype, device: str) -> Iterator[tuple[str, Callable[[], tuple[int, list[str]]]]]:
    """Values and gradients of every operation, under autograd and by vjp, every layout of the upstream gradient."""
    for name in NAMES:
        if dtype in supported(name, backward=True, device=device):

            def tried(name: str = name) -> tuple[int, list[str]]:
                found = dlref.compare(name, device, dtype)
                return found.values, list(map(str, found.departures[:3]))

            yield f"{name}, {dtype}", tried


class ByHand:
    """A module by hand as `dlref.compare` takes an operation: its inputs and parameters are the arguments."""

    def __init__(self, call: Any):
        self.call = call

    def __call__(self, *values: Any) -> Any:
        return self.call(*values)

    def vjp(self, *values: Any) -> tuple[Any, Callable]:
        module: Any = copy.deepcopy(self.call.module)
        keys, named = self.call.keys, self.call.named
        inputs, parameters = values[: len(values) - len(keys)], values[len(values) - len(keys) :]
        positional, held = len(inputs) - len(named), dict(module.named_parameters())
        with torch.no_grad():
            for key, value in zip(keys, parameters, strict=True):
                held[key].copy_(value)
        output, pullback = module.vjp(*inputs[:positional], **dict(zip(named, inputs[positional:], strict=True)))
        outputs, structure = tree_flatten(output)
        states = [b for n, b in module.named_buffers() if n.rpartition(".")[2].startswith(("running_", "moving_"))]

        def pulled(dy: Any) -> tuple:
            module.zero_grad()
            given = dy if isinstance(dy, tuple) else (dy,)
            found = pullback(tree_unflatten(given[: len(outputs)], structure))
            return (*found, *(held[key].grad for key in keys))

        return (output, *states) if states else output, pulled


def modules(device: str) -> Iterator[tuple[str, Callable[[], tuple[int, list[str]]]]]:
    """Outputs and gradients of every module in every call of torch's tests, under autograd and by vjp; in float64 where the
    device has it, as the layers of a module magnify what each rounds."""
    for name in MODULES:
        yield name, functools.partial(moduled, name, device)


class CTCLoss(torch.nn.CTCLoss):
    """torch's with the gradient of its value, where torch's own is that of what a log_softmax makes."""

    def forward(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> torch.Tensor:
        lengths = input_lengths, target_lengths
        return ctc_loss(log_probs, targets, *lengths, self.blank, self.reduction, self.zero_infinity)


def moduled(name: str, device: str) -> tuple[int, list[str]]:
    theirs = ModuleSamples(getattr(builtin.nn, name), name, Report("", name))
    theirs.reference = CTCLoss if name == "CTCLoss" else theirs.reference
    found = Comparison(theirs.op_name, device, finest(torch.device(device)))
    for sample in theirs.samples(found.dtype, device):
        compare_sample(found, ByHand(theirs.call_of(sample, theirs.by_hand)), sample)
    return found.values, list(map(str, found.departures[:3]))


def beyond(device: str) -> Iterator[tuple[str, Callable[[], tuple[int, list[str]]]]]:
    """Memory, second derivatives, forward mode, vmap, torch.compile, autocast, fake tensors: what `dlref.check` looks at."""
    for name in NAMES:
        yield name, functools.partial(checked, getattr(manual.functional, name), name, device)


def checked(candidate: Any, name: str, device: str) -> tuple[int, list[str]]:
    report = dlref.check(candidate, name, device=device, dtypes=["float32"])
    return report.values, [] if report.ok else [" ".join(str(report).split())[:400]]


def optimizers(device: str) -> Iterator[tuple[str, Callable[[], tuple[int, list[str]]]]]:
    """Every optimizer with every option of torch's tests: the parameters after some steps, laid into one tensor and apart."""
    for name in OPTIMIZERS:
        for kwargs in configurations(name):
            for flat in (True, False):
                yield f"{name} {kwargs}", functools.partial(stepped, name, kwargs, flat, device)


def stepped(name: str, kwargs: dict[str, Any], flat: bool, device: str) -> tuple[int, list[str]]:
    dtype = finest(torch.device(device))
    ends = []
    for space in (manual, builtin):
        generator = torch.Generator().manual_seed(0)
        draw = lambda *s: torch.randn(s, generator=generator, dtype=dtype).to(device)  # noqa: E731, B023
        held = torch.nn.ParameterList(torch.nn.Parameter(draw(*shape)) for shape in ((5, 3), (7,), (2, 2, 2)))
        if flat and space is manual:
            flatten(held)
        kind = getattr(space.optim, name)
        listed = space is builtin and "foreach" in inspect.signature(kind).parameters
        # ASGD's rule over lists of tensors subtracts from 1 in float32
        rule = kind(held.parameters(), **kwargs, **({"foreach": False} if listed else {}))
        if hasattr(rule, "train"):  # that keeps an average, and is evaluated there
            rule.train()
        for _ in range(10):
            for p in held:
                g = draw(*p.shape)
                p.grad = g if getattr(p, "grad_slot", None) is None else p.grad_slot.copy_(g)
            rule.step()
        ends.append([p.detach().clone() for p in held])
    allowed = 1e-10 if dtype == torch.float64 else 1e-4
    worst = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*ends, strict=True))
    return sum(p.numel() for p in ends[0]), [] if worst <= allowed else [
        f"parameters {worst:.2g} off, allowed {allowed}"
    ]


def networks(device: str, compiled: bool) -> Iterator[tuple[str, Callable[[], tuple[int, list[str]]]]]:
    """Steps of every network by hand, played back and compiled, the errors next to the built-in's."""
    for name in NETWORKS:
        for way in ("inductor", "reduce-overhead") if compiled else ("by hand", "eager"):
            yield f"{name}, {way}", functools.partial(trained, name, way, device)


def trained(name: str, way: str, device: str) -> tuple[int, list[str]]:
    from torch._dynamo.utils import counters

    case, errors, failures = NETWORKS[name], [], []
    counters.clear()
    x, y = case.data(case.batches[0], device)
    for space in (manual, builtin):
        parts = step_parts(case, space, case.optimizers[0], device)
        if space is builtin or way == "by hand":
            take: Callable = functools.partial(space.training.step, *parts)
        else:
            graph: dict[str, Any] = {"mode": way} if way == "reduce-overhead" else {"backend": way}
            take = dlref.compile_step(*parts, **graph)
        torch.manual_seed(1)
        errors.append([float(take(x, y).detach()) for _ in range(STEPS)])
        if getattr(take, "ordinary", False):
            failures.append("no graph was made of it: its steps were ordinary ones")
    if way == "reduce-overhead" and counters["inductor"]["cudagraph_skips"]:
        failures.append("no CUDA graph was captured")
    if case.loss == "VariationalLoss" and way != "by hand":
        return STEPS, failures  # it draws other numbers
    worst = max(abs(a - b) / abs(b) for a, b in zip(*errors, strict=True))
    if worst > 1e-3:
        failures.append(f"losses {worst:.2g} off: {errors[0][-1]:.6g}, built-in {errors[1][-1]:.6g}")
    return STEPS, failures


def estimators(device: str) -> Iterator[tuple[str, Callable[[], tuple[int, list[str]]]]]:
    """Networks as scikit-learn has them, fitted on both sides; none where scikit-learn is not installed."""
    if importlib.util.find_spec("sklearn") is not None:
        for solver in ("adam", "sgd", "lbfgs"):
            yield solver, functools.partial(fitted, solver, device)


def fitted(solver: str, device: str) -> tuple[int, list[str]]:
    from dlref.estimators import MLPClassifier

    generator, losses = torch.Generator().manual_seed(0), []
    x = torch.randn(200, 8, generator=generator).numpy()
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    for backend in ("manual", "builtin"):
        options: dict[str, Any] = {"random_state": 0, "max_iter": 10, "n_iter_no_change": 100, "tol": 0.0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ten epochs converge to nothing
            losses.append(
                MLPClassifier((16,), solver=solver, backend=backend, device=device, **options).fit(x, y).loss_
            )
    worst = abs(losses[0] - losses[1]) / abs(losses[1])
    return 1, [] if worst <= 1e-3 else [f"losses {losses[0]:.6g}, built-in {losses[1]:.6g}"]


@functools.cache
def plan(device: str) -> list[tuple[str, list]]:
    """The parts, the most telling first: titles, and what is tried, a label and a call each."""
    return [
        ("operations, float32", list(operations(torch.float32, device))),
        ("modules", list(modules(device))),
        ("optimizers", list(optimizers(device))),
        (f"{STEPS} steps of networks", list(networks(device, False))),
        ("operations, float64", list(operations(torch.float64, device))),
        ("operations, bfloat16", list(operations(torch.bfloat16, device))),
        (f"{STEPS} steps compiled", list(networks(device, True)) if torch.device(device).type != "cpu" else []),
        ("estimators", list(estimators(device))),
        ("memory and beyond the first derivative", list(beyond(device))),
    ]


def attempt(device: str, part: int, number: int) -> tuple[int, list[str]]:
    """What one thing that is tried gives: how many numbers were compared, and failures."""
    _, tried = plan(device)[part][1][number]
    try:
        with usual():
            numbers, failures = tried()
            finished(device)
            return numbers, failures
    except Exception as error:  # what fails is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        return 0, [f"{type(error).__name__}: {' '.join(str(error).split())[:200]} ({place.name})"]


def prove(device: str, until: float, pool: Executor | None, wanted: Sequence[str] = ()) -> list[Part]:
    """Each part in turn, as far as the time goes; the pool's processes share what there is to try. wanted: words of titles."""
    parts, begun = [], time.monotonic()

    def called(*arguments: Any) -> Any:
        return pool.submit(attempt, *arguments) if pool else Late(attempt, *arguments)

    chosen = [k for k, (title, _) in enumerate(plan(device)) if not wanted or any(word in title for word in wanted)]
    asked = [[called(device, k, i) for i in range(len(plan(device)[k][1]))] for k in chosen]
    for (title, items), results in zip([plan(device)[k] for k in chosen], asked, strict=True):
        part = Part(title, len(items))
        for (label, _), result in zip(items, results, strict=True):
            if sys.stderr.isatty():
                shown = f"{title}: {part.tried + 1} of {part.planned}, {label}"
                print(f"\r\033[K{shown}"[:110], end="", file=sys.stderr, flush=True)
            try:
                numbers, failures = result.result(max(0.0, until - time.monotonic()))
            except TimeoutError:
                continue
            except BrokenExecutor:
                numbers, failures = 0, ["the process that tried this, or another beside it, died"]
            part.tried += 1
            part.numbers += numbers
            part.failures += [f"{label}: {failure}" for failure in failures]
        part.seconds, begun = time.monotonic() - begun, time.monotonic()
        parts.append(part)
        begin = "\r\033[K" if sys.stderr.isatty() else ""
        told = f"{part.numbers:,} numbers, {len(part.failures)} failures" if part.tried else "not tried"
        print(f"{begin}{title}: {part.tried} of {part.planned}, {told}", flush=True)
        gc.collect()
    if pool:
        pool.shutdown(cancel_futures=True)
    return parts


class Late:
    """A call in this process, made when its result is asked for."""

    def __init__(self, call: Callable, *arguments: Any):
        self.call = functools.partial(call, *arguments)

    def result(self, seconds: float) -> tuple[int, list[str]]:
        if not seconds:
            raise TimeoutError
        return self.call()


def driver_of(device: torch.device) -> str:
    if device.type == "cuda":
        return f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
    return (
        f"driver {torch.xpu.get_device_properties(device).driver_version}"
        if device.type == "xpu"
        else platform.platform()
    )


def table(parts: list[Part]) -> list[str]:
    lines = [
        "| part | tried | of | numbers compared | failures | seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    return lines + [
        f"| {p.title} | {p.tried} | {p.planned} | {p.numbers:,} | {len(p.failures) if p.tried else '–'} | {p.seconds:.0f} |"
        for p in parts
    ]


def unreached(parts: list[Part], minutes: float) -> list[str]:
    """The sentence that says what the time did not suffice for; none where it did."""
    left = ", ".join(f"{p.title} ({p.planned - p.tried:,} of {p.planned:,})" for p in parts if p.tried < p.planned)
    return (
        [f"Not reached in {minutes:g} minutes, so nothing is said of it: {left}. Give more --minutes.", ""]
        if left
        else []
    )


def timed(device: str, until: float) -> list[str]:
    """The steps' ratios to the fastest built-in way; those that there is time for."""
    lines = []
    for name in FASTEST:
        if time.monotonic() > until:
            break
        try:
            for record in time_steps(name, device=device, compile=device != "cpu", seconds=2.0):
                ratios = ", ".join(f"{key} {value['value']:.2f}" for key, value in record["ratios"].items())
                lines.append(f"| {name}, batch {record['batch']}, {record['optimizer']} | {ratios} |")
        except Exception as error:  # what cannot be timed is said
            lines.append(f"| {name} | {type(error).__name__}: {' '.join(str(error).split())[:120]} |")
    return ["| training step | over the fastest built-in way |", "| --- | --- |", *lines] if lines else []


class Options(argparse.ArgumentParser):
    """Wrong use is told in one line; of argparse's, as nothing but torch has to be installed here."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"prove.py: error: {message}\n")
        sys.exit(2)


def main() -> None:
    options = Options(description=__doc__)
    options.add_argument("--device", default="cpu", help="as cpu, cuda, cuda:1, mps or xpu; default %(default)s")
    options.add_argument(
        "--minutes", type=float, default=8.0, help="that it may take, a fifth of them for timing; default %(default)g"
    )
    options.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent.parent / "docs" / "devices",
        help="the page's folder; default %(default)s",
    )
    options.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="processes that share what is tried; the timing is one's alone; default %(default)s",
    )
    options.add_argument(
        "--part",
        action="append",
        default=[],
        help="only the parts with these words in their titles, as modules; default all",
    )
    chosen = options.parse_args()
    try:
        check_number("--minutes", chosen.minutes)
        check_number("--jobs", chosen.jobs)
        where = device_named(chosen.device)
    except ValueError as error:
        options.error(str(error))
    at, device, begun = environment(where, torch.get_num_threads()), str(where), time.monotonic()
    path = chosen.out / (re.sub(r"[^a-z0-9]+", "-", at["machine"].lower()).strip("-") + ".md")
    if path.exists() and MARK not in path.read_text():
        options.error(f"{path} must be a page of this script's to be written anew: move it, or choose --out")
    pool = None
    if chosen.jobs > 1:
        # a CUDA context outlives no fork
        pool = ProcessPoolExecutor(chosen.jobs, get_context("spawn"), torch.set_num_threads, (1,))
    parts = prove(device, begun + 60 * chosen.minutes * 0.8, pool, chosen.part)
    failures = [f"{p.title}: {failure}" for p in parts for failure in p.failures]
    ratios = timed(device, begun + 60 * chosen.minutes)
    page = [
        MARK, f"# {at['machine']}", "",
        f"{driver_of(where)}, torch {at['torch']}, Python {at['python']}, dlref {at['dlref']}, {at['date']}: "
        f"`python scripts/prove.py --device {device} --minutes {chosen.minutes:g} --jobs {chosen.jobs}"
        f"{''.join(f' --part {word!r}' for word in chosen.part)}`.", "",
        *table(parts), "", *unreached(parts, chosen.minutes),
        *(["## Failures", "", *(f"- {f}" for f in failures), ""] if failures else []), *ratios, "",
    ]  # fmt: skip
    chosen.out.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(page))
    print("\n".join([*page[3:], *unreached(parts, chosen.minutes)[:1], str(path)]))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

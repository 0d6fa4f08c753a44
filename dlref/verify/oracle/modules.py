"""Modules as functions of their inputs and parameters, so that they are held to the reference as functions are."""

from __future__ import annotations

import contextlib
import copy
import inspect
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from ... import manual
from ...builtin import nn as builtin_nn
from ...core.compat import module_db
from ...core.modes import has_float64
from ...samples import NAMES, NOT_THE_TRUTH, Sample, database, samples, seed, seeded, supported
from ...samples.edges import accepted, edges, like
from ...samples.modules import BATCHES, CALLS, VALUES, Made
from ..crossing import NO_OPTIONS, REFUSED, Options, crossed, usable
from .report import Report
from .subject import ALIASES, Adapted, Mismatch, default_findings, same
from .trials import Subject
from .variants import variants

KINDS = 40  # of options, of which calls are made in which they meet
# Of each module the calls in which its options meet: the constructor's arguments, inputs, keyword inputs, mode and name.
CROSSED: dict[str, list[tuple]] = {}


def uneven(p: Tensor) -> Tensor:
    """A copy of a parameter; of one that is all ones or noughts, which would hide that it is not used, with other numbers."""
    p = p.detach().clone()
    if p.numel() > 1 and bool((p == p.flatten()[0]).all()):
        generator = torch.Generator().manual_seed(p.numel())
        p += 0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64, device="cpu").to(p.device, p.dtype)
    return p


def apart(v: Any) -> Any:
    """A tensor of its own: the database gives some calls one tensor twice, whose gradient is the sum of two."""
    return v.detach().requires_grad_(v.requires_grad) if isinstance(v, Tensor) else v


def module_of(name: str, kind: str) -> str:
    """The module's name; of a function, the module that computes it."""
    if kind == "module":
        return name
    from ..pairs import pairs

    found = pairs()[name].manual_modules
    if not found:
        raise Mismatch(f"the candidate is a module, and {name} has none: name a module, or pass a function")
    return min((m.__name__ for m in found), key=lambda n: (n.startswith("Lazy"), len(n)))


def function_of(name: str) -> str:
    """The operation of a module."""
    if name in NAMES:
        return name
    op = getattr(getattr(manual.nn, name), "op", None)
    if op is None or op.__name__ not in NAMES:
        raise Mismatch(f"the candidate is a function, and {name} is a module of several: pass a module")
    return op.__name__


def infos(name: str) -> list:
    """PyTorch's database entries of a module; none where its package is not installed."""
    if not database():
        return []
    return [info for info in module_db() if info.module_cls is getattr(builtin_nn, name)]


def constructor(cls: type) -> inspect.Signature:
    """The constructor's signature without device and dtype; of a recurrent layer, torch's common base's."""
    signature, without = inspect.signature(cls), {"device", "dtype", "mode"}
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()) and issubclass(cls, nn.RNNBase):
        signature, without = inspect.signature(nn.RNNBase), without | ({"proj_size"} if cls is not nn.LSTM else set())
        nonlinearity = inspect.Parameter("nonlinearity", inspect.Parameter.POSITIONAL_OR_KEYWORD, default="tanh")
        extra = [nonlinearity] if cls is nn.RNN else []
        parameters = list(signature.parameters.values())
        signature = signature.replace(parameters=[*parameters[:4], *extra, *parameters[4:]])
    elif any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return inspect.Signature()  # torch.nn.Module's own: it takes nothing
    mode = without if cls.__name__ in ("RNN", "LSTM", "GRU") else without - {"mode"}
    return signature.replace(parameters=[p for p in signature.parameters.values() if p.name not in mode])


class ModuleCall:
    """A module as a function of its inputs, keyword inputs and parameters, in this order.

    Running statistics are copies, and among what it returns. made: the constructor's arguments. named: the keyword inputs.
    forward: how the module takes the inputs, where it is a stranger's.
    """

    def __init__(self, module: nn.Module, keys: list[str], made: dict[str, Any], named: list[str], training: bool,
                 forward: Adapted | None = None):  # fmt: skip
        self.module, self.keys, self.made, self.named, self.training = module, keys, made, named, training
        self.forward = forward

    def __call__(self, *values: Any) -> Any:
        inputs, parameters = values[: len(values) - len(self.keys)], values[len(values) - len(self.keys) :]
        positional = len(inputs) - len(self.named)
        keywords = dict(zip(self.named, inputs[positional:], strict=True))
        floating = next((v for v in (*parameters, *inputs) if isinstance(v, Tensor) and v.is_floating_point()), None)
        buffers = {n: b.clone() for n, b in self.module.named_buffers()}
        if floating is not None:
            buffers = {n: b.to(floating.device, floating.dtype if b.is_floating_point() else b.dtype)
                       for n, b in buffers.items()}  # fmt: skip
        state = {**dict(zip(self.keys, parameters, strict=True)), **buffers}
        passed: tuple[tuple, dict[str, Any]] = inputs[:positional], keywords
        if self.forward is not None:
            passed = self.forward.placed(*passed)
        output = (
            torch.func.functional_call(self.module, state, *passed) if state else self.module(*passed[0], **passed[1])
        )
        states = [b.detach() for n, b in buffers.items() if n.rpartition(".")[2].startswith(("running_", "moving_"))]
        return (output, *states) if states else output


class ModuleSamples:
    """Calls of a module, each of its inputs and parameters."""

    def __init__(self, candidate: Any, name: str, report: Report):
        self.candidate, self.name, self.report, self.operator = candidate, name, report, None
        self.reference, self.by_hand = getattr(builtin_nn, name), getattr(manual.nn, name)
        self.instance = candidate if isinstance(candidate, nn.Module) else None
        if isinstance(candidate, torch.jit.ScriptModule) and list(candidate.parameters()):
            raise Mismatch(
                "a scripted module takes no other parameters than its own: pass the module that was scripted"
            )
        self.signature = constructor(self.reference)
        self.adapted = None if self.instance is not None else Adapted(candidate, self.signature, name)
        self.forward: Adapted | None = None
        report.findings += default_findings(self.adapted)
        for text in self.adapted.notes() if self.adapted is not None else ():
            report.note(text)
        op = getattr(self.by_hand, "op", None)
        self.op_name = op.__name__ if op is not None else name
        by_hand = lambda s: self.call_of(s, self.by_hand)  # noqa: E731
        self.subject = Subject(
            self.op_name, self.called, self.names, self.options, self.reset, self.missing,
            by_hand, by_hand if {name, self.op_name} & NOT_THE_TRUTH else None, self.variants,
        )  # fmt: skip

    def supported(self, device: str) -> set[torch.dtype]:
        if self.op_name in NAMES:
            return supported(self.op_name, backward=True, device=device)
        return {torch.float32, torch.bfloat16} | ({torch.float64} if has_float64(torch.device(device)) else set())

    # --- the calls --------------------------------------------------------------------------------------------------

    def cases(self, dtype: torch.dtype, device: str, training: bool) -> Iterable[tuple[dict, tuple, dict]]:
        """(constructor's arguments, inputs, keyword inputs): the database's, or those that it lacks."""
        yield from self._cases(dtype, device, training)

        def cast(v: Any) -> Any:
            if not isinstance(v, Tensor):
                return v
            return v.to(device, dtype).requires_grad_() if v.is_floating_point() else v.to(device)

        if infos(self.name) or self.name in BATCHES:
            return
        for args, options, inputs in CALLS.get(self.name, ()):
            with contextlib.suppress(TypeError):  # of a class that tells nothing of its arguments
                if not any(isinstance(a, Made) for a in args):  # which is made of layers
                    yield dict(self.signature.bind(*args, **options).arguments), tree_map(cast, inputs), {}

    def _cases(self, dtype: torch.dtype, device: str, training: bool) -> Iterable[tuple[dict, tuple, dict]]:
        for info in infos(self.name):
            with seeded(device):
                drawn = info.module_inputs_func(info, device=device, dtype=dtype, requires_grad=True, training=training)
            for case in drawn:
                made, called = case.constructor_input, case.forward_input
                options = {k: v for k, v in made.kwargs.items() if k not in ("device", "dtype")}
                yield dict(self.signature.bind(*made.args, **options).arguments), called.args, called.kwargs
        for made, shapes in BATCHES.get(self.name, ()):
            generator = torch.Generator().manual_seed(0)
            drawn = [s if isinstance(s, Tensor) else torch.randn(s, generator=generator, dtype=torch.float64, device="cpu")
                     for s in shapes]  # fmt: skip
            yield (
                made,
                tuple(x.to(device) if x.dtype == torch.int64 else x.to(device, dtype).requires_grad_() for x in drawn),
                {},
            )
        # A module without parameters is its operation with some arguments given beforehand.
        attributes = getattr(self.by_hand, "attributes", None)
        if attributes is None or self.op_name not in NAMES or {"weight", "bias"} & set(attributes):
            return
        for sample in samples(self.op_name, dtype, device=device):
            given = self.by_hand.op.__signature__.bind(*sample.args, **sample.kwargs).arguments
            inputs = {n: v for n, v in given.items() if n not in attributes}
            options = {attributes[n]: v for n, v in given.items() if n in attributes}
            if options.pop("training", training) == training and set(options) <= set(self.signature.parameters):
                yield options, tuple(inputs.values()), {}

    def samples(self, dtype: torch.dtype, device: str) -> list[Sample]:
        found = []
        for training in (True, False):
            for i, (made, inputs, named) in enumerate(self.cases(dtype, device, training)):
                inputs, named = tree_map(apart, (inputs, named))
                if self.instance is not None:
                    made, inputs, named = self.fitted(made, inputs, named)
                where = f"{'train' if training else 'eval'}-{i}"
                try:
                    sample = self.sample(made, inputs, named, training, where, dtype, device)
                except (
                    TypeError,
                    ValueError,
                    AssertionError,
                ):  # what an operation takes and torch's constructor does not
                    continue
                if self.accepted(sample) and (self.instance is None or alike(self.instance, sample.builtin.module)):
                    found.append(sample)
        if not found:
            hint = ": pass the class, of which any size can be made" if self.instance is not None else ""
            hint += "" if database() else " (PyTorch's database is not there: pip install expecttest)"
            raise Mismatch(f"no call of {self.name} that the database has fits the candidate{hint}")
        return found

    def sample(self, made: dict, inputs: tuple, named: dict, training: bool, where: str, dtype: torch.dtype,
               device: str) -> Sample:  # fmt: skip
        """The call of a new module of torch's."""
        module = self.build(self.reference, made, dtype, device, training)
        keys = [n for n, _ in module.named_parameters()]
        parameters = [uneven(p).requires_grad_() for p in module.parameters()]
        call = ModuleCall(module, keys, made, list(named), training)
        return Sample(call, (*inputs, *named.values(), *parameters), {}, where, self.op_name)

    def crossed(self, dtype: torch.dtype, device: str) -> list[Sample]:
        """Where the candidate is a class, the calls in which options of its constructor meet."""
        if self.instance is not None:
            return []
        if self.name not in CROSSED:
            reference = ModuleSamples(self.reference, self.name, Report("", self.name))
            options = ModuleOptions(reference)
            wide = torch.float64 if torch.float64 in self.supported("cpu") else dtype
            fit = [s for s in reference.samples(wide, "cpu") if usable([s])]
            kinds = {repr((s.builtin.made, s.builtin.training, [t.dim() for t in s.tensors()])): s for s in fit}
            made = crossed(options, list(kinds.values())[-KINDS:])
            CROSSED[self.name] = [(s.builtin.made, *options.taken(s), s.builtin.training, s.where) for s in made]

        def cast(v: Any) -> Any:
            if not isinstance(v, Tensor):
                return v
            return v.detach().to(device, dtype if v.is_floating_point() else v.dtype).requires_grad_(v.requires_grad)

        found = []
        for made, inputs, named, training, where in CROSSED[self.name]:
            inputs, named = tree_map(cast, (inputs, named))
            sample = self.sample(made, inputs, named, training, where, dtype, device)
            found += [sample] if self.accepted(sample) else []
        return found

    def accepted(self, sample: Sample) -> bool:
        """Whether the reference takes the call, and what has the truth of it where the reference has not."""
        truth = self.subject.truth
        return accepted(sample) and (
            truth is None or accepted(Sample(truth(sample), sample.args, sample.kwargs, sample.where))
        )

    def crossing_options(self) -> ModuleOptions:
        return ModuleOptions(self)

    def argument_names(self) -> list[str]:
        return list(dict.fromkeys([*self.signature.parameters, *ModuleOptions(self).inputs]))

    def edges(self, found: list[Sample], rows: bool) -> Iterable[Sample]:
        """Other numbers and strides; other sizes would be other modules."""
        return edges(found, sizes=False)

    def fitted(self, made: dict, inputs: tuple, named: dict) -> tuple[dict, tuple, dict]:
        """The database's call in the sizes and with the options of the instance.

        They are its attributes of the constructor's names; where one that is required is not there, the sizes are read off
        its parameters, which must be as many as the reference's.
        """
        own = {
            n: v
            for n in self.signature.parameters
            if (v := getattr(self.instance, n, self)) is not self and not isinstance(v, (Tensor, nn.Module))
        }
        if "bias" in self.signature.parameters and hasattr(self.instance, "bias"):
            own["bias"] = getattr(self.instance, "bias", None) is not None
        required = {n for n, p in self.signature.parameters.items() if p.default is p.empty}
        sizes: dict[int, int] = {}
        if required <= set(own):
            for n, new in own.items():
                pairs = zip(*(v if isinstance(v, (tuple, list)) else (v,) for v in (made.get(n), new)), strict=False)
                sizes.update({a: b for a, b in pairs if type(a) is int and type(b) is int})
        else:
            reference = self.build(self.reference, made, torch.float32, "cpu", True)
            for p, q in zip(reference.parameters(), self.instance.parameters(), strict=False):  # type: ignore[union-attr]
                sizes.update(zip(p.shape, q.shape, strict=False))
            listed = lambda v: [sizes.get(n, n) for n in v] if isinstance(v, (tuple, list)) else v  # noqa: E731
            own |= {n: sizes.get(v, v) if type(v) is int else listed(v) for n, v in made.items() if n in required}
        change = lambda v: resized(v, sizes) if isinstance(v, Tensor) and v.is_floating_point() else v  # noqa: E731
        return (own, *tree_map(change, (inputs, named)))

    def build(self, cls: Callable, made: dict, dtype: torch.dtype, device: str, training: bool) -> nn.Module:
        seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls(**copy.deepcopy(made)).to(device, dtype).train(training)

    # --- the candidate ----------------------------------------------------------------------------------------------

    def called(self, sample: Sample) -> Callable:
        return self.call_of(sample, self.instance if self.instance is not None else self.adapted)

    def call_of(self, sample: Sample, maker: Any) -> Callable:
        """The module that another class makes, or the instance, as a function of this call's values."""
        call = sample.builtin
        like = next(t for t in sample.tensors() if t.is_floating_point())
        if isinstance(maker, nn.Module):
            module = copy.deepcopy(maker).to(like.device, like.dtype).train(call.training)
        else:
            module = self.build(maker, call.made, like.dtype, str(like.device), call.training)
        forward = self.forward_of(module) if maker in (self.instance, self.adapted) else None
        keys = matched(module, call.module, self.name)
        if forward is not None and (
            others := [f"`{a}` for {b}" for a, b in zip(keys, call.keys, strict=True) if a != b]
        ):
            self.report.note(f"parameters: took {', '.join(others)}")
        return ModuleCall(module, keys, call.made, call.named, call.training, forward)

    def forward_of(self, module: nn.Module) -> Adapted:
        """How the candidate's forward takes the reference's inputs."""
        if self.forward is None:
            forward = getattr(module, "_orig_mod", module).forward  # of a compiled module, the module that it was
            self.forward = Adapted(forward, inspect.signature(self.reference.forward.__get__(module)), self.name)
            for text in self.forward.notes():
                self.report.note(f"forward: {text}")
        return self.forward

    def variants(self, sample: Sample) -> Iterable[tuple[str, Sample]]:
        """The module with another formula in place of its operation."""
        if self.op_name not in NAMES:
            return
        call, inputs = sample.builtin, sample.args[: len(sample.args) - len(sample.builtin.keys)]
        bound = call_bound(self.by_hand, call.module, inputs)
        for text, formula in variants(self.op_name, (), bound) if bound is not None else ():
            other = type(self.by_hand.__name__, (self.by_hand,), {"__op__": staticmethod(formula)})
            yield text, Sample(self.call_of(sample, other), sample.args, sample.kwargs, sample.where, sample.name)

    def names(self, sample: Sample) -> list[str]:
        call = sample.builtin
        inputs = list(inspect.signature(self.reference.forward).parameters)[1:]
        found, number = [], len(sample.args) - len(call.keys) - len(call.named)
        for i, value in enumerate(sample.args):
            at = i - number
            name = (
                inputs[i] if i < min(number, len(inputs)) else f"input {i}" if at < 0 else [*call.named, *call.keys][at]
            )
            found += [name] * sum(isinstance(v, Tensor) for v in tree_flatten(value)[0])
        return found

    def options(self, sample: Sample) -> dict[str, Any]:
        parameters = self.signature.parameters
        return {n: v for n, v in sample.builtin.made.items()
                if parameters[n].default is not inspect.Parameter.empty and not same(v, parameters[n].default)}  # fmt: skip

    def missing(self, sample: Sample) -> list[str]:
        missing = [] if self.adapted is None else self.adapted.missing((), sample.builtin.made)
        call = sample.builtin
        if not missing and self.forward is not None:
            inputs = sample.args[: len(sample.args) - len(call.keys)]
            positional = len(inputs) - len(call.named)
            missing = self.forward.missing(inputs[:positional], dict(zip(call.named, inputs[positional:], strict=True)))
        return missing

    def reset(self, sample: Sample, option: str) -> Sample | None:
        call = sample.builtin
        made = {n: v for n, v in call.made.items() if n != option}
        like = next(t for t in sample.tensors() if t.is_floating_point())
        try:
            module = self.build(self.reference, made, like.dtype, str(like.device), call.training)
        except (TypeError, ValueError, RuntimeError):
            return None
        if [n for n, _ in module.named_parameters()] != call.keys:
            return None
        other = ModuleCall(module, call.keys, made, call.named, call.training)
        return Sample(other, sample.args, sample.kwargs, sample.where, sample.name)


class ModuleOptions(Options):
    """The options of a module's constructor; another value makes another module, with parameters of its own."""

    most = 4

    def __init__(self, source: ModuleSamples):
        self.thirds = "padding_mode" in source.signature.parameters  # which shows with a padding alone
        self.source, self.name, self.parameters = source, source.name, source.signature.parameters
        self.features: dict[str, Callable] = {}
        self.implied: dict[str, Callable] = {}
        self.required = {n for n, p in self.parameters.items() if p.default is p.empty}
        self.defaults = {n: p.default for n, p in self.parameters.items() if n not in NO_OPTIONS | self.required}
        self.inputs = list(inspect.signature(source.reference.forward).parameters)[1:]

    def extra(self, name: str) -> list[Any]:
        found = VALUES.get(name, [])
        return [not self.defaults[name], *found] if isinstance(self.defaults[name], bool) else found

    def taken(self, sample: Sample) -> tuple[tuple, dict]:
        """The inputs and the keyword inputs."""
        call = sample.builtin
        values = sample.args[: len(sample.args) - len(call.keys)]
        positional = len(values) - len(call.named)
        return values[:positional], dict(zip(call.named, values[positional:], strict=True))

    def given(self, sample: Sample) -> dict[str, Any]:
        """The constructor's arguments, the inputs by forward's names, and whether it trains."""
        inputs, named = self.taken(sample)
        passed = {n: p.default for n, p in inspect.signature(self.source.reference.forward).parameters.items()
                  if n in self.inputs and p.default is not p.empty}  # fmt: skip
        passed |= dict(zip(self.inputs, inputs, strict=False)) | named
        return {**passed, **{n: p.default for n, p in self.parameters.items()}, **sample.builtin.made}

    def family(self, sample: Sample) -> str:
        return repr(
            (
                sample.builtin.training,
                [v.dtype.is_floating_point for v in self.taken(sample)[0] if isinstance(v, Tensor)],
            )
        )

    def remade(self, sample: Sample, made: dict[str, Any], inputs: tuple, named: dict[str, Any]) -> Sample | None:
        like = next(t for t in sample.tensors() if t.is_floating_point())
        try:
            return self.source.sample(
                made, inputs, named, sample.builtin.training, sample.where, like.dtype, str(like.device)
            )
        except REFUSED:
            return None

    def changed(self, sample: Sample, changes: dict[str, Any]) -> Sample | None:
        return self.remade(sample, {**sample.builtin.made, **changes}, *self.taken(sample))

    def without(self, sample: Sample, names: list[str]) -> Sample | None:
        made = {n: v for n, v in sample.builtin.made.items() if n not in names}
        return self.remade(sample, made, *self.taken(sample))

    def resized(self, sample: Sample, old: int, new: int) -> Sample | None:
        """The constructor's numbers of that size and the inputs' dimensions, another."""
        listed = lambda v: tuple(new if n == old else n for n in v) if isinstance(v, (tuple, list)) else v  # noqa: E731
        sized = {n: new if type(v) is int and v == old else listed(v) for n, v in sample.builtin.made.items()
                 if n in self.required}  # fmt: skip
        change = lambda v: resized(v, {old: new}) if isinstance(v, Tensor) and v.is_floating_point() else v  # noqa: E731
        inputs, named = tree_map(change, self.taken(sample))
        return self.remade(sample, {**sample.builtin.made, **sized}, inputs, named)


def matched(module: nn.Module, reference: nn.Module, name: str) -> list[str]:
    """The candidate's parameters in the order of the reference's: by name, in their own order, or where each shape is one's."""
    own, theirs = dict(module.named_parameters()), dict(reference.named_parameters())
    last = {n.rpartition(".")[2]: n for n in own}
    wanted = [tuple(p.shape) for p in theirs.values()]
    usual = [next((last[n] for n in (r, *ALIASES.get(r, ())) if n in last), "") for r in theirs]
    shapes = [tuple(p.shape) for p in own.values()]
    ordered = [list(own)[shapes.index(shape)] for shape in wanted] if sorted(shapes) == sorted(wanted) else []
    for order in (list(theirs), usual if len(own) == len(theirs) else [], list(own), ordered):
        if len(set(order)) == len(own) and set(order) == set(own) and [tuple(own[n].shape) for n in order] == wanted:
            return order
    raise Mismatch(f"the candidate's parameters must have the shapes of {name}'s, {wanted}; they have {shapes}")


def alike(module: nn.Module, reference: nn.Module) -> bool:
    """Whether the instance has the parameters of this call's module."""
    return [tuple(p.shape) for p in module.parameters()] == [tuple(p.shape) for p in reference.parameters()]


def call_bound(by_hand: Any, module: nn.Module, inputs: tuple) -> dict[str, Any] | None:
    """The arguments of the operation in a module's call."""
    try:
        given = {n: getattr(module, at) for n, at in by_hand.attributes.items()}
        return dict(by_hand.op.__signature__.bind(*inputs, **given).arguments)
    except (AttributeError, TypeError):
        return None


def resized(t: Tensor, sizes: dict[int, int]) -> Tensor:
    shape = tuple(sizes.get(n, n) for n in t.shape)
    return t if shape == tuple(t.shape) else like(t, shape, torch.Generator().manual_seed(0))

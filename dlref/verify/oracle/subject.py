"""Who is checked against what: the candidate as a function that is called as the reference is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...core.compat import single_level_function
from ...core.names import one_of
from ..crossing import same
from .report import Finding

# What the first arguments of torch's functions are called elsewhere.
ALIASES = {
    "input": ("x", "inp", "inputs", "a", "logits", "pred", "preds", "prediction", "predictions", "y_pred", "input_",
              "tensor", "hidden_states", "output", "outputs", "scores", "log_probs", "data", "features", "q"),
    "target": ("y", "targets", "label", "labels", "y_true", "tgt", "gt", "ground_truth"),
    "weight": ("w", "weights", "gamma", "scale", "gain", "class_weights", "pos_weights"),
    "bias": ("b", "beta", "shift", "offset"),
    "normalized_shape": ("shape", "norm_shape", "dims", "hidden_size", "dim", "size"),
    "dim": ("axis",), "p": ("dropout_p", "prob", "rate"), "negative_slope": ("slope", "alpha", "leak"),
    "query": ("q",), "key": ("k",), "value": ("v",), "attn_mask": ("mask", "attention_mask"), "is_causal": ("causal",),
    "scale": ("sm_scale", "softmax_scale"), "ignore_index": ("ignored_index",), "keepdim": ("keepdims",),
    "label_smoothing": ("smoothing",), "lambd": ("lambda_", "threshold"), "eps": ("epsilon",), "max_norm": (),
    "running_mean": ("mean",), "running_var": ("var", "variance"), "num_groups": ("groups", "G"),
    "kernel_size": ("kernel", "window"), "approximate": ("approximation",), "inplace": (),
    "params": ("parameters",), "lr": ("learning_rate", "step_size", "eta", "alpha"), "weight_decay": ("wd", "decay"),
    "momentum": ("mu", "beta"), "optimizer": ("opt",), "last_epoch": ("last_step",), "in_features": ("in_dim", "d_in"),
    "out_features": ("out_dim", "d_out"), "in_channels": ("in_ch", "c_in"), "out_channels": ("out_ch", "c_out"),
    "num_features": ("channels", "features"), "elementwise_affine": ("affine",), "affine": ("elementwise_affine",),
    "num_embeddings": ("vocab_size",), "embedding_dim": ("dim", "d_model"), "reduction": ("reduce",),
}  # fmt: skip
# Arguments that are tensors: a number by default stands for none of them.
TENSORS = {"weight", "bias", "running_mean", "running_var", "attn_mask", "pos_weight", "target", "input"}
# What counts says so in its name, and is nothing that weighs.
COUNTS = {"num", "steps", "step", "iters", "epochs", "epoch", "warmup", "count", "size", "shape", "length", "groups", "classes",
          "period", "patience", "milestones", "features", "channels", "t"}  # fmt: skip
# Arguments that torch itself has given up, or that say nothing about the result.
DEPRECATED = {"size_average", "reduce", "_stacklevel", "inplace"}


class Mismatch(ValueError):
    """The candidate cannot be called as the reference is."""


class Adapted:
    """A function under the reference's signature.

    Its arguments are found by name; else, those that it must be given, by a usual other name or in their order, and options
    by another name where their default is of the kind. What was found other than by name is in `guesses`; what has no
    counterpart stays at the candidate's default, as `own` says. `missing` names the options of a call that it does not
    take; the rest of the call is handed on, by the candidate's own names where its signature tells them.
    """

    def __init__(self, function: Callable, reference: inspect.Signature | None, name: str):
        self.function, self.reference, self.name = function, reference, name
        self.parameters = parameters_of(function)
        self.names: dict[str, str] = {}
        self.defaults: list[tuple[str, Any, Any]] = []
        self.guesses: list[str] = []
        self.own: list[str] = []
        if self.parameters is not None and reference is not None:
            try:
                self.match(self.parameters, reference)
            except Mismatch:  # one letter may be two things: then what comes first is the first
                self.names, self.guesses = {}, []
                self.match(self.parameters, reference, usual_names=False)

    def match(self, own: list[inspect.Parameter], reference: inspect.Signature, usual_names: bool = True) -> None:
        theirs, taken = reference.parameters, self.names
        by_name = {p.name: p for p in own}

        def left() -> list[inspect.Parameter]:
            return [p for p in own if p.name not in taken.values()]

        for p in own:  # names that are equal come before all that are alike
            if found := next((r for r in theirs if r.lower() == p.name.lower() and r not in taken), None):
                taken[found] = p.name
        for p in left() if usual_names else ():
            usual = [
                r for r in theirs if r not in taken and p.name.lower() in ALIASES.get(r, ()) and fits(p, theirs[r])
            ]
            if usual:
                self.take(usual[0], p.name)
        for p in left():  # in order, those that must be given
            at = own.index(p)
            if p.default is not p.empty or p.kind is p.KEYWORD_ONLY:
                continue
            order = list(theirs)[at : at + 1] + [r for r in theirs if theirs[r].default is p.empty]
            if found := next((r for r in order if r not in taken and fits(p, theirs[r])), None):
                self.take(found, p.name)
        for r in [r for r, q in theirs.items() if q.default is q.empty and r not in taken]:  # an option stands for it
            at = list(theirs).index(r)
            if (
                at < len(own)
                and own[at] in left()
                and own[at].kind is not own[at].KEYWORD_ONLY
                and fits(own[at], theirs[r])
            ):
                self.take(r, own[at].name)
        unknown = [p.name for p in left() if p.default is p.empty]
        lacking = [r for r, q in theirs.items() if q.default is q.empty and r not in taken]
        if unknown or lacking:
            text = ", ".join(str(p).split(":")[0].split("=")[0].strip() for p in own)
            raise Mismatch(
                f"the candidate must take what {self.name}{reference} takes; it takes ({text})"
                + (f", of which {', '.join(unknown)} is unknown" if unknown else f", and not {', '.join(lacking)}")
                + ": give it torch's names, or pass a lambda that calls it"
            )
        self.own = [f"{p.name}={p.default!r}" for p in left() if p.default is not None and p.name not in DEPRECATED]
        for r, mine in taken.items():
            a, b = by_name[mine].default, theirs[r].default
            if inspect.Parameter.empty not in (a, b) and r not in DEPRECATED and not same(a, b):
                self.defaults.append((r, a, b))

    def take(self, theirs: str, own: str) -> None:
        self.names[theirs] = own
        self.guesses.append(f"`{own}` for {theirs}")

    def notes(self) -> list[str]:
        """What was guessed, and what was left, for the report."""
        found = [f"took {', '.join(self.guesses)}"] if self.guesses else []
        return [*found, *([f"left at the candidate's default: {', '.join(self.own)}"] if self.own else [])]

    def arguments(self, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any] | None:
        """The call by the reference's names, without what is the default there."""
        if self.reference is None:
            return None
        bound = self.reference.bind(*args, **kwargs).arguments
        return {n: v for n, v in bound.items() if not same(v, self.reference.parameters[n].default)}

    def missing(self, args: tuple, kwargs: dict[str, Any]) -> list[str]:
        if self.parameters is None or self.reference is None:
            return []
        return [n for n in self.arguments(args, kwargs) or {} if n not in self.names]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = self.placed(args, kwargs)
        return self.function(*args, **kwargs)

    def placed(self, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """The call as the candidate takes it."""
        if self.reference is not None and self.parameters is None:
            kinds = variadic(self.function)
            bound = self.reference.bind(*args, **kwargs).arguments
            if kinds == {inspect.Parameter.VAR_KEYWORD}:
                return (), dict(bound)
            if kinds == {inspect.Parameter.VAR_POSITIONAL} and kwargs:
                full = {n: p.default for n, p in self.reference.parameters.items()} | bound
                last = max((i for i, n in enumerate(full) if n in bound), default=-1)
                return tuple(full.values())[: last + 1], {}
        if self.parameters is None or self.reference is None:
            return args, kwargs
        given = self.arguments(args, kwargs) or {}
        full = {n: p.default for n, p in self.reference.parameters.items()} | given
        own = {mine: full[r] for r, mine in self.names.items() if r in given or r in {d[0] for d in self.defaults}}
        own |= {self.names[r]: full[r] for r in self.names if full[r] is not inspect.Parameter.empty
                and next(p for p in self.parameters if p.name == self.names[r]).default is inspect.Parameter.empty}  # fmt: skip
        positional = []
        for p in self.parameters:
            if p.kind is p.POSITIONAL_ONLY:
                positional.append(own.pop(p.name, p.default))
        return tuple(positional), own


def fits(own: inspect.Parameter, theirs: inspect.Parameter) -> bool:
    """Whether an argument of another name may stand for the reference's: of the same kind, as far as it can be told."""
    a, b = own.default, theirs.default
    counts = bool(set(own.name.lower().split("_")) & COUNTS) or own.annotation in (int, "int")
    if theirs.name in TENSORS:
        return not counts and (a is own.empty or a is None or isinstance(a, Tensor))
    if a is own.empty:
        weighs = type(b) in (float, str, bool) or (b is own.empty and not set(theirs.name.lower().split("_")) & COUNTS)
        return not (counts and weighs)
    return same(a, b) or type(a) is type(b) or None in (a, b) or b is own.empty or {type(a), type(b)} <= {int, float}


def default_findings(adapted: Adapted | None) -> list[Finding]:
    """The defaults that are not the reference's."""
    return [] if adapted is None else [
        Finding("default", option, "", "the signature", "any", diagnosis=f"its default must be {theirs!r}, it is {own!r}")
        for option, own, theirs in adapted.defaults
    ]  # fmt: skip


def variadic(function: Any) -> set:
    """Whether the function takes any positional arguments, any named ones, or both."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set()
    return {p.kind for p in found if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def parameters_of(function: Any) -> list[inspect.Parameter] | None:
    """The parameters that can be told apart; None where the function takes whatever comes."""
    schema = getattr(getattr(function, "_opoverload", None) or getattr(function, "default", function), "_schema", None)
    if isinstance(function, torch.jit.ScriptFunction):
        schema = function.schema
    if schema is not None:  # a custom operator
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return [
            inspect.Parameter(a.name, inspect.Parameter.KEYWORD_ONLY if a.kwarg_only else kind,
                              default=a.default_value if a.has_default_value() else inspect.Parameter.empty)
            for a in schema.arguments
        ]  # fmt: skip
    if isinstance(function, type) and getattr(function, "__init__", None) is torch.nn.Module.__init__:
        return []
    owner = getattr(function, "__self__", None)
    apply = isinstance(owner, type) and issubclass(owner, torch.autograd.Function)
    try:
        found = list(inspect.signature(owner.forward if apply else function).parameters.values())  # type: ignore[union-attr]
    except (TypeError, ValueError):
        return None
    if apply:
        if owner.setup_context is single_level_function.setup_context:  # type: ignore[union-attr]
            found = found[1:]  # ctx
        found = [p.replace(kind=p.POSITIONAL_ONLY) if p.kind is p.POSITIONAL_OR_KEYWORD else p for p in found]
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in found):
        named = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        return None if not named or any(p.kind is p.VAR_POSITIONAL for p in found) else named
    return found


def imported(path: str) -> Any:
    """The object of MODULE:NAME; a module is a dotted name or a file. ValueError where there is none."""
    import importlib
    import importlib.util
    import sys
    from pathlib import Path

    module, colon, name = path.partition(":")
    if not colon or not module or not name:
        raise ValueError(f"the candidate must be given as MODULE:NAME, as kernels:layer_norm; it is {path!r}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        if module.endswith(".py"):
            if not Path(module).is_file():
                raise ValueError(f"the module's file must exist, {module} does not")
            spec = importlib.util.spec_from_file_location(Path(module).stem, module)
            found: Any = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
            sys.modules.setdefault(found.__name__, found)
            spec.loader.exec_module(found)  # type: ignore[union-attr]
        else:
            found = importlib.import_module(module)
    except (ValueError, KeyboardInterrupt):
        raise
    except BaseException as error:  # the user's module may do anything at import
        raise ValueError(
            f"the module must be importable from here, {module} is not: {type(error).__name__}: {error}"
        ) from None
    for part in name.split("."):
        if not hasattr(found, part):
            one_of(f"the name in {module}", part, [n for n in dir(found) if not n.startswith("__")] or ["nothing"])
        found = getattr(found, part)
    return found

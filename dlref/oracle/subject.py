"""Who is checked against what: the candidate as a function that is called as the reference is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from ..crossing import same
from ..names import one_of
from .report import Finding

# What the first arguments of torch's functions are called elsewhere.
ALIASES = {
    "input": ("x", "inp", "inputs", "a", "logits", "pred", "preds", "prediction", "predictions", "y_pred", "input_",
              "tensor", "hidden_states", "output", "outputs", "scores", "log_probs", "data", "features", "q"),
    "target": ("y", "targets", "label", "labels", "y_true", "tgt", "gt", "ground_truth"),
    "weight": ("w", "weights", "gamma", "scale", "class_weights", "pos_weights"),
    "bias": ("b", "beta", "shift"),
    "normalized_shape": ("shape", "norm_shape", "dims"),
    "dim": ("axis",), "p": ("dropout_p", "prob", "rate"), "negative_slope": ("slope", "alpha", "leak"),
    "query": ("q",), "key": ("k",), "value": ("v",), "attn_mask": ("mask", "attention_mask"), "is_causal": ("causal",),
    "scale": ("sm_scale", "softmax_scale"), "ignore_index": ("ignored_index",), "keepdim": ("keepdims",),
    "label_smoothing": ("smoothing",), "lambd": ("lambda_", "threshold"), "eps": ("epsilon",), "max_norm": (),
    "running_mean": ("mean",), "running_var": ("var", "variance"), "num_groups": ("groups", "G"),
    "kernel_size": ("kernel", "window"), "approximate": ("approximation",), "inplace": (),
}  # fmt: skip
# Arguments that torch itself has given up, or that say nothing about the result.
DEPRECATED = {"size_average", "reduce", "_stacklevel", "inplace"}


class Mismatch(ValueError):
    """The candidate cannot be called as the reference is."""


class Adapted:
    """A function under the reference's signature.

    `missing` names the options of a call that it does not take; the rest of the call is handed on, by the candidate's own
    names where its signature tells them, as it is where it tells nothing.
    """

    def __init__(self, function: Callable, reference: inspect.Signature | None, name: str):
        self.function, self.reference, self.name = function, reference, name
        self.parameters = parameters_of(function)
        self.names: dict[str, str] = {}
        self.defaults: list[tuple[str, Any, Any]] = []
        if self.parameters is not None and reference is not None:
            self.match(self.parameters, reference)

    def match(self, own: list[inspect.Parameter], reference: inspect.Signature) -> None:
        theirs = list(reference.parameters)
        taken: dict[str, str] = {}
        for p in own:
            name = p.name.lower()
            found = next((r for r in theirs if r.lower() == name), None)
            found = found or next((r for r in theirs if name in ALIASES.get(r, ()) and r not in taken), None)
            if found and found not in taken:
                taken[found] = p.name
        for i, p in enumerate(own):
            if (
                p.name not in taken.values()
                and p.kind is not p.KEYWORD_ONLY
                and i < len(theirs)
                and theirs[i] not in taken
            ):
                required = reference.parameters[theirs[i]].default is inspect.Parameter.empty
                if required or p.default is p.empty:
                    taken[theirs[i]] = p.name
        unknown = [p.name for p in own if p.name not in taken.values() and p.default is p.empty]
        lacking = [r for r, p in reference.parameters.items() if p.default is p.empty and r not in taken]
        if unknown or lacking:
            text = ", ".join(str(p).split(":")[0].split("=")[0].strip() for p in own)
            raise Mismatch(
                f"the candidate must take what {self.name}{reference} takes; it takes ({text})"
                + (f", of which {', '.join(unknown)} is unknown" if unknown else f", and not {', '.join(lacking)}")
                + ": give it torch's names, or pass a lambda that calls it"
            )
        self.names = taken
        by_name = {p.name: p for p in own}
        for r, mine in taken.items():
            a, b = by_name[mine].default, reference.parameters[r].default
            if inspect.Parameter.empty not in (a, b) and r not in DEPRECATED and not same(a, b):
                self.defaults.append((r, a, b))

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
        if self.parameters is None or self.reference is None:
            return self.function(*args, **kwargs)
        given = self.arguments(args, kwargs) or {}
        full = {n: p.default for n, p in self.reference.parameters.items()} | given
        own = {mine: full[r] for r, mine in self.names.items() if r in given or r in {d[0] for d in self.defaults}}
        own |= {self.names[r]: full[r] for r in self.names if full[r] is not inspect.Parameter.empty
                and next(p for p in self.parameters if p.name == self.names[r]).default is inspect.Parameter.empty}  # fmt: skip
        positional = []
        for p in self.parameters:
            if p.kind is p.POSITIONAL_ONLY:
                positional.append(own.pop(p.name, p.default))
        return self.function(*positional, **own)


def default_findings(adapted: Adapted | None) -> list[Finding]:
    """The defaults that are not the reference's."""
    return [] if adapted is None else [
        Finding("default", option, "", "the signature", "any", diagnosis=f"its default must be {theirs!r}, it is {own!r}")
        for option, own, theirs in adapted.defaults
    ]  # fmt: skip


def parameters_of(function: Any) -> list[inspect.Parameter] | None:
    """The parameters that can be told apart; None where the function takes whatever comes."""
    schema = getattr(getattr(function, "_opoverload", None) or getattr(function, "default", function), "_schema", None)
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
        if owner.setup_context is torch.autograd.function._SingleLevelFunction.setup_context:  # type: ignore[union-attr]
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

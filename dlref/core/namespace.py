"""torch's namespaces under our names: ours is what is derived by hand, and what of torch's holds no mathematics is handed on.

`dlref.manual.nn.utils.rnn` stands for `torch.nn.utils.rnn`, and so each module of torch.nn and torch.optim, on both sides.
Where we have no file of that path, the import makes a `Mirror`, which looks each name up in torch's module; where we have one,
it becomes one by `mirror(side)`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import BuiltinFunctionType, ModuleType
from typing import Any, NoReturn

from .compat import networks_in_c
from .module import COUNTERPARTS

PACKAGE = __name__.partition(".")[0]
SIDES = ("manual", "builtin")
# torch's module: ours, where the path is another one.
ELSEWHERE = {"torch.nn.functional": "functional", "torch.nn.init": "init"}
# The namespaces whose names manual has by hand, or refuses; of torch's own they hand on these alone.
HANDED: dict[str, frozenset[str]] = {
    "torch.nn": frozenset(
        "Buffer Container DataParallel UninitializedBuffer UninitializedParameter factory_kwargs".split()
    ),
    "torch.nn.functional": frozenset({"grouped_mm"}),
    "torch.nn.grad": frozenset(),
    "torch.nn.init": frozenset(),
    "torch.nn.attention": frozenset(
        "SDPBackend WARN_FOR_UNFUSED_KERNELS activate_flash_attention_impl current_flash_attention_impl "
        "list_flash_attention_impls register_flash_attention_impl restore_flash_attention_impl sdpa_kernel".split()
    ),
    "torch.nn.parallel": frozenset(
        "DataParallel DistributedDataParallelCPU data_parallel gather parallel_apply replicate scatter".split()
    ),
    "torch.nn.utils": frozenset(
        "convert_conv2d_weight_memory_format convert_conv3d_weight_memory_format fuse_conv_bn_eval "
        "fuse_conv_bn_weights fuse_linear_bn_eval fuse_linear_bn_weights remove_spectral_norm remove_weight_norm "
        "skip_init".split()
    ),
    "torch.nn.utils.parametrizations": frozenset(),
    "torch.optim": frozenset({"swap_in_optimizer_params_and_state"}),
    "torch.optim.lr_scheduler": frozenset(),
    "torch.optim.swa_utils": frozenset(),
}
# Modules and functions in no such namespace that are mathematics, by kernels of torch's.
LEFT_OUT = {
    "torch.nn.attention.bias",
    "torch.nn.attention.experimental",
    "torch.nn.attention.flex_attention",
    "torch.nn.attention.varlen",
    "torch.optim.functional",
    *(f"torch.optim.{name}.{name}" for name in ("adadelta", "adagrad", "adam", "adamax", "adamw", "asgd", "nadam", "radam",
                                                "rmsprop", "rprop", "sgd", "sparse_adam")),
}  # fmt: skip


def theirs(name: str) -> str:
    """The path of torch's module that one of ours stands for."""
    path = name.split(".", 2)[2]
    return f"torch.{path}" if path.startswith(("nn", "optim")) else f"torch.nn.{path}"


def ours(side: str, name: str) -> str:
    """The path of the module that stands for torch's."""
    return f"{PACKAGE}.{side}.{ELSEWHERE.get(name) or name.removeprefix('torch.')}"


def mirrored(name: str) -> bool:
    """Whether torch's module of that path has one that stands for it."""
    return name.startswith(("torch.nn.", "torch.optim.")) or name in ("torch.nn", "torch.optim")


def of_torch(value: Any) -> bool:
    """Whether an object is such a module of torch's."""
    return isinstance(value, ModuleType) and mirrored(value.__name__)


def public(module: ModuleType) -> list[str]:
    """The names of a module, as `from module import *` brings them."""
    return list(vars(module).get("__all__") or [n for n in vars(module) if not n.startswith("_")])


def belongs(value: Any) -> bool:
    """Whether an object is one of torch.nn or torch.optim, and not what their files import for their own use."""
    where = str(getattr(value, "__module__", ""))
    kernel = isinstance(value, BuiltinFunctionType) and where == "torch"
    return callable(value) and (kernel or where.startswith(("torch.nn", "torch.optim", networks_in_c.__name__)))


def name_of_torch(space: str, name: str) -> Any:
    """What `name` is in our module `space`, which has no such name itself; AttributeError that says where to find it."""
    if name.startswith("__"):
        raise AttributeError(f"module {space!r} has no attribute {name!r}")
    side, path = space.split(".")[1], theirs(space)
    module = importlib.import_module(path)
    try:
        value = getattr(module, name)
    except AttributeError:
        refuse(side, f"{path}.{name}")
        unknown(space, name)
    if of_torch(value):
        refuse(side, value.__name__)
        return importlib.import_module(ours(side, value.__name__))
    if side == "builtin" or name.startswith("_") or name in HANDED.get(path, ()):
        return value
    if path in HANDED:
        raise AttributeError(f"{space} has no {name} by hand: torch's own is {path}.{name}")
    for home in HANDED if belongs(value) else ():
        if getattr(importlib.import_module(home), name, None) is value:
            return getattr(importlib.import_module(ours(side, home)), name)
    refuse(side, f"{path}.{name}")
    return COUNTERPARTS.get(value, value) if isinstance(value, type) else value


def refuse(side: str, path: str) -> None:
    """AttributeError where what stands at that path in torch is left out."""
    if side == "manual" and path in LEFT_OUT:
        space, _, name = ours(side, path).rpartition(".")
        raise AttributeError(f"{space} has no {name} by hand: torch's own is {path}")


def unknown(space: str, name: str) -> NoReturn:
    """AttributeError of a name that neither torch nor we have, with the nearest one that is there."""
    side, path = space.split(".")[1], theirs(space)
    for home in HANDED:
        other = ours(side, home)
        if other != space and name in getattr(sys.modules.get(other), "__all__", ()):
            raise AttributeError(f"{space} has no {name}: it is {other}.{name}")
    module, torchs = sys.modules[space], importlib.import_module(path)
    known = [n for n in module.__all__ if not isinstance(vars(module).get(n, getattr(torchs, n, None)), ModuleType)]
    folded = {n.lower(): n for n in known}
    near = difflib.get_close_matches(name, known, 1) or [
        folded[n] for n in difflib.get_close_matches(name.lower(), folded, 1)
    ]
    told = f"the nearest name is {near[0]}" if near else f"its names are in dir({space})"
    own = f" (torch's own: {path}.{near[0]})" if near and hasattr(torchs, near[0]) else ""
    raise AttributeError(f"{space} has no {name}, nor has {path}: {told}{own}")


class Mirror(ModuleType):
    """A module of ours that answers for one of torch's: where it has not a name itself, it looks there."""

    def __getattr__(self, name: str) -> Any:
        if name != "__all__":
            return name_of_torch(self.__name__, name)
        torchs = public(importlib.import_module(theirs(self.__name__)))
        return sorted({n for n in (*public(self), *torchs) if hasattr(self, n)})

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *self.__all__})

    def __setattr__(self, name: str, value: Any) -> None:
        # An import sets the submodule; where torch has a function of that name, the function it is.
        torchs = getattr(importlib.import_module(theirs(self.__name__)), name, value)
        if not isinstance(value, ModuleType) or name.startswith("__") or isinstance(torchs, ModuleType):
            super().__setattr__(name, value)


def mirror(package: str) -> None:
    """Let each loaded module of a side that has torch's path answer for torch's too."""
    for name, module in list(sys.modules.items()):
        if not name.startswith(f"{package}.") or theirs(name) not in sys.modules:
            continue
        if mirrored(theirs(name)) and ours(package.rpartition(".")[2], theirs(name)) == name:
            if package.endswith(".builtin"):  # its star imports bring torch's modules, which are found under our path
                for own in [n for n, v in vars(module).items() if not n.startswith("_") and of_torch(v)]:
                    delattr(module, own)
            vars(module).setdefault("__path__", [])
            module.__class__ = Mirror


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds, after all others, the modules that we have no file for."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        parts = fullname.split(".")
        if len(parts) < 4 or parts[0] != PACKAGE or parts[1] not in SIDES or not mirrored(theirs(fullname)):
            return None
        space, _, name = fullname.rpartition(".")
        try:
            refuse(parts[1], theirs(fullname))
            if hasattr(importlib.import_module(theirs(space)), "__path__") and importlib.util.find_spec(
                theirs(fullname)
            ):
                return ModuleSpec(fullname, self, is_package=True)
            getattr(sys.modules[space], name)
        except (
            AttributeError
        ) as error:  # of that name, as `from space import name` passes over one that has the module's
            raise ModuleNotFoundError(str(error), name=name) from None
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Mirror(spec.name, importlib.import_module(theirs(spec.name)).__doc__)

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if (home := ours(name.split(".")[1], theirs(name))) != name:
            sys.modules[name] = importlib.import_module(home)


sys.meta_path.append(Finder())

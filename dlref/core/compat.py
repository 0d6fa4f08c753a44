"""What differs between the versions of torch that dlref runs on, one entry each, and what of torch's internals it leans on."""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn
from unittest import mock

import torch
from torch.autograd import forward_ad

Version = tuple[int, int]
OLDEST: Version = (2, 11)
NEWEST: Version = (2, 15)  # that the tests have passed on


def version(text: str) -> Version:
    """Major and minor number of a version; of a development version those of the release it leads to."""
    found = re.match(r"(\d+)\.(\d+)", text)
    if found is None:
        raise ValueError(f"a version must begin with two numbers, it is {text!r}")
    return int(found[1]), int(found[2])


TORCH = version(torch.__version__)


@dataclass(frozen=True)
class Change:
    """What torch does since a version, and did before; true where the torch that runs has it."""

    package: ClassVar[str] = "torch"
    running: ClassVar[Version] = TORCH

    since: Version
    what: str
    before: str
    ours: str

    def __bool__(self) -> bool:
        return self.since <= self.running

    def __str__(self) -> str:
        return f"since {self.package} {self.since[0]}.{self.since[1]} {self.what}"


LINEAR_CROSS_ENTROPY = Change(
    (2, 13),
    "torch.nn.functional.linear_cross_entropy, torch.nn.LinearCrossEntropyLoss and LinearCrossEntropyOptions",
    "are not there",
    "composed from linear and cross_entropy, under the same names in dlref.builtin",
)

CLAMP_AT_ITS_BOUND = Change(
    (2, 14),
    "clamp, and what is made of it (the losses with a hinge, second derivatives of elu, celu, selu, huber and smooth_l1), has "
    "no gradient at its bound",
    "all of it",
    "as torch: both are subgradients",
)
LP_POOL_OF_INFINITE_NORM = Change(
    (2, 13), "lp_pool of an infinite norm is the largest or the least", "1", "the largest or the least"
)
LBFGS_MAXIMIZE = Change((2, 14), "LBFGS takes maximize", "it does not", "as torch")
ADAGRAD_STATE = Change(
    (2, 12),
    "Adagrad makes a parameter's state at its first step where the constructor made none",
    "KeyError for a parameter of a group that comes later, and for a state that was forgotten",
    "makes it",
)
INTERMEDIATE_RESULTS = Change(
    (2, 12),
    "Dynamo tells a Function's outputs from what it computes on the way",
    "it hands out both, so that an output that is what was computed, as after `to` its own dtype, gets a gradient of 0",
    "outputs are views of what was computed",
)
CONTEXT_IN_GRAPHS = Change(
    (2, 14),
    "Dynamo reads context variables",
    "it stops there",
    "while it traces they are not read: per_sample=True then renormalises an embedding again, which changes nothing",
)
ALPHA_OF_A_SUM = Change(
    (2, 15),
    "Inductor multiplies by the alpha of a sum of which one part is a matrix product",
    "it leaves the alpha out: add(a @ b, c, alpha=0.01) is a @ b + c",
    "optimizers multiply by it themselves where they are compiled",
)
SCATTER_OF_A_NUMBER = Change(
    (2, 13),
    "Inductor keeps the dtype of zeros into which a number is scattered",
    "they become float32, and so does what is computed of them",
    "a tensor is scattered",
)
GROUP_NORM_OF_NOTHING = Change(
    (2, 14), "group_norm refuses groups of no values", "it answers, with no values or the bias", "refused"
)
ATTENTION_OF_NO_HEADS = Change(
    (2, 12), "scaled_dot_product_attention answers where there are no heads", "it kills the process", "no values"
)
LP_POOL_OF_NORM_NOUGHT = Change((2, 14), "lp_pool refuses a norm of 0 by ValueError", "ZeroDivisionError", "ValueError")
EVALUATION_WITHOUT_EPS = Change(
    (2, 12), "batch_norm takes an eps of 0 where it does not train", "ValueError", "takes it"
)
RMS_NORM_UNDER_AUTOCAST = Change(
    (2, 12), "rms_norm computes in float32 under autocast on CUDA", "in the dtype that its input has", "as torch"
)
DIMENSIONS_OF_CELLS = Change(
    (2, 15), "recurrent cells refuse an input of one dimension by RuntimeError", "IndexError", "RuntimeError"
)
LANCZOS = Change((2, 12), "interpolate has the mode lanczos", "it does not", "as torch")
COUNTS_OF_BAGS = Change(
    (2, 14),
    "embedding_bag counts each index with scale_grad_by_freq",
    "the last of the sorted indices has the count of the one before",
    "counted",
)
FRACTIONAL_POOL_OF_NOTHING = Change(
    (2, 14),
    "fractional max pooling refuses windows of no elements",
    "it answers (2.12 and 2.13 were not tried)",
    "refused",
)
SECOND_TANGENTS_OF_SOLVE = Change(
    (2, 15),
    "the tangent of linalg.solve has a right derivative",
    "the second derivative by forward mode over forward or under reverse mode is another, in silence",
    "solved by lu_factor and lu_solve, whose derivatives are right",
)
TRICUBIC_GRID_SAMPLE = Change((2, 15), "grid_sample takes volumes with the mode bicubic", "RuntimeError", "takes them")
TRUNCATED_BY_REJECTION = Change(
    (2, 12),
    "trunc_normal_ rejects what lies outside",
    "it takes the normal's quantiles of uniform numbers",
    "as torch: the same numbers from one seed",
)


# --- torch's internals ------------------------------------------------------------------------------------------------


class Gone:
    """What stands for an internal of torch's that this torch has no more: whoever uses it is told."""

    path: str

    def __init__(self, path: str):
        self.__dict__["path"] = path

    def _told(self, *_: Any, **__: Any) -> NoReturn:
        tried = " to ".join(".".join(map(str, v)) for v in (OLDEST, NEWEST))
        raise RuntimeError(f"dlref rests here on {self.path}, which torch {torch.__version__} has no more: use a torch from "
                           f"{tried}, or a newer dlref")  # fmt: skip

    __call__ = __getattr__ = __iter__ = __lt__ = _told


def internal(path: str) -> Any:
    """What stands at that place in torch; where it is gone, what says so when it is used."""
    parts, found = path.split("."), torch
    for number, name in enumerate(parts[1:], 2):
        try:
            found = getattr(found, name) if hasattr(found, name) else importlib.import_module(".".join(parts[:number]))
        except ImportError:
            return Gone(path)
    return found


def warn_if_untried() -> None:
    if TORCH > NEWEST:
        warnings.warn(f"dlref was tried with torch until {'.'.join(map(str, NEWEST))}, this is {torch.__version__}: it should "
                      "work; run its tests, and tell what fails", stacklevel=2)  # fmt: skip


warn_if_untried()

# Transforms of torch.func, batched tensors, tracing, autocast, modes.
maybe_current_level = internal("torch._C._functorch.maybe_current_level")
get_interpreter_stack = internal("torch._C._functorch.get_interpreter_stack")
is_functorch_wrapped_tensor = internal("torch._C._functorch.is_functorch_wrapped_tensor")
get_unwrapped = internal("torch._C._functorch.get_unwrapped")
TransformType = internal("torch._C._functorch.TransformType")
dispatch_keys = internal("torch._C._dispatch_keys")
_key_named = internal("torch._C._parse_dispatch_key")
BATCHED = _key_named if isinstance(_key_named, Gone) else _key_named("Batched")
is_tracing = internal("torch._C._is_tracing")
is_any_autocast_enabled = internal("torch._C._is_any_autocast_enabled")
set_grad_enabled = internal("torch._C._set_grad_enabled")  # not a context manager, which takes longer than a small step
len_torch_function_stack = internal("torch._C._len_torch_function_stack")
pop_torch_function_stack = internal("torch._C._pop_torch_function_stack")
get_overloaded_args = internal("torch.overrides._get_overloaded_args")
# Names, signatures and kernels.
functions_in_c = internal("torch._C._VariableFunctions")
methods_in_c = internal("torch._C.TensorBase")
networks_in_c = internal("torch._C._nn")
schemas = internal("torch._C._jit_get_schemas_for_operator")
dump_table = internal("torch._C._dispatch_dump_table")
single_level_function = internal("torch.autograd.function._SingleLevelFunction")
# Layouts, modules, optimizers, CPUs.
suggest_memory_format = internal("torch._prims_common.suggest_memory_format")
make_contiguous_strides_for = internal("torch._prims_common.make_contiguous_strides_for")
detect_is_causal_mask = internal("torch.nn.modules.transformer._detect_is_causal_mask")
get_seq_len = internal("torch.nn.modules.transformer._get_seq_len")
get_scalar_dtype = internal("torch.optim.optimizer._get_scalar_dtype")
device_dtype_check_for_fused = internal("torch.optim.optimizer._device_dtype_check_for_fused")
get_capturable_supported_devices = internal("torch.optim.optimizer._get_capturable_supported_devices")
is_amx_tile_supported = internal("torch.cpu._is_amx_tile_supported")


def in_dual_level() -> bool:
    """Whether tensors may carry tangents of forward mode."""
    return forward_ad._current_level >= 0


def registered_kernels() -> Any:
    """The kernels that torch.library has been given, as "space/name/key"."""
    return internal("torch.library._impls")


def compile_graph(
    graph: torch.fx.GraphModule, arguments: list, lasting: list, mode: str | None, options: dict[str, Any]
) -> Callable:
    """The graph by Inductor, without torch.compile's capture.

    lasting: those of its arguments that are the same tensors at every call. Inductor makes a CUDA graph only where nothing but
    those is changed, and learns of them what Dynamo notes of a module's parameters. A CUDA graph writes its results into the
    same memory at every call: they are copied.
    """
    import torch._inductor  # which takes a while
    from torch._dynamo.source import LocalSource

    modes = torch._inductor.list_mode_options(mode) if mode else {}
    options = {**modes, **options}
    if not options.get("triton.cudagraphs"):
        return torch._inductor.compile(graph, arguments, options=options)
    graph.meta["dynamo_compile_id"] = None
    graph.__dict__["_param_name_to_source"] = {}
    stays = {id(t) for t in lasting}
    for node, value in zip(graph.graph.find_nodes(op="placeholder"), arguments, strict=True):
        node._dynamo_source = LocalSource(node.name)
        node.meta["tensor_dict"] = {"_dynamo_static_input_type": "unguarded"} if id(value) in stays else {}
    compiled = torch._inductor.compile(graph, arguments, options=options)

    def called(*arguments: Any) -> list:
        torch.compiler.cudagraph_mark_step_begin()
        return [t.clone() for t in compiled(*arguments)]

    return called


def sparse_tensor(indices: torch.Tensor, values: torch.Tensor, size: Any) -> torch.Tensor:
    """A sparse tensor whose indices are known to be right; torch 2.11 warns that it does not look where an argument says so."""
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        return torch.sparse_coo_tensor(indices, values, size)


def unseen_by_dynamo(function: Any) -> None:
    """Let Dynamo pass over this function's frame, and trace those that it calls."""
    frames = internal("torch._C._dynamo.eval_frame")
    action = frames._FrameAction
    frames.set_code_exec_strategy(function.__code__, frames._FrameExecStrategy(action.SKIP, action.DEFAULT))


def recurrence_allowed() -> contextlib.AbstractContextManager:
    """Inside, Dynamo looks into a torch.nn.RNN, LSTM or GRU, where it is at work."""
    if torch.compiler.is_compiling() or not internal("torch._C._dynamo.eval_frame").get_eval_frame_callback():
        return contextlib.nullcontext()
    return torch._dynamo.config.patch(allow_rnn=True)


unseen_by_dynamo(recurrence_allowed)  # traced, it would take itself for a part of what is compiled


def not_compilable() -> type[Exception]:
    """What torch.compile raises of what it cannot compile, once it has been called."""
    return torch._dynamo.exc.TorchDynamoException


def fake_tensor_mode() -> Any:
    """A mode in which tensors have shapes and no values."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode


def whole(function: Any, kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """The keywords of a call, for the `__torch_function__` of a mode, which torch does not tell the weight of an l1_loss."""
    kwargs = kwargs or {}
    if function is not torch.nn.functional.l1_loss or "weight" in kwargs or torch.compiler.is_compiling():
        return kwargs
    seen = sys._getframe(2).f_locals.get(
        "relevant_args", ()
    )  # input, target and weight, of torch's handle_torch_function
    return {**kwargs, "weight": seen[2]} if len(seen) == 3 else kwargs


@contextlib.contextmanager
def databases() -> Iterator[None]:
    """Round an import of PyTorch's databases, torch.testing._internal, which warns of torch.jit and freezes the flags of
    torch.backends for the rest of the process."""
    free = not torch.backends.flags_frozen()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if free:
            torch.backends.flags_frozen.__globals__["__allow_nonbracketed_mutation_flag"] = True


def flags_free() -> contextlib.AbstractContextManager[None]:
    """Inside, flags of torch.backends can be set also where somebody has frozen them."""
    return getattr(torch.backends, "__allow_nonbracketed_mutation")()


def op_db() -> list:
    """PyTorch's database of operations; ImportError where expecttest is not installed. So too the next two."""
    with databases():
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # that there is no compiler for CUDA
        from torch.testing._internal.common_methods_invocations import op_db
    return op_db


def module_db() -> list:
    with databases():
        from torch.testing._internal.common_modules import module_db
    return module_db


def optim_db() -> list:
    with databases():
        from torch.testing._internal.common_optimizers import optim_db
    return optim_db


@contextlib.contextmanager
def of_no_unittest() -> Iterator[None]:
    """Inside, PyTorch's databases do not look through the stack for a unittest that they would draw samples for."""
    with contextlib.ExitStack() as nameless:
        for place in ("common_utils", "opinfo.core"):
            module = sys.modules.get(f"torch.testing._internal.{place}")
            if hasattr(module, "extract_test_fn"):
                nameless.enter_context(mock.patch.object(module, "extract_test_fn", lambda: None))
        yield

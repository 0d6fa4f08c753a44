r"""How scikit-learn's estimators learn and predict here: the network, the epochs, the output.

What is minimised over a batch, whose samples weigh $S = \sum_n w_n$ together, is scikit-learn's

$$E = \frac{1}{S} \sum_n w_n\,l(z_n, y_n) + \frac{\alpha}{2 S} \sum_l \|W_l\|^2,$$

the first term by an `Objective`, the second by the optimizer's weight decay $\alpha / S$ of the weights. The same random_state
gives scikit-learn's initial weights and batches.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import validate_data
from torch import Tensor, nn

from ..core.flat import flatten
from ..manual.lbfgs import minimize_lbfgs
from ..models import mlp, module_named
from ..reuse.convert import convert
from ..step.products import by_onednn, pay
from .common import CONSTRAINTS, Rows, device_of, dtype_of, namespace, tensor_of
from .export import Exports
from .objective import Objective, objective
from .steps import put, scipy_lbfgs, whole
from .stochastic import NUMBERS, Stochastic

ACTIVATIONS = {"logistic": "Sigmoid"}  # scikit-learn's names that are not torch's
CACHED = 2**19  # of them that a CPU's cache holds

# The parameters beside scikit-learn's own.
OWN: dict[str, Any] = dict(backend="manual", device="auto", dtype=None, compile="auto", dropout=0.0, optimizer=None,
                           output_activation=None, callbacks=None)  # fmt: skip
OWN_CONSTRAINTS: dict[str, list] = {
    **CONSTRAINTS,
    "activation": [str, nn.Module],
    "loss": [str, nn.Module, list, tuple],
    "verbose": ["verbose", StrOptions({"bar"})],
    "compile": ["boolean", StrOptions({"auto"})],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "optimizer": [str, callable, None],
    "output_activation": [str, nn.Module, None],
    "callbacks": [callable, list, tuple, None],
}


if TYPE_CHECKING:
    from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron as Extended
else:
    Extended = object


class Live:
    """What is not part of an estimator's state, as it can be made of it: the network, and the step on a batch."""

    key: tuple = ()
    arrays: list[np.ndarray] = []
    network: Any = None
    learning = False
    take: Any = None


class Backpropagation(Stochastic, Exports, Extended):
    """Mixin in front of scikit-learn's classes.

    `coefs_`, `intercepts_` and `activation_params_` (of activations that have any) are the truth, also where somebody sets
    them; on the CPU the network shares their memory.
    """

    # --- the network ------------------------------------------------------------------------------------------------

    def _layers(self, ns: Any) -> nn.Sequential:
        """The network for the shapes of the coefficients; what its affine layers hold is replaced."""
        sizes = [len(c) for c in self.coefs_]
        functions = iter(self._functions(len(sizes) - 1))
        with torch.device("meta"):  # neither memory nor random numbers for what is replaced
            layers = mlp(ns, sizes[0], tuple(sizes[1:]), self.coefs_[-1].shape[1], functions.__next__, self.dropout)
        if self.output_activation is not None:
            layers.append(self._function(self.output_activation))
        return layers

    def _functions(self, number: int) -> list[nn.Module]:
        """The activation, for so many hidden layers."""
        return [self._function(self.activation) for _ in range(number)]

    def _function(self, activation: str | nn.Module) -> nn.Module:
        if isinstance(activation, nn.Module):
            return convert(copy.deepcopy(activation), self.backend)
        return module_named(namespace(self.backend), ACTIVATIONS.get(activation, activation))()

    def _form(self) -> tuple:
        """What decides on the network beside its parameters."""
        return self.backend, self.dropout, self.activation, self.output_activation

    def _row_size(self) -> int:
        """The most numbers that a row becomes in the network."""
        return max(max(c.shape) for c in self.coefs_)

    @staticmethod
    def _parameters(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The weights, and the others: intercepts, then those of the activations."""
        affine = [m for m in network.modules() if isinstance(m, nn.Linear)]
        weights, intercepts = [m.weight for m in affine], [m.bias for m in affine]
        rest = [p for p in network.parameters() if p not in {*weights, *intercepts}]
        return weights, [*intercepts, *rest]  # type: ignore[return-value]

    def _arrays(self) -> list[np.ndarray]:
        """What the parameters are, in their order; that of a weight (out, in) is (in, out)."""
        return [*self.coefs_, *self.intercepts_, *self.__dict__.get("activation_params_", ())]

    def _network(self, learning: bool = False) -> nn.Sequential:
        """The network of the coefficients as they are now; learning: which writes into them."""
        live = self._live
        device = device_of(self.device)
        key, arrays = (device, *self._form()), self._arrays()
        same = live.key == key and list(map(id, arrays)) == list(map(id, live.arrays))
        if not same or (learning and not live.learning):
            network = self._layers(namespace(self.backend))
            weights, others = self._parameters(network)
            tensors = [tensor_of(a.T, device) for a in arrays]
            for p, t in zip([*weights, *others], tensors, strict=True):
                put(network, p, nn.Parameter(t))
            live.key, live.arrays, live.network, live.learning, live.take = key, arrays, network, learning, None
            if learning:
                flatten(network, [p for part in self._parameters(network) for p in part])
                self._show()
        elif device.type != "cpu":  # somebody may have changed them in place
            weights, others = self._parameters(live.network)
            with torch.no_grad():
                for p, a in zip([*weights, *others], arrays, strict=True):
                    p.copy_(tensor_of(a.T, device))
        return live.network

    def _show(self) -> None:
        """Let the arrays be what the network has learnt: on the CPU its own memory."""
        weights, others = self._parameters(self._live.network)
        arrays = [p.detach().cpu().numpy().T for p in [*weights, *others]]
        n = len(weights)
        self.coefs_, self.intercepts_, self.activation_params_ = arrays[:n], arrays[n : 2 * n], arrays[2 * n :]
        self._live.arrays = self._arrays()

    @property
    def _live(self) -> Live:
        return self.__dict__.setdefault("_transient", Live())

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_transient"}

    # --- what scikit-learn calls in `fit` ---------------------------------------------------------------------------

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, np.ndarray]:
        device_of(self.device)
        self._function(self.activation)
        if self.optimizer is not None and self.solver == "lbfgs":
            raise ValueError("optimizer takes the place of the solvers 'sgd' and 'adam'; with 'lbfgs' it must be None")
        X, y = super()._validate_input(X, y, incremental, reset)
        return X.astype(dtype_of(self.dtype, X.dtype), copy=False), y

    def _initialize(self, y: np.ndarray, layer_units: list[int], dtype: np.dtype) -> None:
        super()._initialize(y, layer_units, dtype)
        self.activation_params_ = self._initial_rest(dtype)
        self._best_rest = [a.copy() for a in self.activation_params_]

    def _initial_rest(self, dtype: np.dtype) -> list[np.ndarray]:
        """What the parameters beside the affine layers' begin as."""
        _, others = self._parameters(self._layers(namespace(self.backend)))
        return [p.detach().numpy().astype(dtype) for p in others[len(self.intercepts_) :]]

    def _fit_lbfgs(self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None, *unused: Any) -> None:
        if self.dropout:
            raise ValueError(
                f"dropout must be 0 with the solver 'lbfgs', whose line search needs one error; it is {self.dropout}"
            )
        dtype = self.coefs_[0].dtype
        self._cast(np.float64)  # a rounded error would stop the line search
        flat, value_and_gradient = self._whole(X, y, self._sample_weights(y, sample_weight))
        reached = flat.clone()
        self.n_iter_ = 0
        limits = {"max_iter": self.max_iter, "max_fun": self.max_fun, "gtol": self.tol}
        minimize = minimize_lbfgs if self.backend == "manual" else scipy_lbfgs
        try:
            with self._bar() as told:

                def callback(intermediate_result: Any) -> None:
                    self._noted(float(intermediate_result.fun))
                    reached.copy_(torch.as_tensor(intermediate_result.x, device=reached.device))
                    told(f"loss {self.loss_:.6f}")
                    if self.callbacks:
                        flat.copy_(reached)
                        self._show()
                        if self._called_back():
                            raise StopIteration

                result = minimize(value_and_gradient, flat.detach().clone(), callback=callback, **limits)
            self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
            self.loss_ = float(result.fun)
            reached.copy_(torch.as_tensor(result.x, device=reached.device))
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        with torch.no_grad():
            flat.copy_(reached)
        self._show()
        self._cast(dtype)

    def _whole(self, X: Any, y: np.ndarray, w: np.ndarray | None) -> tuple[Tensor, Callable]:
        """All parameters as one tensor, and what gives of their values the loss and its gradient over all samples."""
        network, goal = self._network(learning=True).train(), self._objective()
        weights, others = self._parameters(network)
        parameters = [*weights, *others]
        flat, flat_weights = whole(parameters), whole(weights)
        gradient = whole([p.grad_slot for p in parameters])  # type: ignore[attr-defined]
        ((x, (target, v), total, constant),) = self._batches(X, y, w, X.shape[0], False)()
        rows = max(1, NUMBERS // self._row_size())  # bounds the memory of the layers' outputs
        gradients = namespace(self.backend).training.gradients
        decay = self.alpha / total

        def value_and_gradient(values: Tensor) -> tuple[float, Tensor]:
            with torch.no_grad():
                flat.copy_(values)
                gradient.zero_()
            for p in parameters:
                p.grad = p.grad_slot  # type: ignore[attr-defined]
            error = sum(gradients(network, goal, a, (b, c))[1].detach()
                        for a, b, c in zip(x.split(rows), target.split(rows), v.split(rows), strict=True))  # fmt: skip
            with torch.no_grad():
                gradient[: len(flat_weights)].add_(flat_weights, alpha=decay)
                error = error * self._shown + 0.5 * decay * flat_weights.dot(flat_weights)
            return float(error if constant is None else error + constant), gradient.clone()

        return flat, value_and_gradient

    def _loss_grad_lbfgs(
        self, packed_coef_inter: np.ndarray, X: Any, y: np.ndarray, sample_weight: Any, *unused: Any
    ) -> tuple:
        """The same of scikit-learn's packed parameters, each weight (in, out)."""
        flat, value_and_gradient = self._whole(X, y, sample_weight)
        start = 0
        for a in self._arrays():
            a[...] = packed_coef_inter[start : start + a.size].reshape(a.shape)
            start += a.size
        self._network(learning=True)  # which on the CPU has them already, as they are its memory
        loss, _ = value_and_gradient(flat.clone())
        parts: Any = self._parameters(self._live.network)
        grads = [p.grad_slot.cpu().numpy().T for part in parts for p in part]
        return loss, np.concatenate([g.ravel() for g in grads])

    def _cast(self, dtype: Any) -> None:
        for name in ("coefs_", "intercepts_", "activation_params_"):
            setattr(self, name, [a.astype(dtype) for a in self.__dict__.get(name, ())])

    # --- what is minimised ----------------------------------------------------------------------------------------------

    def _objective(self) -> Objective:
        return objective(namespace(self.backend), self.backend, self._loss_name(), self.n_outputs_)

    def _loss_name(self) -> Any:
        """The loss, by the name that it has for these outputs."""
        return "binary_log_loss" if self.loss == "log_loss" and self.out_activation_ == "logistic" else self.loss

    @property
    def _shown(self) -> float:
        """scikit-learn's loss over the error: it shows the mean of the outputs' squares, with the gradient of their sum."""
        return 1 / self.n_outputs_ if self.loss == "squared_error" else 1.0

    def _targets(self, y: np.ndarray, device: torch.device, dtype: np.dtype) -> Tensor:
        """y as the criterion takes it: (N, outputs); class indices (N,) for another loss of several classes."""
        if self.out_activation_ == "softmax" and self.loss != "log_loss":
            return tensor_of(y.argmax(1), device)
        return tensor_of(y, device, dtype)

    def _constant(self, targets: Tensor) -> Tensor | None:
        r"""$\sum_k y_k \log y_k - y_k$ (N,), which the Poisson deviance has beside the likelihood's $e^z - y z$."""
        return (torch.xlogy(targets, targets) - targets).sum(1) if self.loss == "poisson" else None

    # --- prediction -----------------------------------------------------------------------------------------------------

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> np.ndarray:
        """What is predicted for each row (N, outputs)."""
        return self._output(self._values(X, check_input)).cpu().numpy()

    def _values(self, X: Any, check_input: bool = True) -> Tensor:
        """The network's output for each row (N, outputs)."""
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        return self._apply(self._network().eval(), X)

    def _apply(self, function: Callable[[Tensor], Tensor], X: Any) -> Tensor:
        """What the function makes of the rows, a piece of them at a time."""
        rows = Rows(X, device_of(self.device), self.coefs_[0].dtype)
        piece = max(1, (CACHED if rows.device.type == "cpu" else NUMBERS) // self._row_size())
        with torch.no_grad(), self._products(min(piece, X.shape[0])):
            outputs = [function(rows[start : start + piece]) for start in range(0, X.shape[0], piece)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _products(self, rows: int) -> contextlib.AbstractContextManager:
        """Large float32 products on the CPU by oneDNN, which on some takes half of MKL's time."""
        dtype = torch.float32 if self.coefs_[0].dtype == np.float32 else torch.float64
        return by_onednn(pay(rows * max(c.size for c in self.coefs_), dtype, device_of(self.device)))

    def _output(self, z: Tensor) -> Tensor:
        """What is predicted of the network's output."""
        F = namespace(self.backend).functional
        if self.out_activation_ == "softmax":
            return F.softmax(z, 1)
        if self.out_activation_ == "identity":
            return z
        return torch.sigmoid(z) if self.out_activation_ == "logistic" else torch.exp(z)

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
from collections.abc import Callable, Iterator
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import check_non_negative, validate_data
from torch import Tensor, nn

from ..builtin.nn import GaussianNoise
from ..convert import convert
from ..manual.flat import flatten
from ..manual.lbfgs import minimize_lbfgs
from ..models import mlp, module_named
from ..names import called, optimizer_named
from ..products import onednn_rounds_as_float32, products
from .common import CONSTRAINTS, Rows, device_of, dtype_of, namespace, tensor_of
from .export import Exports
from .objective import Objective, factor, objective
from .steps import Warming, put, scipy_lbfgs, whole
from .updates import Updates

ACTIVATIONS = {"logistic": "Sigmoid"}  # scikit-learn's names that are not torch's
RANDOM = (nn.modules.dropout._DropoutNd, nn.RReLU, GaussianNoise)  # modules that draw numbers in training
NUMBERS = 2**22  # that a piece of the data may hold
CACHED = 2**19  # of them that a CPU's cache holds
LARGE = 2**22  # multiplications of a product that are worth the choice of its kernel

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


class Backpropagation(Exports, Extended):
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

    def _fit_stochastic(self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None, *unused: Any) -> None:
        incremental = unused[-1]
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if not incremental or not hasattr(self, "_optimizer"):
            adam = self.optimizer is None and self.solver == "adam"  # scikit-learn's keeps its rate
            self._optimizer = Updates(self.learning_rate_init, "constant" if adam else self.learning_rate, self.power_t,
                                      self.epsilon if adam else None)  # fmt: skip
        w, held = self._sample_weights(y, sample_weight, incremental), None
        if self.early_stopping:
            X, y, w, held = self._held_out(X, y, w)
        n = X.shape[0]
        if self.batch_size != "auto" and self.batch_size > n:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=2
            )
        batch = min(200 if self.batch_size == "auto" else self.batch_size, n)
        epoch = self._epochs(X, y, w, batch)  # makes the network
        self.n_iter_ = 0
        try:
            with self._seeded(), self._bar() as told:
                while not self._ended(epoch(), n, held, told) and not incremental:
                    if self.n_iter_ >= self.max_iter:
                        warnings.warn(f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the "
                                      "optimization hasn't converged yet.", ConvergenceWarning, stacklevel=2)  # fmt: skip
                        break
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        self._show()
        if held is not None:
            self.coefs_, self.intercepts_, self.activation_params_ = (
                self._best_coefs,
                self._best_intercepts,
                self._best_rest,
            )

    def _sample_weights(
        self, y: np.ndarray, sample_weight: np.ndarray | None, partly: bool = False
    ) -> np.ndarray | None:
        """What each sample weighs, (N,); None where all weigh 1."""
        if sample_weight is not None:
            check_non_negative(sample_weight, "`sample_weight`")
        return sample_weight

    def _held_out(self, X: Any, y: np.ndarray, w: np.ndarray | None) -> tuple:
        """The training part, and what the scores are of: X, y and weights."""
        stratify = y if is_classifier(self) and self.n_outputs_ == 1 else None
        parts = train_test_split(X, y, *(() if w is None else (w,)), random_state=self._random_state,
                                 test_size=self.validation_fraction, stratify=stratify)  # fmt: skip
        X, X_held, y, y_held, w, w_held = parts if w is not None else (*parts, None, None)
        if X_held.shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        if is_classifier(self):
            y_held = self._label_binarizer.inverse_transform(y_held)
        return X, y, w, (X_held, y_held, w_held)

    def _epochs(self, X: Any, y: np.ndarray, w: np.ndarray | None, batch: int) -> Callable[[], float]:
        """What takes an epoch's steps, and returns the mean over the samples of what was minimised while they were learnt."""
        network = self._network(learning=True)
        weights, others = self._parameters(network)
        updates, flat = self._optimizer, whole(weights)
        updates.bind(weights, others, self._make_optimizer)
        goal = self._objective()
        take = self._step(network, goal, updates.optimizer)
        batches = self._batches(X, y, w, batch, self.shuffle)
        alpha = 0.0 if updates.decoupled else self.alpha
        by_autograd = self.backend == "builtin"

        def epoch() -> float:
            network.train()
            errors, squares, sizes, totals = [], [], [], []
            with torch.set_grad_enabled(by_autograd), self._products(batch):
                for x, target, total, constant in batches():
                    updates.begin(self.alpha, total)
                    if alpha:
                        squares.append(flat.dot(flat))
                    error = take(x, target)
                    errors.append(error if constant is None else error + constant)
                    sizes.append(len(x))
                    totals.append(total)
            means = torch.stack(errors).detach().double().cpu().numpy() * self._shown
            if alpha:
                means += 0.5 * alpha * torch.stack(squares).detach().double().cpu().numpy() / totals
            return float(means @ sizes) / sum(sizes)

        return epoch

    def _batches(
        self, X: Any, y: np.ndarray, w: np.ndarray | None, batch: int, shuffled: bool
    ) -> Callable[[], Iterator[tuple]]:
        """What yields, in the order of an epoch, a batch's x, target (y, normalised weights), total weight, and the constant
        that scikit-learn's loss has beside the criterion's; made of pieces of bounded size."""
        device, dtype = device_of(self.device), self.coefs_[0].dtype
        rows, targets = Rows(X, device, dtype), self._targets(y, device, dtype)
        constant = self._constant(targets)
        n, scale = X.shape[0], factor(self.loss)
        piece = batch * max(1, NUMBERS // (batch * max(1, X.shape[1])))
        indices, starts = np.arange(n), np.arange(0, n, batch)
        sizes = np.diff(starts, append=n)
        even = {size: tensor_of(np.full(size, scale / size, dtype), device) for size in set(sizes.tolist())}

        def weighed(order: np.ndarray) -> tuple[list[Tensor], list[float]]:
            """The normalised weights of each batch, and their sum before."""
            if w is None:
                return [even[size] for size in sizes.tolist()], sizes.astype(float).tolist()
            weights = w[order].astype(dtype, copy=False)
            totals = np.add.reduceat(weights, starts)
            if not totals.all():
                raise ZeroDivisionError("Weights sum to zero, can't be normalized")
            weights = scale * weights / np.repeat(totals, sizes)
            return list(tensor_of(weights, device, dtype).split(batch)), totals.tolist()

        def batches() -> Iterator[tuple]:
            nonlocal indices
            if shuffled:
                order = np.arange(n)
                self._random_state.shuffle(order)
                indices = indices[order]  # as sklearn.utils.shuffle draws them
            weights, totals = weighed(indices)
            drawn = tensor_of(indices, device) if shuffled else None
            for start in range(0, n, piece):
                part = slice(start, start + piece)
                here = part if drawn is None else drawn[part]
                parts = [t.split(batch) for t in (rows[here], targets[here])]
                extra = None if constant is None else constant[here].split(batch)
                for i, (x, t) in enumerate(zip(*parts, strict=True)):
                    v = weights[start // batch + i]
                    yield x, (t, v), totals[start // batch + i], None if extra is None else extra[i].dot(v)

        return batches

    def _step(self, network: nn.Module, goal: Objective, optimizer: Any) -> Callable[[Tensor, Any], Tensor]:
        """The step on a batch, (x, target) -> error, as it was made for this network and optimizer."""
        live = self._live
        if live.take is None or live.take[:3] != (optimizer, self.compile, self.loss):
            training = namespace(self.backend).training
            if self.compile is True:
                take = training.compiled(network, goal, optimizer, None, "inductor")
            elif self.compile == "auto" and self.backend == "manual":
                take = Warming(network, goal, optimizer)
            else:
                take = lambda x, target: training.step(network, goal, optimizer, x, target)  # noqa: E731
            live.take = (optimizer, self.compile, self.loss, take)
        return live.take[3]

    def _make_optimizer(self, groups: list[dict]) -> torch.optim.Optimizer:
        ns, rate = namespace(self.backend), self.learning_rate_init
        if self.optimizer is None:
            fused = {"fused": True} if self.backend == "builtin" else {}
            if self.solver == "sgd":
                nesterov = self.nesterovs_momentum and self.momentum > 0  # torch refuses it without momentum
                return ns.optim.SGD(groups, lr=rate, momentum=self.momentum, nesterov=nesterov, **fused)
            return ns.optim.Adam(groups, lr=rate, betas=(self.beta_1, self.beta_2), **fused)
        if isinstance(self.optimizer, str):
            return optimizer_named(ns, self.optimizer, groups, lr=rate)
        return called("optimizer", self.optimizer, groups, lr=rate)

    def _ended(self, loss: float, n: int, held: tuple | None, told: Callable[[str], Any]) -> bool:
        """Note an epoch as scikit-learn does, and tell whether it was the last."""
        self.t_ += n
        self.loss_curve_.append(loss)
        self._noted(loss)
        if held is not None or self.callbacks:
            self._show()
        best = None if held is None else self.best_validation_score_
        self._update_no_improvement_count(held is not None, *(held or (None, None, None)))
        if held is not None and self.best_validation_score_ > best:
            self._best_rest = [a.copy() for a in self.activation_params_]
        self._optimizer.iteration_ends(self.t_)
        told(f"loss {loss:.6f}" + (f", validation score {self.validation_scores_[-1]:.4f}" if held is not None else ""))
        stopped = self._called_back()
        if self._no_improvement_count > self.n_iter_no_change:
            what = "Validation score" if held is not None else "Training loss"
            message = (
                f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} consecutive epochs."
            )
            if self._optimizer.trigger_stopping(message, self._talks):
                return True
            self._no_improvement_count: int = 0
        return stopped

    @property
    def _talks(self) -> bool:
        return bool(self.verbose) and self.verbose != "bar"

    def _noted(self, loss: float) -> None:
        """Count an iteration, and say what it came to where somebody listens."""
        self.n_iter_ += 1
        self.loss_ = loss
        if self._talks:
            print(f"Iteration {self.n_iter_}, loss = {loss:.8f}")

    def _called_back(self) -> bool:
        """Call all the callbacks; whether one of them wants the training to end."""
        callbacks = [self.callbacks] if callable(self.callbacks) else self.callbacks or ()
        wanted = [callback(self) for callback in callbacks]
        return any(wanted)

    @contextlib.contextmanager
    def _seeded(self) -> Iterator[None]:
        """Let torch's random numbers (dropout, noise) be decided by random_state, and leave its generators as they were."""
        if not any(isinstance(m, RANDOM) for m in self._live.network.modules()):
            yield
            return
        device = device_of(self.device)
        generators = [torch.default_generator]
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            generators.append(torch.cuda.default_generators[index])
        before = [generator.get_state() for generator in generators]
        # Of a copy, as the random state's own numbers go on as in scikit-learn.
        seed = int(copy.deepcopy(self._random_state).randint(2**31 - 1)) + self.t_
        try:  # one by one, as torch.manual_seed notes the stack, which takes a millisecond
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)

    @contextlib.contextmanager
    def _bar(self) -> Iterator[Callable[[str], Any]]:
        """What takes the description of an epoch that is done, for a progress bar where one is wanted."""
        if self.verbose != "bar":
            yield lambda text: None
            return
        from rich.progress import Progress

        with Progress() as progress:
            task = progress.add_task("", total=self.max_iter)
            yield lambda text: progress.update(task, advance=1, description=text)

    # --- L-BFGS -----------------------------------------------------------------------------------------------------

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
                    reached.copy_(torch.as_tensor(intermediate_result.x))
                    told(f"loss {self.loss_:.6f}")
                    if self.callbacks:
                        flat.copy_(reached)
                        self._show()
                        if self._called_back():
                            raise StopIteration

                result = minimize(value_and_gradient, flat.detach().clone(), callback=callback, **limits)
            self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
            self.loss_ = float(result.fun)
            reached.copy_(torch.as_tensor(result.x))
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
        large = rows * max(c.size for c in self.coefs_) >= LARGE and self.coefs_[0].dtype == np.float32
        here = large and device_of(self.device).type == "cpu" and onednn_rounds_as_float32()
        return products("onednn" if here else "default")

    def _output(self, z: Tensor) -> Tensor:
        """What is predicted of the network's output."""
        F = namespace(self.backend).functional
        if self.out_activation_ == "softmax":
            return F.softmax(z, 1)
        if self.out_activation_ == "identity":
            return z
        return torch.sigmoid(z) if self.out_activation_ == "logistic" else torch.exp(z)

"""Training by mini-batches in front of scikit-learn's classes: epochs, batches, early stopping, what is told meanwhile."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_non_negative
from torch import Tensor, nn

from ..builtin.nn import GaussianNoise
from ..core.names import called
from ..manual.optim.named import optimizer_named
from .common import Rows, device_of, namespace, tensor_of
from .objective import Objective, factor
from .steps import Warming, whole
from .updates import Updates

RANDOM = (nn.modules.dropout._DropoutNd, nn.RReLU, GaussianNoise)  # modules that draw numbers in training
NUMBERS = 2**22  # that a piece of the data may hold

if TYPE_CHECKING:
    from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron as Extended
else:
    Extended = object


class Stochastic(Extended):
    """The part of an estimator that learns by mini-batches, on the network that `Backpropagation` makes."""

    if TYPE_CHECKING:
        _best_rest: Any

        def __getattr__(self, name: str) -> Any: ...

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
            if not sample_weight.any():  # as scikit-learn since 1.9
                raise ValueError("Sample weights must contain at least one non-zero number.")
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

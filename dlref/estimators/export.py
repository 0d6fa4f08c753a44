"""What an estimator has learnt, for the world without this library: a plain torch module, an ONNX file."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sklearn.base import is_classifier, is_regressor
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ..builtin.nn import GaussianNoise
from ..core.extras import optional
from ..reuse.convert import convert
from .common import dtype_of

IN_FLOAT64 = (
    nn.Sequential,
    nn.Linear,
    nn.Identity,
    nn.ReLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softmax,
    nn.Flatten,
    torch.fx.GraphModule,
)


if TYPE_CHECKING:
    from sklearn.base import BaseEstimator as Extended
else:
    Extended = object


def traced(module: nn.Module) -> torch.fx.GraphModule:
    """The module as a graph that needs no class of ours; without types, which torch before 2.15 cannot pickle as texts."""
    graph = torch.fx.symbolic_trace(module)
    for node in graph.graph.nodes:
        node.type = None
    graph.recompile()
    return graph


class ToOnnx(Extended):
    """Mixin of the estimators that have an export_torch."""

    def to_onnx(self, path: str | Path, dtype: str | None = None) -> None:
        """Write what export_torch gives to an ONNX file: input "X" (N, features), output "probabilities", "scores" or "values".

        dtype: "float32" or "float64"; None: as fitted, but float32 where there are activations beside scikit-learn's, as
        runtimes (onnxruntime) lack them in float64. The classes stand in its metadata as "classes", in JSON. ImportError where
        onnx or onnxscript is not installed.
        """
        module = self.export_torch()
        if dtype is None and any(not isinstance(part, IN_FLOAT64) for part in module.modules()):
            dtype = "float32"
        if dtype is not None:
            module = module.to(getattr(torch, dtype_of(dtype, None).name))
        with optional():
            import onnx
            import onnxscript  # noqa: F401
        name = "probabilities" if hasattr(self, "predict_proba") else "scores" if is_classifier(self) else "values"
        parameter = next(module.parameters())
        x = torch.zeros(2, self.n_features_in_, dtype=parameter.dtype, device=parameter.device)
        program: Any = torch.onnx.export(module, (x,), dynamo=True, input_names=["X"], output_names=[name], verbose=False,
                                         dynamic_shapes=({0: torch.export.Dim("N")},))  # fmt: skip
        model = program.model_proto
        if is_classifier(self):
            onnx.helper.set_model_props(model, {"classes": json.dumps(module.classes)})
        onnx.save(model, str(path))


class Exports(ToOnnx):
    """Mixin of the estimators that are a network."""

    def _exported(self) -> nn.Sequential:
        """The network in evaluation, on the CPU, with what makes the prediction of its output at the end."""
        check_is_fitted(self)
        network = copy.deepcopy(self._network()).cpu()
        layers = [*_without_noise(network)]
        if self.out_activation_ == "softmax":
            layers.append(nn.Softmax(1))
        elif self.out_activation_ == "logistic":
            layers += [nn.Sigmoid()] if self.n_outputs_ > 1 else _two_classes(layers.pop())
        else:
            if self.out_activation_ == "exp":
                layers.append(traced(_Exp()))
            if self.n_outputs_ == 1 and is_regressor(self):
                layers.append(nn.Flatten(0))  # predict's (N,)
        return nn.Sequential(*layers)

    def export_torch(self) -> nn.Module:
        """A plain torch.nn module, in evaluation, that predicts the same and needs nothing of this library.

        Input (N, features) of the dtype that was fitted; output the probabilities (N, classes), as predict_proba gives them, or
        the values, as predict does. A classifier's `classes_` stand in its attribute `classes`, a list.
        """
        module = convert(self._exported(), "builtin").eval().requires_grad_(False)
        if is_classifier(self):
            module.classes = self.classes_.tolist()
        return module


def _without_noise(network: nn.Sequential) -> nn.Sequential:
    """The layers without those that do nothing in evaluation."""
    kept = [layer for layer in network if not isinstance(layer, (nn.Dropout, GaussianNoise))]
    return nn.Sequential(*(_without_noise(layer) if isinstance(layer, nn.Sequential) else layer for layer in kept))


class _Exp(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return torch.exp(z)


def _two_classes(last: nn.Linear) -> list[nn.Module]:
    r"""The layers that give both classes' probabilities: $\mathrm{softmax}(0, z) = (\sigma(-z), \sigma(z))$."""
    both = nn.Linear(last.in_features, 2, dtype=last.weight.dtype, device=last.weight.device)
    with torch.no_grad():
        for ours, theirs in ((both.weight, last.weight), (both.bias, last.bias)):
            ours.zero_()[1:] = theirs
    return [both, nn.Softmax(1)]

"""How a gradient vanishes and explodes on its way through time, and what clipping makes of it: a figure."""

from __future__ import annotations

import dlref.cli.signals  # noqa: F401  heeds Ctrl-C while the rest is imported

# isort: split

from typing import Any, Literal

import torch
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dlref import builtin, manual
from dlref.cli.common import beginning, new_run, print_table, script

SIDES: dict[str, Any] = {"manual": manual, "builtin": builtin}
# Spectral radius of the recurrent weights, and the nonlinearity.
NETWORKS = ((0.8, "tanh"), (1.0, "tanh"), (1.5, "tanh"), (0.9, "relu"), (1.5, "relu"), (2.0, "relu"))


def recurrent_gradients(
    side: Literal["manual", "builtin"] = "manual",
    steps: PositiveInt = 200,
    hidden: PositiveInt = 64,
    max_norm: PositiveFloat = 1.0,
    seed: NonNegativeInt = 0,
    runs: str = "runs",
) -> None:
    r"""Draw the norm of dE/dx_t against the number of steps back from the end, for RNNs of growing weights and an LSTM.

    The error sits at the last step alone. Through k steps of an RNN the gradient is multiplied by k Jacobians, each the
    transposed weights times the slopes of the nonlinearity: it shrinks or grows as the k-th power of their largest
    eigenvalue. An LSTM's cell multiplies it by the forget gate instead (here of bias 1 and 5).

    Args:
        side: By hand-derived gradients (manual) or by autograd (builtin).
        steps: Steps in time.
        hidden: Units.
        max_norm: What the norm of all parameters' gradients together is clipped to.
        seed: Of the weights and the inputs.
        runs: Where the new folder of this run is made.
    """
    ns, console = SIDES[side], Console()
    torch.manual_seed(seed)
    x = 0.1 * torch.randn(4, steps, hidden, dtype=torch.float64)
    direction = torch.randn(4, hidden, dtype=torch.float64)
    weight = torch.randn(hidden, hidden, dtype=torch.float64)
    weight /= torch.linalg.eigvals(weight).abs().max()
    networks: dict[str, Any] = {}
    for radius, nonlinearity in NETWORKS:
        networks[f"{nonlinearity}, radius {radius}"] = network = ns.nn.RNN(
            hidden, hidden, nonlinearity=nonlinearity, batch_first=True
        ).double()
        with torch.no_grad():
            network.weight_hh_l0.copy_(radius * weight)
    for bias in (1, 5):
        networks[f"LSTM, forget bias {bias}"] = network = ns.nn.LSTM(hidden, hidden, batch_first=True).double()
        with torch.no_grad():
            network.bias_ih_l0[hidden : 2 * hidden] = bias  # input, forget, cell, output

    folder = new_run(runs, f"recurrent-{side}")
    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    table = Table("network", "first step / last", "norm of all gradients", f"clipped to {max_norm:g}")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, network in networks.items():
        dx = gradient(network, x, direction, side)
        beginning.end()
        norms = dx.norm(dim=2).mean(0)  # (steps,)
        axis.semilogy(norms.flip(0).clamp(min=1e-300).numpy(), label=name)
        before = ns.nn.utils.clip_grad_norm_(network.parameters(), max_norm)
        after = torch.stack([p.grad.norm() for p in network.parameters()]).norm()
        table.add_row(name, f"{norms[0] / norms[-1]:.1e}", f"{before:.3e}", f"{after:.3e}")
    axis.set(xlabel="steps back from the error", ylabel="norm of dE/dx", title="A gradient on its way through time")
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    figure.savefig(folder / "gradients.png", dpi=150)
    print_table(console, table)
    console.print(f"wrote {folder}/gradients.png", soft_wrap=True, highlight=False)


def gradient(network: Any, x: Tensor, direction: Tensor, side: str) -> Tensor:
    """dE/dx (N, T, I) of E = the last output times a direction; the parameters' gradients are in their .grad."""
    if side == "manual":
        (outputs, _), pullback = network.vjp(x)
        dy = torch.zeros_like(outputs)
        dy[:, -1] = direction
        return pullback((dy, None))[0]
    x = x.clone().requires_grad_()
    (network(x)[0][:, -1] * direction).sum().backward()
    return x.grad  # type: ignore[return-value]


if __name__ == "__main__":
    script(recurrent_gradients)

"""Approximate a smooth function of two variables by radial basis functions and by perceptrons of as many parameters."""

from __future__ import annotations

import dlref.cli.signals  # noqa: F401  heeds Ctrl-C while the rest is imported

# isort: split

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse.typing import NonNegativeInt, PositiveInt
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from dlref import builtin, manual
from dlref.cli.common import beginning, new_run, print_table, script
from dlref.models import least_squares, mlp, rbf_network

SIDES: dict[str, Any] = {"manual": manual, "builtin": builtin}
WAYS = ("RBF, least squares", "RBF, then gradients", "MLP, gradients")
SIDE = 80  # of the raster that the surfaces are drawn on


def franke(x: Tensor) -> Tensor:
    """Franke's function on the unit square, two hills and a hollow: (N, 2) to (N, 1). Franke 1979, NPS-53-79-003."""
    u, v = 9 * x[:, :1], 9 * x[:, 1:]
    return (
        0.75 * torch.exp(-((u - 2) ** 2 + (v - 2) ** 2) / 4)
        + 0.75 * torch.exp(-((u + 1) ** 2) / 49 - (v + 1) / 10)
        + 0.5 * torch.exp(-((u - 7) ** 2 + (v - 3) ** 2) / 4)
        - 0.2 * torch.exp(-((u - 4) ** 2) - (v - 7) ** 2)
    )


def fit_surface(
    side: Literal["manual", "builtin"] = "manual",
    units: Sequence[PositiveInt] = (5, 10, 20, 40, 80, 160),
    kernel: str = "gaussian",
    samples: PositiveInt = 1000,
    epochs: PositiveInt = 300,
    seed: NonNegativeInt = 0,
    runs: str = "runs",
) -> None:
    """Print and draw the test error of both kinds of network for a growing number of units, and the surfaces that they fit.

    A network of M radial units of two variables has 4 M + 1 parameters, and so has a perceptron of M hidden units.

    Args:
        side: By hand-derived gradients (manual) or by autograd (builtin).
        units: Numbers of units.
        kernel: gaussian, multiquadric, inverse_multiquadric or thin_plate.
        samples: Points to train on, drawn from the unit square; twice as many to test.
        epochs: Passes over them, for what is trained by gradients.
        seed: Of the points and the initial weights.
        runs: Where the new folder of this run is made.
    """
    ns, console = SIDES[side], Console()
    generator = torch.Generator().manual_seed(seed)
    x, x_test = (torch.rand(n, 2, generator=generator, dtype=torch.float64) for n in (samples, 2 * samples))
    y, y_test = franke(x), franke(x_test)
    raster = torch.cartesian_prod(*2 * [torch.linspace(0, 1, SIDE, dtype=torch.float64)])
    surface = franke(raster)
    x, x_test, raster = ((v - 0.5) * 12**0.5 for v in (x, x_test, raster))  # of mean 0 and deviation 1

    def error(network: Any) -> float:
        with torch.no_grad():
            return (network(x_test) - y_test).square().mean().sqrt().item()

    def descend(network: Any, lr: float) -> Any:
        optimizer = ns.optim.Adam(network.parameters(), lr)
        schedule = ns.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        ns.training.fit(
            network, ns.nn.MSELoss(), optimizer, (x, y), epochs=epochs, batch_size=50, schedule=schedule, tolerance=None,
            seed=seed,
        )  # fmt: skip
        return network

    folder, errors, fits = new_run(runs, f"surface-{side}"), {}, {}
    table = Table(
        "units", "parameters", *WAYS,
        title=f"Root mean square error on the test points; the surface's deviation is {y_test.std():.3f}",
    )  # fmt: skip
    for column in table.columns:
        column.justify = "right"
    for number in track(sorted(units), "units", console=console):
        torch.manual_seed(seed)
        radial = rbf_network(ns, 2, number, 1, kernel).double()
        radial[0].fit_centers(x, scale=2.0, seed=seed)
        least_squares(radial, x, y, ridge=1e-12)
        solved = error(radial)
        beginning.end()
        perceptron = mlp(ns, 2, number, 1, "tanh").double()
        parameters = sum(p.numel() for p in radial.parameters())
        assert parameters == sum(p.numel() for p in perceptron.parameters())
        with torch.no_grad():
            fits[number] = {WAYS[0]: radial(raster)}
        found = (solved, error(descend(radial, 1e-3)), error(descend(perceptron, 1e-2)))
        with torch.no_grad():
            fits[number][WAYS[2]] = perceptron(raster)
        errors[number] = dict(zip(WAYS, found, strict=True))
        table.add_row(str(number), str(parameters), *(f"{value:.2e}" for value in found))
    print_table(console, table)
    draw(folder / "errors.png", errors, f"Franke's function, {samples} points, {kernel} units, {side}")
    draw_surfaces(folder / "surfaces.png", surface, {number: fits[number] for number in (min(fits), max(fits))})
    (folder / "errors.json").write_text(json.dumps(errors, indent=2) + "\n")
    console.print(f"wrote {folder}/: errors.png, surfaces.png, errors.json", soft_wrap=True, highlight=False)


def draw(path: Path, errors: dict[int, dict[str, float]], title: str) -> None:
    """The errors over the number of units, both on logarithmic scales."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axis = figure.subplots()
    for way in WAYS:
        axis.plot(list(errors), [found[way] for found in errors.values()], label=way, marker="o")
    axis.set(xscale="log", yscale="log", xlabel="units", ylabel="root mean square error, test points", title=title)
    axis.set_xticks(list(errors), [str(number) for number in errors], minor=False)
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=120)


def draw_surfaces(path: Path, surface: Tensor, fits: dict[int, dict[str, Tensor]]) -> None:
    """The surface, and in a row for each number of units the fits to it and how far they are from it, on the unit square."""
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 0.4 + 2.2 * len(fits)), layout="compressed")
    axes = figure.subplots(len(fits), 5, squeeze=False, sharex=True, sharey=True)
    # One scale for all, so that fits can be compared, and one for their errors.
    heights: dict[str, Any] = {"norm": Normalize(float(surface.min()), float(surface.max()))}
    errors: dict[str, Any] = {"norm": LogNorm(1e-5, 1, clip=True), "cmap": "magma"}
    for line, (number, found) in zip(axes, fits.items(), strict=True):
        tiles = [("Franke's function", surface, heights)]
        tiles += [(f"{way}, {number} units", fit, heights) for way, fit in found.items()]
        tiles += [(f"error of {way[:3]}", (fit - surface).abs(), errors) for way, fit in found.items()]
        for axis, (title, values, options) in zip(line, tiles, strict=True):
            axis.imshow(values.view(SIDE, SIDE).T.numpy(), origin="lower", extent=(0, 1, 0, 1), **options)
            axis.set_title(title, fontsize=9)
    figure.colorbar(axes[0, 0].images[0], ax=axes[:, :3], label="height", aspect=30)
    figure.colorbar(axes[0, -1].images[0], ax=axes[:, 3:], label="error, logarithmic scale", aspect=30)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    script(fit_surface)

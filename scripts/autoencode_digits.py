"""Autoencoders of the digits against principal components: reconstruction, denoising, and images of drawn codes."""

from __future__ import annotations

import dlref.cli.signals  # noqa: F401  heeds Ctrl-C while the rest is imported

# isort: split

import json
from typing import Any, Literal

import torch
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dlref import builtin, data, manual, models
from dlref.cli import checkpoint
from dlref.cli.common import beginning, device_named, new_run, print_table, script
from dlref.pictures.images import draw_rows

# What may be another when a run is continued.
FREE = {"side", "device", "on_nonfinite", "runs", "resume", "override"}
SIDES: dict[str, Any] = {"manual": manual, "builtin": builtin}


def autoencode_digits(
    side: Literal["manual", "builtin"] = "manual",
    code: PositiveInt = 8,
    hidden: PositiveInt = 128,
    noise: PositiveFloat = 0.5,
    lr: PositiveFloat = 0.003,
    batch_size: PositiveInt = 64,
    epochs: PositiveInt = 150,
    seed: NonNegativeInt = 0,
    device: str = "cpu",
    on_nonfinite: Literal["stop", "skip", "ignore"] = "stop",
    runs: str = "runs",
    resume: str | None = None,
    override: bool = False,
) -> None:
    """Train five autoencoders and print their test errors next to those of as many principal components.

    Args:
        side: By hand-derived gradients (manual) or by autograd (builtin).
        code: Numbers in the code.
        hidden: Units between image and code.
        noise: Standard deviation of what the denoising autoencoder takes away, in deviations of the pixels.
        lr: Learning rate of Adam, which falls to 0 as a cosine.
        batch_size: Images in a mini-batch.
        epochs: Passes over the training images.
        seed: Of the split, the initial weights and the order of the images.
        device: cpu, cuda, cuda:1, ..., or auto for a GPU where there is one.
        on_nonfinite: What to do where a loss, a gradient or a parameter is not finite: stop, and name it; skip the update; or
            ignore it.
        runs: Where the new folder of this run is made.
        resume: Folder of an interrupted run of this script, to continue from; or auto: the last one, and a new run where
            there is none.
        override: Continue although other options were given than those that the run began with.
    """
    given = {name: value for name, value in locals().items() if name not in FREE}
    ns, where, console = SIDES[side], device_named(device), Console()
    split = data.digits(seed=seed)
    x, x_test = (part.tensors[0].to(where) for part in (split.train, split.test))
    as_image = lambda v: v.view(-1, 1, 8, 8)  # noqa: E731
    torch.manual_seed(seed)
    networks = {
        "dense": models.autoencoder(ns, hidden=hidden, code=code),
        "tied": models.autoencoder(ns, hidden=hidden, code=code, tied=True),
        "convolutional": models.convolutional_autoencoder(ns, code=code),
        "variational": models.variational_autoencoder(ns, hidden=hidden, code=code),
        "denoising": models.autoencoder(ns, hidden=4 * hidden, code=64, noise=noise),
    }
    done: dict[str, Any] = {}
    if (origin := checkpoint.resolved(resume, runs, f"autoencode-{side}")) is not None:
        for path in (origin.with_name(f"{name}.pt") for name in networks):
            if path.exists():
                done[path.name] = checkpoint.load(path, "network", "history", options=given, override=override)
    folder = new_run(runs, f"autoencode-{side}")
    for file, state in done.items():
        checkpoint.write(folder / file, {**state, "origin": str(origin)})

    principal = f"{code} principal components"
    found = {principal: principal_components(x, x_test, code)}
    errors = {principal: mse(found[principal], x_test)}
    for name, network in networks.items():
        network.to(where)
        shaped = as_image if name == "convolutional" else lambda v: v
        criterion = ns.nn.VariationalLoss() if name == "variational" else ns.nn.MSELoss()
        optimizer = ns.optim.Adam(network.parameters(), lr)
        schedule = ns.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        with console.status(f"{name}: {epochs} epochs"):
            ns.training.fit(
                network, criterion, optimizer, (shaped(x), shaped(x)), epochs=epochs, batch_size=batch_size,
                schedule=schedule, tolerance=None, seed=seed, checkpoint=folder / f"{name}.pt", options=given,
                override=override, on_nonfinite=on_nonfinite,
            )  # fmt: skip
        beginning.end()
        network.eval()
        if name != "denoising":
            with torch.no_grad():
                output = network(shaped(x_test))
            found[name] = (output[0] if name == "variational" else output).view_as(x_test)
            errors[name] = mse(found[name], x_test)
    generator = torch.Generator().manual_seed(seed)
    noisy = x_test + noise * torch.randn(x_test.shape, generator=generator).to(where)
    with torch.no_grad():
        clean = networks["denoising"](noisy)
        drawn = networks["variational"].decoder(torch.randn(12, code, generator=generator).to(where))
    cleaned = {
        f"denoised by an autoencoder (code 64, hidden {4 * hidden})": clean,
        f"denoised by {principal}": principal_components(x, noisy, code),
    }
    noises = {"noisy images": mse(noisy, x_test)} | {name: mse(images, x_test) for name, images in cleaned.items()}

    for title, values in (
        (f"Test error of images through {code} numbers", errors),
        ("Test error of noisy images", noises),
    ):
        table = Table("", "mean square", title=title)
        for name, value in values.items():
            table.add_row(name, f"{value:.4f}")
        print_table(console, table)
    rows = {"test image": x_test, **found, "noisy image": noisy, **cleaned, "variational, drawn code": drawn}
    draw_rows(folder / "images.png", {name: images[:12] for name, images in rows.items()})
    (folder / "errors.json").write_text(json.dumps(errors | noises, indent=2) + "\n")
    checkpoint.write(folder / "last.pt", {name: network.state_dict() for name, network in networks.items()})
    console.print(
        f"wrote {folder}/: images.png, errors.json, last.pt and one .pt a network", soft_wrap=True, highlight=False
    )


def principal_components(x: Tensor, x_test: Tensor, number: int) -> Tensor:
    """The test images through the first principal components of the training images, by scikit-learn."""
    from sklearn.decomposition import PCA

    pca = PCA(number).fit(x.cpu().numpy())
    return torch.as_tensor(pca.inverse_transform(pca.transform(x_test.cpu().numpy()))).to(x_test)


def mse(a: Tensor, b: Tensor) -> float:
    return (a - b).square().mean().item()


if __name__ == "__main__":
    script(autoencode_digits)

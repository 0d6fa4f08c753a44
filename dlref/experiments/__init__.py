"""The article's claims put to the test: an experiment a file, in the article's order; `dlref experiment run NAME` runs one."""

from __future__ import annotations

import importlib

from ..core.names import one_of
from .base import Experiment

NAMES = (  # in the article's order
    "learned_features", "depth", "weight_sharing", "long_memory", "gradients_through_time", "code", "training_size",
    "fitting", "leakage", "three_sets", "outliers", "saturation", "entropy_floor", "calibration", "kl_asymmetry",
    "losses", "loss_cost", "steepest_descent", "single_samples", "momentum", "valley", "rosenbrock", "adam_parts",
    "optimizers", "perceptron", "xor", "radial_units", "where_training_ends", "until_convergence", "backpropagation", "uphill",
    "initialisation", "learning_rate", "learning_rate_decay", "batch_size", "gradient_noise", "batch_memory",
    "activation", "activation_depth", "dead_units", "standardisation", "digits_as_published",
)  # fmt: skip


def experiment(name: str) -> Experiment:
    """The experiment of that name: `learning_rate` is the class LearningRate of the file learning_rate.py.

    ValueError where there is none.
    """
    one_of("experiment", name, NAMES)
    kind = "".join(word.capitalize() for word in name.split("_"))
    return getattr(importlib.import_module(f"{__name__}.{name}"), kind)(name)

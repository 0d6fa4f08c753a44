"""A call of every operation, of a size at which the work outweighs the overhead of a call (a view does none)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..core.names import one_of
from ..samples import NAMES
from ..samples.hard import call

Call = tuple[tuple, dict[str, Any]]
Case = Callable[["Draw"], Call]


class Draw:
    """Arguments: calling it gives a tensor of normal numbers that learns, its methods give others."""

    def __init__(self, device: torch.device | str = "cpu", seed: int = 0):
        self.device, self.generator = torch.device(device), torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return self.normal(*shape).requires_grad_()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        """In (0.1, 0.9): probabilities, variances, widths."""
        return (0.1 + 0.8 * torch.rand(shape, generator=self.generator)).to(self.device)

    def log_probabilities(self, *shape: int) -> Tensor:
        return self.normal(*shape).log_softmax(-1).requires_grad_()

    def signs(self, *shape: int) -> Tensor:
        return self.normal(*shape).sign()

    def below(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.generator).to(self.device)

    def labels(self, rows: int, classes: int, each: int) -> Tensor:
        """`each` different classes a row, then -1."""
        order = torch.stack([torch.randperm(classes, generator=self.generator) for _ in range(rows)])
        order[:, each:] = -1
        return order.to(self.device)

    def pooled(self, *shape: int) -> tuple[Tensor, Tensor]:
        """What max pooling by 2 leaves of an input of the shape, and where it was."""
        pool = getattr(torch.nn.functional, f"max_pool{len(shape) - 2}d")
        output, indices = pool(self.normal(*shape), 2, return_indices=True)
        return output.requires_grad_(), indices


LIGHT = """gelu glu hardshrink hardsigmoid hardswish hardtanh leaky_relu relu relu6 sigmoid silu softshrink""".split()
HEAVY = """celu elu logsigmoid mish selu softplus softsign tanh tanhshrink""".split()
POOLED = {1: (64, 64, 128), 2: (8, 64, 28, 28), 3: (8, 16, 16, 16, 16)}


def each(pattern: str, case: Callable[[int, Draw], Call]) -> dict[str, Case]:
    """The same case in one, two and three dimensions."""
    return {pattern.format(n): functools.partial(case, n) for n in POOLED}


OPERATIONS: dict[str, Case] = {
    **dict.fromkeys(LIGHT, lambda x: call(x(1024, 1024))),
    **dict.fromkeys(HEAVY, lambda x: call(x(512, 512))),
    **dict.fromkeys(("dropout", "alpha_dropout"), lambda x: call(x(256, 512), 0.5, True)),
    **dict.fromkeys(("softmax", "log_softmax", "softmin"), lambda x: call(x(512, 1000), -1)),
    **dict.fromkeys(("huber_loss", "l1_loss", "mse_loss", "smooth_l1_loss"),
                    lambda x: call(x(1024, 1024), x.normal(1024, 1024))),
    **dict.fromkeys(("hinge_embedding_loss", "perceptron_loss", "soft_margin_loss"),
                    lambda x: call(x(256, 512), x.signs(256, 512))),
    **each("adaptive_avg_pool{}d", lambda n, x: call(x(*POOLED[n]), (4,) * n)),
    **each("adaptive_max_pool{}d", lambda n, x: call(x(*POOLED[n]), (4,) * n)),
    **each("avg_pool{}d", lambda n, x: call(x(*POOLED[n]), 2)),
    **each("max_pool{}d", lambda n, x: call(x(*POOLED[n]), 2)),
    **each("adaptive_max_pool{}d_with_indices", lambda n, x: call(x(*POOLED[n]), (4,) * n)),
    **each("max_pool{}d_with_indices", lambda n, x: call(x(*POOLED[n]), 2)),
    **dict.fromkeys(("fractional_max_pool2d", "fractional_max_pool2d_with_indices"),
                    lambda x: call(x(*POOLED[2]), 2, output_ratio=(0.7, 0.7))),
    **dict.fromkeys(("fractional_max_pool3d", "fractional_max_pool3d_with_indices"),
                    lambda x: call(x(*POOLED[3]), 2, output_ratio=(0.7, 0.7, 0.7))),
    **each("lp_pool{}d", lambda n, x: call(x(*POOLED[n]), 2.0, 2)),
    **each("max_unpool{}d", lambda n, x: call(*x.pooled(32, *POOLED[n][1:]), 2)),
    "dropout1d": lambda x: call(x(64, 64, 256), 0.5, True),
    "dropout2d": lambda x: call(x(16, 64, 32, 32), 0.5, True),
    "dropout3d": lambda x: call(x(16, 64, 4, 16, 16), 0.5, True),
    "feature_alpha_dropout": lambda x: call(x(16, 64, 32, 32), 0.5, True),
    "conv1d": lambda x: call(x(32, 32, 128), x(64, 32, 3), x(64), padding=1),
    "conv2d": lambda x: call(x(8, 16, 16, 16), x(32, 16, 3, 3), x(32), padding=1),
    "conv3d": lambda x: call(x(4, 8, 8, 16, 16), x(16, 8, 3, 3, 3), x(16), padding=1),
    "conv_tbc": lambda x: call(x(128, 32, 32), x(3, 32, 64), x(64), 1),
    "conv_transpose1d": lambda x: call(x(32, 64, 64), x(64, 32, 4), x(32), stride=2, padding=1),
    "conv_transpose2d": lambda x: call(x(8, 32, 8, 8), x(32, 16, 4, 4), x(16), stride=2, padding=1),
    "conv_transpose3d": lambda x: call(x(4, 16, 4, 8, 8), x(16, 8, 4, 4, 4), x(8), stride=2, padding=1),
    "local_linear": lambda x: call(x(32, 4, 16, 16), x(14, 14, 8, 4, 3, 3), x(8, 14, 14)),
    "affine_grid": lambda x: call(x(256, 2, 3), (256, 3, 64, 64), False),
    "grid_sample": lambda x: call(x(16, 3, 64, 64), x(16, 64, 64, 2), align_corners=False),
    "fold": lambda x: call(x(16, 144, 256), (16, 16), 3, padding=1),
    "unfold": lambda x: call(x(16, 16, 16, 16), 3, padding=1),
    "batch_norm": lambda x: call(x(*POOLED[2]), x.normal(64), x.uniform(64), x(64), x(64), True),
    "instance_norm": lambda x: call(x(*POOLED[2]), None, None, x(64), x(64)),
    "group_norm": lambda x: call(x(16, 64, 28, 28), 8, x(64), x(64)),
    "layer_norm": lambda x: call(x(1024, 512), (512,), x(512), x(512)),
    "rms_norm": lambda x: call(x(1024, 512), (512,), x(512)),
    "local_response_norm": lambda x: call(x(8, 32, 16, 16), 5),
    "normalize": lambda x: call(x(1024, 512)),
    "weight_norm": lambda x: call(x(512, 512), x(512, 1), 0),
    "spectral_norm": lambda x: call(x(512, 512), x.normal(512), x.normal(512)),
    "orthogonal": lambda x: call(x(128, 64)),
    "pdist": lambda x: call(x(256, 128)),
    "ctc_loss": lambda x: call((-x.uniform(128, 16, 32)).requires_grad_(), x.below(31, 16, 32) + 1, (128,) * 16, (32,) * 16),
    "newton_schulz": lambda x: call(x(8, 128, 256)),
    "linear": lambda x: call(x(128, 512), x(512, 512), x(512)),
    "tied_linear": lambda x: call(x(128, 512), x(512, 512), x(512)),
    "bilinear": lambda x: call(x(64, 64), x(64, 64), x(32, 64, 64), x(32)),
    "cluster_log_prob": lambda x: call(x(512, 128), x.below(8000, 512) - 4000, x(2000, 32), None, x(32, 128)),
    "embedding": lambda x: call(x.below(5000, 64, 64), x(5000, 128)),
    "embedding_bag": lambda x: call(x.below(5000, 64, 64), x(5000, 128)),
    "attention": lambda x: call(*(x(4, 4, 256, 32) for _ in range(3)), softcap=30.0, window=(64, 0), sinks=x(4)),
    "linear_attention": lambda x: call(*(x(2, 4, 256, 32) for _ in range(3))),
    "gated_delta_rule": lambda x: call(
        x(2, 4, 256, 32), (x.normal(2, 4, 256, 32) / 32**0.5).requires_grad_(), x(2, 4, 256, 32),
        x.uniform(2, 4, 256).requires_grad_(), (-x.uniform(2, 4, 256)).requires_grad_()),
    "rotary_embedding": lambda x: call(x(8, 8, 128, 64), x.normal(128, 32), x.normal(128, 32)),
    **dict.fromkeys(("swiglu", "geglu"), lambda x: call(x(512, 512), x(512, 512))),
    "add_rms_norm": lambda x: call(x(1024, 512), x(1024, 512), x(512)),
    "dynamic_tanh": lambda x: call(x(512, 512), x(1), x(512), x(512)),
    "top_k_routing": lambda x: call(x(4096, 64), 2),
    "scaled_dot_product_attention": lambda x: call(x(4, 4, 128, 32), x(4, 4, 128, 32), x(4, 4, 128, 32)),
    **dict.fromkeys(("rnn_relu_cell", "rnn_tanh_cell"), lambda x: call(x(64, 256), x(64, 256), x(256, 256), x(256, 256))),
    "lstm_cell": lambda x: call(x(64, 256), x(64, 256), x(64, 256), x(1024, 256), x(1024, 256), x(1024), x(1024)),
    "gru_cell": lambda x: call(x(64, 256), x(64, 256), x(768, 256), x(768, 256), x(768), x(768)),
    "rbf": lambda x: call(x(64, 64), x(128, 64), (10 * x.uniform(128)).requires_grad_(), "gaussian"),
    "prelu": lambda x: call(x(8, 64, 16, 16), x(64)),
    "rrelu": lambda x: call(x(256, 512), training=True),
    "threshold": lambda x: call(x(1024, 1024), 0.1, 20.0),
    "gumbel_softmax": lambda x: call(x(128, 1000)),
    "flatten": lambda x: call(x(64, 32, 8, 8), 1),
    "unflatten": lambda x: call(x(64, 2048), 1, (32, 8, 8)),
    "one_hot": lambda x: call(x.below(500, 5000), 500),
    "pad": lambda x: call(x(16, 32, 32, 32), (2, 2, 2, 2), "reflect"),
    "interpolate": lambda x: call(x(16, 32, 16, 16), scale_factor=2, mode="bilinear"),
    "upsample": lambda x: call(x(16, 32, 16, 16), scale_factor=2, mode="bilinear"),
    "upsample_bilinear": lambda x: call(x(16, 32, 16, 16), scale_factor=2),
    "upsample_nearest": lambda x: call(x(16, 32, 16, 16), scale_factor=2),
    "pixel_shuffle": lambda x: call(x(8, 64, 32, 32), 2),
    "pixel_unshuffle": lambda x: call(x(8, 16, 32, 32), 2),
    "channel_shuffle": lambda x: call(x(16, 64, 32, 32), 8),
    "cosine_similarity": lambda x: call(x(1024, 256), x(1024, 256)),
    "pairwise_distance": lambda x: call(x(1024, 256), x(1024, 256)),
    "reparametrize": lambda x: call(x(512, 512), x(512, 512)),
    "gaussian_kl": lambda x: call(x(512, 512), x(512, 512)),
    "binary_cross_entropy": lambda x: call(x.uniform(256, 512).requires_grad_(), x.uniform(256, 512)),
    "binary_cross_entropy_with_logits": lambda x: call(x(256, 512), x.uniform(256, 512)),
    "gaussian_nll_loss": lambda x: call(x(512, 512), x.normal(512, 512), x.uniform(512, 512).requires_grad_()),
    "poisson_nll_loss": lambda x: call(x(512, 1024), x.uniform(512, 1024)),
    "kl_div": lambda x: call(x(512, 1024), x.uniform(512, 1024), reduction="batchmean"),
    "cross_entropy": lambda x: call(x(512, 1000), x.below(1000, 512)),
    "linear_cross_entropy": lambda x: call(x(256, 128), x(8000, 128), x.below(8000, 256)),
    "nll_loss": lambda x: call(x(4096, 1000), x.below(1000, 4096)),
    "multilabel_soft_margin_loss": lambda x: call(x(512, 512), x.uniform(512, 512).round()),
    "multilabel_margin_loss": lambda x: call(x(256, 200), x.labels(256, 200, 8)),
    "multi_margin_loss": lambda x: call(x(256, 1000), x.below(1000, 256)),
    "cosine_embedding_loss": lambda x: call(x(1024, 256), x(1024, 256), x.signs(1024)),
    "margin_ranking_loss": lambda x: call(x(512, 512), x(512, 512), x.signs(512, 512)),
    "triplet_margin_loss": lambda x: call(x(1024, 256), x(1024, 256), x(1024, 256)),
    "dice_loss": lambda x: call(x.uniform(64, 4096).requires_grad_(), x.uniform(64, 4096).round()),
    "tversky_loss": lambda x: call(x.uniform(64, 4096).requires_grad_(), x.uniform(64, 4096).round()),
    **dict.fromkeys(("entmax", "sparsemax"), lambda x: call(x(512, 1000))),
    **dict.fromkeys(("js_div", "tv_distance"), lambda x: call(x.log_probabilities(512, 1000), x.log_probabilities(512, 1000))),
    "focal_loss": lambda x: call(x(512, 1000), x.below(1000, 512)),
    "z_loss": lambda x: call(x(512, 1000)),
    "dpo_loss": lambda x: call(*(x(100_000) for _ in range(4))),
    "kto_loss": lambda x: call(x(100_000), x(100_000), x.signs(100_000) > 0, 0.1),
    "simpo_loss": lambda x: call(x(100_000), x(100_000)),
    "orpo_loss": lambda x: call(*((-x.uniform(100_000)).requires_grad_() for _ in range(2))),
    "grpo_loss": lambda x: call(*(x(128, 1024) for _ in range(3)), x(128), x.signs(128, 1024) > 0),
    "info_nce": lambda x: call(x(512, 256), x(512, 256)),
    "siglip_loss": lambda x: call(x(512, 256), x(512, 256), 0.1, -10.0),
}  # fmt: skip


def operation_call(name: str, device: torch.device | str = "cpu") -> Call:
    """The call of an operation that is timed; ValueError where there is no pair of that name."""
    one_of("name", name, NAMES)
    if name not in OPERATIONS:
        raise ValueError(f"the pair {name} must have a case to be timed: add it to OPERATIONS in dlref/bench/cases.py")
    return OPERATIONS[name](Draw(device))

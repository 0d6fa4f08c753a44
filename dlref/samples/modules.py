"""Calls of modules that PyTorch's database of them lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..builtin.composed import KERNELS
from ..core.compat import COUNTS_OF_BAGS


class Made:
    """A constructor's argument that is made in the namespace of the module under test."""

    def __init__(self, make: Callable[[Any], Any]):
        self.make = make


X, Y = torch.tensor([[-2.0, 0.3, 1.5], [0.2, -0.1, 3.0]]), torch.tensor([[0.2, -1.0, 0.5], [1.0, 0.4, -0.3]])
WAVE = torch.arange(24.0).sin()
BAGS = torch.tensor([0, 3, 1, 1, 2])
# Constructor arguments, keyword arguments, inputs.
CALLS: dict[str, list[tuple[tuple, dict[str, Any], tuple]]] = {
    "AdaptiveLogSoftmaxWithLoss": [
        ((3, 9, [2, 4]), {"div_value": 1.5}, (X, torch.tensor([8, 1]))),
        ((3, 5, [2]), {"head_bias": True, "div_value": 1.0}, (torch.cat([X, Y]), torch.tensor([0, 3, 1, 1]))),
        ((3, 7, (1, 3, 6)), {"div_value": 1.2, "head_bias": True}, (torch.cat([X, Y]), torch.tensor([6, 5, 2, 0]))),
        ((3, 9, [2, 4]), {"div_value": 1.5}, (X[0], torch.tensor(4))),
    ],
    "AlphaDropout": [((0.3,), {}, (X,))],
    "BCELoss": [],
    "DPOLoss": [((), {}, (X, Y, Y + 1, X / 2)), ((0.5, 0.1, "sum"), {}, (X, Y, Y + 1, X / 2))],
    "DiceLoss": [((), {}, (X.sigmoid(), Y.sigmoid())), ((0.0,), {}, (X.sigmoid(), Y.sigmoid()))],
    "Entmax": [((), {}, (X,)), ((1.25, 0), {}, (X,))],
    "FocalLoss": [
        ((), {}, (X, torch.tensor([0, 2]))),
        ((0.5, torch.tensor([1.0, 0.5, 2.0]), "none"), {}, (X, torch.tensor([0, 2]))),
    ],
    "GRPOLoss": [
        ((), {}, (X, Y, Y / 2, X[:, 0])),
        ((0.5, 0.1, "sum"), {}, (X, Y, Y / 2, X[:, 0], torch.tensor([[1, 1, 0], [0, 1, 0]]))),
    ],
    "InfoNCELoss": [((), {}, (X, Y)), ((0.5,), {}, (X, Y))],
    "JSDivLoss": [((), {}, (X, Y)), ((0.1, "none"), {}, (X, Y))],
    "KTOLoss": [((), {}, (X, Y, X > 0, 0.5)), ((0.5, "none"), {}, (X, Y, X > 0, 0.0))],
    "ORPOLoss": [((), {}, (-X.exp(), -Y.exp())), ((1.0, "none"), {}, (-X.exp(), -Y.exp()))],
    "SigLIPLoss": [((), {}, (X, Y)), ((2.0, 0.5), {}, (X, Y))],
    "SimPOLoss": [((), {}, (X, Y)), ((1.0, 0.0, "sum"), {}, (X, Y))],
    "Sparsemax": [((), {}, (X,)), ((0,), {}, (X,))],
    "TVDistanceLoss": [((), {}, (X, Y)), (("none",), {}, (X, Y))],
    "TverskyLoss": [((), {}, (X.sigmoid(), Y.sigmoid())), ((0.3, 0.7, 0.5), {}, (X.sigmoid(), Y.sigmoid()))],
    "ZLoss": [((), {}, (X,)), ((1.0, "none"), {}, (X,))],
    "LinearCrossEntropyLoss": [((3, 4), {}, (X, torch.tensor([0, 3])))],
    "CosineSimilarity": [((), {}, (X, Y)), ((0,), {"eps": 1e-3}, (X, Y))],
    "Dropout": [((0.4,), {}, (X,)), ((0.0,), {}, (X,)), ((1.0,), {}, (X,))],
    "Dropout1d": [((0.4,), {}, (X[None],))],
    "Dropout2d": [((0.4,), {}, (X[None, None],))],
    "Dropout3d": [((0.4,), {}, (X[None, None, None],))],
    "EmbeddingBag": [
        ((4, 3), {}, (BAGS, torch.tensor([0, 3]))),
        ((4, 3), {"mode": "sum", "padding_idx": 1}, (BAGS, torch.tensor([0, 3, 3]), WAVE[:5])),
        ((4, 3), {"mode": "max", "include_last_offset": True}, (BAGS, torch.tensor([0, 2, 5]))),
        *([((4, 3), {"scale_grad_by_freq": True}, (BAGS[:4].view(2, 2),))] if COUNTS_OF_BAGS else []),
        ((4, 3), {"mode": "sum", "max_norm": 0.5, "norm_type": 1.0}, (BAGS[:4].view(2, 2), None, WAVE[:4].view(2, 2))),
    ],
    "FeatureAlphaDropout": [((0.4,), {}, (X[None],))],
    "Flatten": [((), {}, (X[None],)), ((0,), {}, (X,)), ((0, 1), {}, (X[None],))],
    "Hardsigmoid": [((), {}, (X * 3,))],
    "Identity": [((), {}, (X,)), ((3, "any"), {"argument": 1}, (X,))],
    "CrossMapLRN2d": [
        ((size, 0.5, 0.75, 1.5), {}, (torch.arange(48.0).sin().view(2, 6, 2, 2),)) for size in (1, 2, 3, 4, 5)
    ],
    "NLLLoss2d": [
        ((), {}, (X.log_softmax(1), torch.tensor([2, 0]))),
        ((), {"ignore_index": 1, "reduction": "sum"}, (WAVE.view(2, 3, 2, 2), torch.arange(8).view(2, 2, 2) % 3)),
    ],
    "PairwiseDistance": [((), {}, (X, Y)), ((1.0,), {"keepdim": True}, (X, Y))],
    "RReLU": [((), {}, (X,)), ((0.1, 0.2), {}, (X,))],
    "SyncBatchNorm": [
        ((3,), {}, (X[:, :, None] * WAVE[:4],)),
        ((3,), {"momentum": None, "affine": False}, (X,)),
        ((3,), {"track_running_stats": False, "eps": 0.1}, (X,)),
    ],
    "TripletMarginLoss": [((), {}, (X, Y, Y + 1)), ((2.0,), {"p": 1, "swap": True}, (X, Y, Y + 1))],
    "TripletMarginWithDistanceLoss": [((), {}, (X, Y, Y + 1)), ((), {"swap": True, "margin": 2.0}, (X, Y, Y + 1))],
    "Unflatten": [((1, (3, 1)), {}, (X,))],
    "LayerNorm": [((3,), {"elementwise_affine": False}, (X,)), ((3,), {"bias": False}, (X,))],
    **{
        f"LazyInstanceNorm{n}d": [((), {"affine": True}, (torch.arange(12 * 2**n).sin().view(4, 3, *(2,) * n),))]
        for n in (1, 2, 3)
    },
    "LazyLinear": [((2,), {}, (X,))],
    **{f"LazyBatchNorm{n}d": [((), {}, (torch.arange(12 * 2**n).sin().view(4, 3, *(2,) * n),))] for n in (1, 2, 3)},
    **{
        f"MaxUnpool{n}d": [
            (
                (2,),
                {},
                (
                    torch.arange(2.0 * 2**n).sin().view(1, 2, *(2,) * n),
                    (2 * torch.arange(2**n)).view((2,) * n).expand(1, 2, *(2,) * n),
                ),
            )
        ]
        for n in (1, 2, 3)
    },
    "ChannelShuffle": [((2,), {}, (torch.arange(24.0).view(2, 4, 3),))],
    "Fold": [(((3, 3), 2), {}, (torch.arange(32.0).sin().view(1, 8, 4),))],
    "PixelShuffle": [((2,), {}, (torch.arange(24.0).view(1, 4, 2, 3),))],
    "PixelUnshuffle": [((2,), {}, (torch.arange(24.0).view(1, 1, 4, 6),))],
    "Unfold": [((2,), {"padding": 1, "stride": 2}, (torch.arange(24.0).sin().view(1, 2, 4, 3),))],
    "TransformerDecoder": [
        (
            (Made(lambda ns: ns.TransformerDecoderLayer(4, 2, 8, 0.0)), 2, Made(lambda ns: ns.LayerNorm(4))),
            {},
            (torch.arange(24).sin().view(3, 2, 4), torch.arange(40).cos().view(5, 2, 4)),
        )
    ],
    "Linear": [((3, 2), {"bias": False}, (X,))],
    "GaussianNoise": [((0.3,), {}, (X,)), ((0.0,), {}, (X,))],
    "LastStep": [((Made(lambda ns: ns.LSTM(3, 4, batch_first=True)),), {}, (WAVE.view(2, 4, 3),))],
    "LocallyConnected1d": [
        ((3, 2, 4, 3), {}, (WAVE.view(2, 3, 4),)),
        ((3, 2, 4, 3, 2, 1), {"bias": False}, (WAVE.view(2, 3, 4),)),
        ((3, 2, 8, 3), {"dilation": 2}, (WAVE.view(3, 8),)),
    ],
    "LocallyConnected2d": [
        ((3, 2, (2, 4), (2, 3)), {}, (WAVE.view(1, 3, 2, 4),)),
        ((3, 2, (2, 4), 2), {"padding": (1, 0), "stride": (2, 1)}, (WAVE.view(1, 3, 2, 4),)),
    ],
    "MeanOver": [((1,), {}, (WAVE.view(2, 4, 3),))],
    "PatchEmbedding": [((1, 3, 2, 4), {}, (WAVE[:16].view(1, 1, 4, 4),))],
    "Perceptron": [((3,), {}, (X,)), ((3, 4), {}, (X,)), ((3, 4, "voted"), {}, (X,))],
    "PerceptronLoss": [((), {}, (X, X.sign())), (("sum",), {}, (X, -X.sign())), (("none",), {}, (X, -X.sign()))],
    "AddRMSNorm": [((3,), {}, (X, Y)), (((2, 3), 0.1), {}, (X[None], Y[None]))],
    "DynamicTanh": [((3,), {}, (X,)), (((2, 3),), {"alpha_init": -1.5}, (X[None],))],
    "GEGLU": [((), {}, (X, Y)), (("tanh",), {}, (X, Y))],
    "RotaryEmbedding": [
        ((4, 8), {}, (WAVE.view(2, 3, 4),)),
        ((6, 4), {"base": 100.0, "interleaved": True}, (WAVE.view(4, 6),)),
        ((4, 8), {}, (WAVE.view(2, 3, 4), torch.tensor([[5, 6, 7], [0, 0, 3]]))),
    ],
    "SwiGLU": [((), {}, (X, Y))],
    "TopKRouting": [((1,), {}, (X,)), ((2,), {}, (WAVE.view(2, 4, 3),))],
    "RBF": [((3, 4, kernel, 0.7), {}, (X,)) for kernel in KERNELS],
    "Residual": [
        ((Made(lambda ns: ns.Sequential(ns.Linear(3, 3), ns.Tanh())),), {}, (X,)),
        ((Made(lambda ns: ns.Linear(3, 2)), Made(lambda ns: ns.Linear(3, 2))), {}, (X,)),
    ],
    "SequenceModel": [
        (
            (
                Made(lambda ns: ns.Embedding(5, 3)),
                Made(lambda ns: ns.GRU(3, 4, batch_first=True)),
                Made(lambda ns: ns.Linear(4, 5)),
            ),
            {},
            (torch.tensor([[0, 3, 1], [4, 2, 2]]),),
        )
    ],
    "TiedLinear": [((Made(lambda ns: ns.Linear(4, 3)),), {}, (X,))],
    "VariationalAutoencoder": [((Made(lambda ns: ns.Linear(3, 4)), Made(lambda ns: ns.Linear(2, 3))), {}, (X,))],
    "Upsample": [
        ((None, 2), {}, (WAVE.view(2, 3, 4),)),
        (((3, 5),), {"mode": "bilinear", "align_corners": True}, (WAVE.view(1, 3, 2, 4),)),
        ((None, (1.5, 2.0)), {"mode": "bicubic", "recompute_scale_factor": True}, (WAVE.view(1, 3, 2, 4),)),
    ],
    "UpsamplingBilinear2d": [(((3, 5),), {}, (WAVE.view(1, 3, 2, 4),)), ((None, 2), {}, (WAVE.view(1, 3, 2, 4),))],
    "UpsamplingNearest2d": [(((3, 5),), {}, (WAVE.view(1, 3, 2, 4),)), ((None, 2), {}, (WAVE.view(1, 3, 2, 4),))],
    "VariationalLoss": [((), {}, ((X, Y, X / 2), Y)), ((0.3,), {}, ((X, Y, X / 2), Y))],
}

CLASSES, SIX = torch.tensor([8, 1, 3, 0, 4, 2]), torch.tensor([0, 3, 1, 1, 2, 0])
# Calls that PyTorch's database has not: batches, in which the order of the dimensions shows. Arguments, and the inputs' shapes,
# or inputs of integers.
BATCHES: dict[str, list[tuple[dict[str, Any], tuple[tuple[int, ...] | Tensor, ...]]]] = {
    "AdaptiveLogSoftmaxWithLoss": [
        ({"in_features": 5, "n_classes": 9, "cutoffs": [2, 4], "div_value": 1.5, "head_bias": bias}, ((6, 5), CLASSES))
        for bias in (True, False)
    ],
    "EmbeddingBag": [
        ({"num_embeddings": 4, "embedding_dim": 3, "mode": mode, **options}, (SIX, torch.tensor([0, 2, 6])))
        for mode in ("sum", "mean", "max") for options in ({}, {"padding_idx": 1}, {"include_last_offset": True})
    ],
    **{name: [({"input_size": 4, "hidden_size": 3}, ((5, 2, 4),))] for name in ("RNN", "LSTM", "GRU")},
    "AddRMSNorm": [({"normalized_shape": n}, ((5, 3, 4), (5, 3, 4))) for n in (4, (3, 4))],
    "DynamicTanh": [({"normalized_shape": 4, "alpha_init": a}, ((5, 3, 4),)) for a in (0.5, 2.0)],
    "RotaryEmbedding": [({"dim": 4, "max_length": 8, "interleaved": b}, ((2, 5, 4),)) for b in (False, True)],
    "MultiheadAttention": [({"embed_dim": 6, "num_heads": 2}, ((5, 3, 6), (5, 3, 6), (5, 3, 6)))],
    "TransformerEncoderLayer": [({"d_model": 6, "nhead": 2, "dim_feedforward": 8, "dropout": 0.0}, ((5, 3, 6),))],
    "TransformerDecoderLayer": [({"d_model": 6, "nhead": 2, "dim_feedforward": 8, "dropout": 0.0}, ((5, 3, 6), (5, 3, 6)))],
}  # fmt: skip


# Values of options that PyTorch's database has not.
VALUES: dict[str, list[Any]] = {"padding_mode": ["circular", "reflect"], "stride": [2], "padding": [1], "dilation": [2],
                                "padding_idx": [3, 0]}  # fmt: skip

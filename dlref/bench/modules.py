"""An instance of every module and inputs for it, on which what both sides keep for the gradient is compared."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ..samples.hard import call
from .cases import Call, Draw

Make = Callable[[Any], Any]  # of the namespace's nn
Arguments = Callable[[Draw], Call]

# Inputs by number of dimensions after batch and channels.
SHAPES = {1: (8, 16, 64), 2: (8, 16, 16, 16), 3: (4, 8, 8, 8, 8)}


def of(name: str, *args: Any, **kwargs: Any) -> Make:
    """What makes the module of that name with these arguments."""
    return lambda nn: getattr(nn, name)(*args, **kwargs)


def quietly(name: str) -> Make:
    """What makes a module that warns that it is deprecated."""

    def make(nn: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return getattr(nn, name)()

    return make


def shaped(*shapes: tuple[int, ...]) -> Arguments:
    return lambda x: call(*(x(*shape) for shape in shapes))


def alike(names: str, arguments: Arguments, *args: Any, **kwargs: Any) -> dict[str, tuple[Make, Arguments]]:
    return {name: (of(name, *args, **kwargs), arguments) for name in names.split()}


def each(
    pattern: str, arguments: Callable[[int], tuple], dims: tuple[int, ...] = (1, 2, 3)
) -> dict[str, tuple[Make, Arguments]]:
    """A module in one, two and three dimensions, made with arguments(n)."""
    return {pattern.format(n): (of(pattern.format(n), *arguments(n)), shaped(SHAPES[n])) for n in dims}


def unpooled(n: int) -> Arguments:
    return lambda x: call(*x.pooled(*SHAPES[n]))


def transformer_layer(nn: Any, kind: str) -> Any:
    return getattr(nn, f"Transformer{kind}Layer")(32, 4, 64, batch_first=True)


SEQUENCE = (8, 16, 32)  # (batch, steps, features)
CHANNELS = {n: shape[1] for n, shape in SHAPES.items()}

MODULES: dict[str, tuple[Make, Arguments]] = {
    # activations
    **alike(
        "CELU ELU SELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU PReLU ReLU ReLU6 RReLU Softshrink GELU GLU "
        "LogSigmoid Mish Sigmoid SiLU Softplus Softsign Tanh Tanhshrink Dropout AlphaDropout Identity", shaped((64, 128)),
    ),
    **alike("Threshold", shaped((64, 128)), 0.1, 20.0),
    **alike("LogSoftmax Softmax Softmin", shaped((64, 128)), -1),
    **alike("Softmax2d FeatureAlphaDropout", shaped(SHAPES[2])),
    **each("Dropout{}d", lambda n: ()),
    # linear
    **alike("Linear", shaped((64, 128)), 128, 32),
    **alike("Bilinear", shaped((64, 16), (64, 16)), 16, 16, 8),
    **alike("Perceptron", shaped((64, 128)), 128, 10),
    **alike("RBF", shaped((64, 32)), 32, 16),
    "LinearCrossEntropyLoss": (
        lambda nn: nn.LinearCrossEntropyLoss(32, 500),
        lambda x: call(x(512, 32), x.below(500, 512)),
    ),
    "TiedLinear": (lambda nn: nn.TiedLinear(nn.Linear(128, 32)), shaped((64, 32))),
    **alike("AdaptiveLogSoftmaxWithLoss", lambda x: call(x(512, 32), x.below(500, 512)), 32, 500, [100, 250]),
    **alike("EmbeddingBag", lambda x: call(x.below(500, 64, 16)), 500, 32),
    "Embedding": (of("Embedding", 500, 32), lambda x: call(x.below(500, 64, 16))),
    # convolutional
    **each("Conv{}d", lambda n: (CHANNELS[n], 16, 3)),
    **each("ConvTranspose{}d", lambda n: (CHANNELS[n], 16, 4, 2)),
    **each("LocallyConnected{}d", lambda n: (CHANNELS[n], 8, SHAPES[n][2], 3), (1, 2)),
    **each("BatchNorm{}d", lambda n: (CHANNELS[n],)),
    **each("InstanceNorm{}d", lambda n: (CHANNELS[n],)),
    **each("MaxPool{}d", lambda n: (2,)),
    **each("AvgPool{}d", lambda n: (2,)),
    **each("LPPool{}d", lambda n: (2.0, 2)),
    **{f"FractionalMaxPool{n}d": (of(f"FractionalMaxPool{n}d", 2, output_ratio=0.7), shaped(SHAPES[n])) for n in (2, 3)},
    **each("AdaptiveAvgPool{}d", lambda n: (4,)),
    **each("AdaptiveMaxPool{}d", lambda n: (4,)),
    **{f"MaxUnpool{n}d": (of(f"MaxUnpool{n}d", 2), unpooled(n)) for n in SHAPES},
    **each("CircularPad{}d", lambda n: (1,)),
    **each("ReflectionPad{}d", lambda n: (1,)),
    **each("ReplicationPad{}d", lambda n: (1,)),
    **each("ZeroPad{}d", lambda n: (1,)),
    **each("ConstantPad{}d", lambda n: (1, 0.5)),
    **alike("ChannelShuffle", shaped(SHAPES[2]), 4),
    **alike("PixelShuffle PixelUnshuffle", shaped(SHAPES[2]), 2),
    **alike("Fold", shaped((8, 144, 64)), 8, 3, padding=1),
    **alike("Unfold", shaped(SHAPES[2]), 3, padding=1),
    **alike("Upsample UpsamplingBilinear2d UpsamplingNearest2d", shaped(SHAPES[2]), scale_factor=2),
    **alike("Flatten", shaped(SHAPES[2])),
    **alike("Unflatten", shaped((8, 128)), 1, (4, 32)),
    # normalisation
    **alike("GroupNorm", shaped(SHAPES[2]), 4, 16),
    **alike("LayerNorm RMSNorm", shaped((64, 128)), 128),
    **alike("LocalResponseNorm CrossMapLRN2d", shaped(SHAPES[2]), 5),
    **alike("SyncBatchNorm", shaped(SHAPES[2]), 16),
    **alike("AddRMSNorm", shaped((64, 128), (64, 128)), 128),
    **alike("DynamicTanh", shaped((64, 128)), 128),
    # losses and distances
    **alike("MSELoss L1Loss SmoothL1Loss HuberLoss", lambda x: call(x(64, 128), x.normal(64, 128))),
    **alike("HingeEmbeddingLoss PerceptronLoss SoftMarginLoss", lambda x: call(x(64, 128), x.signs(64, 128))),
    **alike("BCELoss", lambda x: call(x.uniform(64, 128).requires_grad_(), x.uniform(64, 128))),
    **alike("BCEWithLogitsLoss PoissonNLLLoss", lambda x: call(x(64, 128), x.uniform(64, 128))),
    **alike("KLDivLoss", lambda x: call(x(64, 128), x.uniform(64, 128)), reduction="batchmean"),
    **alike("MultiLabelSoftMarginLoss", lambda x: call(x(64, 128), x.uniform(64, 128).round())),
    **alike("GaussianNLLLoss", lambda x: call(x(64, 128), x.normal(64, 128), x.uniform(64, 128).requires_grad_())),
    **alike("CrossEntropyLoss NLLLoss MultiMarginLoss", lambda x: call(x(64, 128), x.below(128, 64))),
    **alike("MultiLabelMarginLoss", lambda x: call(x(64, 128), x.labels(64, 128, 8))),
    **alike("CosineEmbeddingLoss", lambda x: call(x(64, 128), x(64, 128), x.signs(64))),
    **alike("MarginRankingLoss", lambda x: call(x(64, 128), x(64, 128), x.signs(64, 128))),
    **alike("TripletMarginLoss TripletMarginWithDistanceLoss", shaped(*[(64, 128)] * 3)),
    **alike("CosineSimilarity PairwiseDistance", shaped(*[(64, 128)] * 2)),
    **alike("Entmax Sparsemax", shaped((64, 128))),
    **alike("GEGLU SwiGLU", shaped((64, 128), (64, 128))),
    **alike("TopKRouting", shaped((512, 16)), k=2),
    **alike("CTCLoss", lambda x: call((-x.uniform(64, 8, 32)).requires_grad_(), x.below(31, 8, 16) + 1, (64,) * 8, (16,) * 8)),
    "NLLLoss2d": (quietly("NLLLoss2d"), lambda x: call(x(*SHAPES[2]), x.below(16, 8, 16, 16))),
    **alike("JSDivLoss TVDistanceLoss", lambda x: call(x.log_probabilities(64, 128), x.log_probabilities(64, 128))),
    **alike("FocalLoss", lambda x: call(x(64, 128), x.below(128, 64))),
    **alike("ZLoss", shaped((64, 128))),
    **alike("DPOLoss", shaped(*[(4096,)] * 4)),
    **alike("KTOLoss", lambda x: call(x(4096), x(4096), x.signs(4096) > 0, 0.1)),
    **alike("SimPOLoss", shaped(*[(4096,)] * 2)),
    **alike("ORPOLoss", lambda x: call(*((-x.uniform(4096)).requires_grad_() for _ in range(2)))),
    **alike("GRPOLoss", lambda x: call(*(x(32, 256) for _ in range(3)), x(32), x.signs(32, 256) > 0)),
    **alike("DiceLoss TverskyLoss", lambda x: call(x.uniform(64, 128).requires_grad_(), x.uniform(64, 128).round())),
    **alike("InfoNCELoss SigLIPLoss", shaped((64, 128), (64, 128))),
    "VariationalLoss": (of("VariationalLoss"), lambda x: call((x(64, 128), x(64, 8), x(64, 8)), x.normal(64, 128))),
    # recurrent, attention
    **alike("RotaryEmbedding", shaped((2, 8, 64, 32)), 32, 64),
    **alike("RNN LSTM GRU", shaped(SEQUENCE), 32, 48, batch_first=True),
    **alike("RNNCell LSTMCell GRUCell", shaped((8, 32)), 32, 48),
    "MultiheadAttention": (of("MultiheadAttention", 32, 4, batch_first=True), lambda x: call(*[x(*SEQUENCE)] * 3)),
    **alike("TransformerEncoderLayer", shaped(SEQUENCE), 32, 4, 64, batch_first=True),
    **alike("TransformerDecoderLayer", shaped(SEQUENCE, SEQUENCE), 32, 4, 64, batch_first=True),
    "TransformerEncoder": (
        lambda nn: nn.TransformerEncoder(transformer_layer(nn, "Encoder"), 2, enable_nested_tensor=False), shaped(SEQUENCE),
    ),
    "TransformerDecoder": (
        lambda nn: nn.TransformerDecoder(transformer_layer(nn, "Decoder"), 2), shaped(SEQUENCE, SEQUENCE),
    ),
    **alike("Transformer", shaped(SEQUENCE, SEQUENCE), 32, 4, 1, 1, 64, batch_first=True),
    # containers and blocks
    "Sequential": (lambda nn: nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)), shaped((64, 128))),
    "Residual": (lambda nn: nn.Residual(nn.Sequential(nn.Linear(128, 128), nn.Tanh())), shaped((64, 128))),
    **alike("GaussianNoise", shaped((64, 128)), 0.1),
    **alike("MeanOver", shaped(SEQUENCE), 1),
    **alike("PatchEmbedding", shaped((8, 1, 16, 16)), 1, 32, 4, 16),
    "LastStep": (lambda nn: nn.LastStep(nn.LSTM(32, 48, batch_first=True)), shaped(SEQUENCE)),
    "SequenceModel": (
        lambda nn: nn.SequenceModel(nn.Embedding(50, 32), nn.GRU(32, 48, batch_first=True), nn.Linear(48, 50)),
        lambda x: call(x.below(50, 8, 16)),
    ),
    "VariationalAutoencoder": (
        lambda nn: nn.VariationalAutoencoder(nn.Linear(128, 16), nn.Linear(8, 128)), shaped((64, 128)),
    ),
}  # fmt: skip

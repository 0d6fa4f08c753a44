"""torch.nn.functional by hand: each name an operation that is called under autograd, or by `.vjp` without."""

from .nn.activation import (
    celu,
    celu_,
    elu,
    elu_,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    hardtanh_,
    leaky_relu,
    leaky_relu_,
    prelu,
    relu,
    relu6,
    relu_,
    rrelu,
    rrelu_,
    selu,
    selu_,
    softshrink,
    threshold,
    threshold_,
)
from .nn.adaptive import cluster_log_prob
from .nn.attention import multi_head_attention_forward
from .nn.batchnorm import batch_norm
from .nn.blocks import gaussian_kl, reparametrize, tied_linear
from .nn.contrastive_loss import info_nce, siglip_loss
from .nn.conv import conv1d, conv2d, conv3d, conv_tbc, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .nn.cross_entropy_loss import cross_entropy, kl_div, nll_loss
from .nn.ctc_loss import ctc_loss
from .nn.distance import cosine_similarity, normalize, one_hot, pairwise_distance, pdist
from .nn.divergence_loss import js_div, tv_distance
from .nn.dot_product_attention import attention, scaled_dot_product_attention
from .nn.dropout import alpha_dropout, dropout, dropout1d, dropout2d, dropout3d, feature_alpha_dropout
from .nn.flatten import flatten, unflatten
from .nn.fold import fold, unfold
from .nn.fractional_pooling import (
    fractional_max_pool2d,
    fractional_max_pool2d_with_indices,
    fractional_max_pool3d,
    fractional_max_pool3d_with_indices,
)
from .nn.gated_linear_unit import geglu, swiglu
from .nn.grid_sample import affine_grid, grid_sample
from .nn.instancenorm import instance_norm
from .nn.likelihood_loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    gaussian_nll_loss,
    multilabel_soft_margin_loss,
    poisson_nll_loss,
    soft_margin_loss,
)
from .nn.linear import bilinear, linear
from .nn.linear_attention import gated_delta_rule, linear_attention
from .nn.linear_loss import linear_cross_entropy
from .nn.local import local_linear
from .nn.logit_loss import focal_loss, z_loss
from .nn.margin_loss import (
    cosine_embedding_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
    multi_margin_loss,
    multilabel_margin_loss,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)
from .nn.newton_schulz import newton_schulz
from .nn.normalization import group_norm, layer_norm, local_response_norm, rms_norm
from .nn.padding import pad
from .nn.parametrization import orthogonal, spectral_norm, weight_norm
from .nn.perceptron import perceptron_loss
from .nn.pixelshuffle import channel_shuffle, pixel_shuffle, pixel_unshuffle
from .nn.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool1d_with_indices,
    adaptive_max_pool2d,
    adaptive_max_pool2d_with_indices,
    adaptive_max_pool3d,
    adaptive_max_pool3d_with_indices,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
    max_pool1d,
    max_pool1d_with_indices,
    max_pool2d,
    max_pool2d_with_indices,
    max_pool3d,
    max_pool3d_with_indices,
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
)
from .nn.preference_loss import dpo_loss, grpo_loss, kto_loss, orpo_loss, simpo_loss
from .nn.rbf import rbf
from .nn.region_loss import dice_loss, tversky_loss
from .nn.regression_loss import huber_loss, l1_loss, mse_loss, smooth_l1_loss
from .nn.residual_norm import add_rms_norm, dynamic_tanh
from .nn.rnn_cell import gru_cell, lstm_cell, rnn_relu_cell, rnn_tanh_cell
from .nn.rotary import rotary_embedding
from .nn.routing import top_k_routing
from .nn.smooth_activation import gelu, glu, logsigmoid, mish, sigmoid, silu, softplus, softsign, tanh, tanhshrink
from .nn.softmax import gumbel_softmax, log_softmax, softmax, softmin
from .nn.sparse import embedding, embedding_bag
from .nn.sparsemax import entmax, sparsemax
from .nn.upsampling import interpolate, upsample, upsample_bilinear, upsample_nearest

native_channel_shuffle = channel_shuffle

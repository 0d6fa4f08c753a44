"""Models, each written once over a namespace: cnn(dlref.manual, ...) and cnn(dlref.builtin, ...).

A model returns logits or values, never probabilities: the loss takes the logarithm of the softmax itself, which is exact
where the probability underflows.
"""

from .autoencoder import autoencoder, convolutional_autoencoder, variational_autoencoder
from .dense import (
    activations,
    least_squares,
    linear_regression,
    logistic_regression,
    mlp,
    module_named,
    perceptron,
    rbf_network,
    softmax_regression,
)
from .image import cnn, locally_connected, residual_network, vision_transformer
from .sequence import language_model, row_classifier, sample

"""Hard samples, wrong calls and equations of manual/nn/upsampling.py."""

from __future__ import annotations

from ...core.compat import LANCZOS
from ...manual.nn.upsampling import interpolate, upsample, upsample_bilinear, upsample_nearest
from .register import call, errors, samples


@samples(interpolate)
def interpolate_samples(tensor):
    x = tensor([[[1.0, -2.0, 3.0, 0.5, 4.0]]])
    image = tensor([((i * 37) % 23 - 11) / 7 for i in range(2 * 5 * 7)]).reshape(1, 2, 5, 7)
    for mode in ("nearest", "nearest-exact", "area"):
        yield call(x, scale_factor=1.7, mode=mode)
        yield call(x, 5, mode=mode)  # as it is
        yield call(image, (1, 20), mode=mode)
        yield call(image, scale_factor=(0.5, 2.3), mode=mode, recompute_scale_factor=True)
        yield call(image[:0], 3, mode=mode)  # an empty batch
    for align in (False, True):
        yield call(x, 1, mode="linear", align_corners=align)
        yield call(x, scale_factor=2.5, mode="linear", align_corners=align)
        for mode in ("bilinear", "bicubic"):
            yield call(image, (9, 3), mode=mode, align_corners=align)
            yield call(image, scale_factor=(1.3, 0.6), mode=mode, align_corners=align)
        yield call(image.unsqueeze(0), (3, 2, 9), mode="trilinear", align_corners=align)


@errors(interpolate)
def interpolate_errors(tensor):
    x, image = tensor([[[0.0, 1.0, 2.0]]]), tensor([[[[0.0, 1.0, 2.0]]]])
    yield ValueError, call(x, 2, mode="nearest", align_corners=True)
    yield ValueError, call(x)
    yield ValueError, call(x, 2, 2.0)
    yield ValueError, call(x, (2, 2))
    yield ValueError, call(x, scale_factor=(2.0, 2.0))
    yield TypeError, call(x, (2.5,))
    yield ValueError, call(x, 2, mode="linear", recompute_scale_factor=True)
    yield ValueError, call(x, 2, mode="linear", antialias=True)
    yield ValueError, call(image, 2, mode="nearest", antialias=True)
    yield NotImplementedError, call(x, 2, mode="bilinear")
    yield NotImplementedError, call(image, 2, mode="linear")
    yield NotImplementedError, call(x, 2, mode="cubic")
    yield RuntimeError, call(x, 0)
    yield RuntimeError, call(x[:, :, :0], 2)
    yield ValueError if LANCZOS else (ValueError, NotImplementedError), call(image, 2, mode="lanczos")


@samples(upsample)
def upsample_samples(tensor):
    x = tensor([((i * 37) % 23 - 11) / 7 for i in range(2 * 3 * 4)]).reshape(1, 2, 3, 4)
    yield call(x, 5)
    yield call(x, None, (2.0, 1.5))
    yield call(x[0], 7, mode="linear")
    yield call(x[0], None, 1.6, "linear", True)
    yield call(x, (5, 3), None, "bilinear", True)
    yield call(x, None, 1.7, "bicubic", False)


@samples(upsample_nearest)
def upsample_nearest_samples(tensor):
    x = tensor([((i * 37) % 23 - 11) / 7 for i in range(2 * 3 * 4)]).reshape(1, 2, 3, 4)
    yield call(x, (5, 7))
    yield call(x, scale_factor=2)
    yield call(x[0], 9)


@samples(upsample_bilinear)
def upsample_bilinear_samples(tensor):
    x = tensor([((i * 37) % 23 - 11) / 7 for i in range(2 * 3 * 4)]).reshape(1, 2, 3, 4)
    yield call(x, (5, 7))
    yield call(x, scale_factor=(2.0, 1.5))


@errors(upsample)
def upsample_errors(tensor):
    yield ValueError, call(tensor([[[0.0, 1.0]]]))
    yield NotImplementedError, call(tensor([[[0.0, 1.0]]]), 3, mode="bilinear")


@errors(upsample_nearest)
def upsample_nearest_errors(tensor):
    yield ValueError, call(tensor([[[0.0, 1.0]]]), 3, 2.0)


@errors(upsample_bilinear)
def upsample_bilinear_errors(tensor):
    yield NotImplementedError, call(tensor([[[0.0, 1.0]]]), 3)

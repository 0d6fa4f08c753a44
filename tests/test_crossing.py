"""Options that meet: every two that can do, in a call that shows both; and the definitions are right there."""

from __future__ import annotations

import fnmatch

import pytest
import torch
from harness import NAMES, RANDOM, TORCH_NAN, assert_equal, flat, gradients, lifted, operation, run, upstream

from dlref.core.compat import COUNTS_OF_BAGS
from dlref.verify.crossing import Options, crossed_samples, crossings
from dlref.verify.oracle.courses import meetings, schedule_meetings
from dlref.verify.oracle.modules import ModuleOptions, ModuleSamples
from dlref.verify.oracle.report import Report

# Settings of an operation that cannot meet, and why. Patterns of operation, and of one and the other as option:kind.
APART = [
    ("cross_entropy", "ignore_index:*", "an ignored row:", "a row is ignored by the index that there is"),
    ("nll_loss", "ignore_index:*", "an ignored row:", "a row is ignored by the index that there is"),
    ("linear_cross_entropy", "ignore_index:*", "an ignored row:", "a row is ignored by the index that there is"),
    ("embedding*", "scale_grad_by_freq:*", "an index twice:", "without one twice, every frequency is one"),
    ("embedding_bag", "mode:max", "scale_grad_by_freq:*", "refused"),
    ("embedding_bag", "mode:max", "per_sample_weights:*", "refused"),
    ("conv?d", "padding:valid", "*", "it is the default, a padding of nought"),
    ("conv?d", "padding:same", "stride:*", "refused"),
    ("avg_pool?d", "count_include_pad:*", "divisor_override:*", "the divisor is given"),
    ("*dropout*", "training:False", "p:*", "in evaluation nothing is dropped"),
    ("*alpha_dropout", "training:*", "p:0.0", "with nothing to drop, both are the identity"),
    ("pad", "value:*", "mode:*", "only a constant has a value"),
    ("multi_margin_loss", "margin:-inf", "*", "every loss is 0, whatever else is chosen"),
    ("smooth_l1_loss", "beta:inf", "*", "every loss is 0, whatever else is chosen"),
    ("softplus", "threshold:another", "beta:inf", "times it every number is infinite, beyond or below any threshold"),
    ("gumbel_softmax", "eps:*", "*", "torch has given it up"),
    ("*attention", "attn_mask:*", "is_causal:*", "refused"),
    ("scaled_dot_product_attention", "a row masked out:", "is_causal:*", "it needs a mask"),
    ("pairwise_distance", "eps:*", "p:*", "the number of elements, and the largest, move with eps by less than is seen"),
    ("newton_schulz", "steps:0*", "coefficients:*", "without a step there is no polynomial"),
    ("instance_norm", "use_input_stats:False", "*", "the running statistics, which are then required"),
    ("interpolate", "align_corners:False", "*", "it is the default"),
    ("grid_sample", "align_corners:False", "*", "it is the default"),
    ("interpolate", "recompute_scale_factor:False", "*", "it is the default"),
    ("interpolate", "size:*", "scale_factor:*", "refused"),
    ("interpolate", "size:*", "recompute_scale_factor:*", "refused"),
    ("interpolate", "size:*", "mode:linear", "its samples of one dimension have a factor"),
    ("interpolate", "mode:*", "align_corners:True", "refused of nearest and area"),
    ("interpolate", "mode:*", "antialias:True", "bilinear and bicubic alone"),
    ("interpolate", "mode:area", "recompute_scale_factor:*", "area has windows, no factor"),
    ("interpolate", "align_corners:True", "recompute_scale_factor:True", "corners fix the scale"),
    ("upsample", "align_corners:False", "*", "it is the default"),
    ("upsample*", "size:*", "scale_factor:*", "refused"),
    ("*_with_indices", "return_indices:True", "*", "it is ignored: they are returned"),
    ("fractional_max_pool*", "output_ratio:*", "output_size:*", "the size is taken"),
]  # fmt: skip


def setting(s: tuple[str, str]) -> str:
    return f"{s[0]}:{s[1]}"


@pytest.mark.parametrize("name", NAMES)
def test_options_meet(name):
    """Each pair of settings of an operation has a call in which both show, or a reason; and the definition is right there."""
    check_every_two_meet(name)
    if name not in RANDOM and (name != "embedding_bag" or COUNTS_OF_BAGS):
        check_definition(name)


def check_every_two_meet(name):
    met, apart = set(), set()
    for wanted, sample in crossings(name):
        if len(wanted) == 2:
            (met if sample is not None else apart).add(frozenset(wanted))
    for pair in apart - met:
        a, b = map(setting, pair)
        excused = [why for op, p, q, why in APART if fnmatch.fnmatch(name, op)
                   and any(fnmatch.fnmatch(x, p) and fnmatch.fnmatch(y, q) for x, y in ((a, b), (b, a)))]  # fmt: skip
        assert excused, f"{name}: {a} and {b} meet in no sample"


def in_float64(sample, asked):
    """The call in float64, of the numbers that its arithmetic takes: those of the dtype that is asked for."""
    if asked is None:
        return sample.map(lifted)
    narrowed = sample.map(lambda t: lifted(t.detach().to(asked).requires_grad_(t.requires_grad)))
    return Options(sample.name).changed(narrowed, {"dtype": torch.float64})


def check_definition(name):
    for dtype in (torch.float64, torch.float32):
        for sample in crossed_samples(name, dtype):
            asked = Options(name).given(sample).get("dtype")
            wide = in_float64(sample, asked)
            outputs = [
                run(f, s) for f, s in ((operation(name), sample), (sample.builtin, sample), (sample.builtin, wide))
            ]
            assert_equal(*outputs, sample)
            learning = [i for i, o in enumerate(flat(outputs[1])) if o.requires_grad]
            if not learning:
                continue
            dy = [next(upstream(o))[1] if i in learning else None for i, o in enumerate(flat(outputs[1]))]
            lifted_dy = [None if d is None else d.double() for d in dy]
            ours, theirs = (gradients(o, sample, dy) for o in outputs[:2])
            best = gradients(outputs[2], wide, lifted_dy)
            for a, b, t in zip(ours, theirs, best, strict=True):
                if b is None:
                    continue
                a = torch.zeros_like(b) if a is None else a
                if name in TORCH_NAN:
                    assert not a.isnan().any(), sample
                    a, t, b = (torch.where(b.isnan(), 0, v) for v in (a, t, b))
                if asked is not None:  # a gradient has no more digits than the arithmetic
                    a, b = a.to(asked), b.to(asked)
                assert_equal(a, b, t, sample)


@pytest.mark.parametrize("name, pairs", [
    ("LSTM", {"bias batch_first", "bidirectional proj_size", "batch_first bidirectional"}),
    ("Conv2d", {"stride padding_mode", "padding padding_mode"}),
    ("MultiheadAttention", {"add_bias_kv add_zero_attn", "bias batch_first", "add_zero_attn batch_first"}),
    ("CrossEntropyLoss", {"ignore_index label_smoothing", "label_smoothing reduction"}),
])  # fmt: skip
def test_options_of_modules_meet(name, pairs):
    from dlref.manual import nn

    source = ModuleSamples(getattr(nn, name), name, Report("", name))
    options, found = ModuleOptions(source), source.crossed(torch.float64, "cpu")
    met = [set(options.off(s)) for s in found]
    assert all(any(set(pair.split()) <= off for off in met) for pair in pairs), met


def test_options_of_rules_meet():
    """Dampening and Nesterov's step need a momentum, and meet the others with it."""
    sgd = [set(kwargs) for kwargs in meetings("SGD")]
    for pair in (
        {"nesterov", "weight_decay"},
        {"nesterov", "maximize"},
        {"dampening", "weight_decay"},
        {"lr", "momentum"},
    ):
        assert any(pair <= off for off in sgd), pair
    assert any({"amsgrad", "maximize"} <= set(kwargs) for kwargs in meetings("Adam"))
    assert any({"pct_start", "three_phase"} <= set(kwargs) for kwargs in schedule_meetings("OneCycleLR"))

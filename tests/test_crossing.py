"""Options that meet: every two that can do, in a call that shows both; and the definitions are right there."""

from __future__ import annotations

import fnmatch

import pytest
import torch
from harness import NAMES, RANDOM, assert_equal, flat, gradients, lifted, operation, run, upstream

from dlref.crossing import Options, crossed_samples, made_of
from dlref.oracle.modules import ModuleOptions, ModuleSamples
from dlref.oracle.report import Report
from dlref.oracle.steps import meetings, schedule_meetings
from dlref.samples import samples

# Settings of an operation that cannot meet, and why. Patterns of operation, and of one and the other as option:kind.
APART = [
    ("cross_entropy", "ignore_index:*", "an ignored row:", "a row is ignored by the index that there is"),
    ("nll_loss", "ignore_index:*", "an ignored row:", "a row is ignored by the index that there is"),
    ("linear_cross_entropy", "ignore_index:*", "an ignored row:", "a row is ignored by the index that there is"),
    ("embedding", "scale_grad_by_freq:*", "an index twice:", "without one twice, every frequency is one"),
    ("conv?d", "padding:valid", "*", "it is the default, a padding of nought"),
    ("conv?d", "padding:same", "stride:*", "refused"),
    ("avg_pool?d", "count_include_pad:*", "divisor_override:*", "the divisor is given"),
    ("*dropout*", "training:False", "p:*", "in evaluation nothing is dropped"),
    ("*alpha_dropout", "training:*", "p:0.0", "with nothing to drop, both are the identity"),
    ("pad", "value:*", "mode:*", "only a constant has a value"),
    ("gumbel_softmax", "eps:*", "*", "torch has given it up"),
    ("scaled_dot_product_attention", "attn_mask:*", "is_causal:*", "refused"),
    ("scaled_dot_product_attention", "a row masked out:", "is_causal:*", "it needs a mask"),
    ("pairwise_distance", "eps:*", "p:*", "the number of elements, and the largest, move with eps by less than is seen"),
    ("instance_norm", "use_input_stats:False", "*", "the running statistics, which are then required"),
    ("interpolate", "align_corners:False", "*", "it is the default"),
    ("interpolate", "recompute_scale_factor:False", "*", "it is the default"),
    ("interpolate", "size:*", "scale_factor:*", "refused"),
    ("interpolate", "size:*", "recompute_scale_factor:*", "refused"),
    ("interpolate", "size:*", "mode:linear", "its samples of one dimension have a factor"),
    ("interpolate", "mode:*", "align_corners:True", "refused of nearest and area"),
    ("interpolate", "mode:*", "antialias:True", "bilinear and bicubic alone"),
    ("interpolate", "mode:area", "recompute_scale_factor:*", "area has windows, no factor"),
    ("interpolate", "align_corners:True", "recompute_scale_factor:True", "corners fix the scale"),
]  # fmt: skip


def setting(s: tuple[str, str]) -> str:
    return f"{s[0]}:{s[1]}"


@pytest.mark.parametrize("name", NAMES)
def test_every_two_options_meet(name):
    """Each pair of settings of an operation has a call in which both show, or a reason."""
    met, apart = set(), set()
    for wanted, sample in made_of(Options(name), samples(name, torch.float64)):
        if len(wanted) == 2:
            (met if sample is not None else apart).add(frozenset(wanted))
    for pair in apart - met:
        a, b = map(setting, pair)
        excused = [why for op, p, q, why in APART if fnmatch.fnmatch(name, op)
                   and any(fnmatch.fnmatch(x, p) and fnmatch.fnmatch(y, q) for x, y in ((a, b), (b, a)))]  # fmt: skip
        assert excused, f"{name}: {a} and {b} meet in no sample"


@pytest.mark.parametrize("name", [n for n in NAMES if n not in RANDOM])
def test_definitions_where_options_meet(name):
    for dtype in (torch.float64, torch.float32):
        for sample in crossed_samples(name, dtype):
            wide = sample.map(lifted)
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
                if b is not None:
                    assert_equal(torch.zeros_like(b) if a is None else a, b, t, sample)


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

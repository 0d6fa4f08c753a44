"""Transformer layers and stacks: residual branches of attention and feed-forward maps, each with a layer norm."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.compat import detect_is_causal_mask, get_seq_len
from ...core.containers import through
from ...core.counterpart import adopt
from ...core.in_place import Reread
from ...core.module import Manual, by_name, vjp_of
from ...core.pullback import made_of


def _mask(mask: Tensor | None, name: str, x: Tensor) -> Tensor | None:
    return F._canonical_mask(mask, name, other_type=None, other_name="", target_type=x.dtype, check_other=False)


Branch = Callable[[Tensor], tuple[Tensor, Callable[[Tensor], tuple]]]


def residual(x: Tensor, norm, branch: Branch, norm_first: bool) -> tuple[Tensor, Callable[[Tensor], tuple]]:
    r"""$y = x + f(\mathrm{norm}(x))$, or $y = \mathrm{norm}(x + f(x))$: dx is the sum over branch and shortcut.

    The pullback returns dx and what else the branch has gradients for.
    """
    if norm_first:
        with Reread(x) as source:
            normed, pull_norm = vjp_of(norm)(x)
            y, pull = branch(normed)

        def through(dy, needs=None):
            dnormed, *others = pull(dy)
            return pull_norm(dnormed)[0], *others

        return x + y, made_of(lambda dy: source.pull(through, dy, dy), pull_norm, pull)
    with Reread(x) as source:
        y, pull = branch(x)
    output, pull_norm = vjp_of(norm)(x + y)

    def after(dy):
        (dsum,) = pull_norm(dy)
        return source.pull(pull, dsum, dsum)

    return output, made_of(after, pull, pull_norm)


class Adopting(Manual):
    """A module whose parts torch's constructor makes, or takes: they become manual."""

    attributes: dict[str, str] = {}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        adopt(self)  # type: ignore[arg-type]


class Layer(Adopting):
    """What encoder and decoder layer share: their branches."""

    def _feed_forward(self, dropout) -> Branch:
        r"""$f(x) = W_2\, \phi(W_1 x + b_1) + b_2$, with dropout after each map."""

        parts = (self.linear1, self.activation, self.dropout, self.linear2, dropout)
        return lambda x: through(map(vjp_of, parts), x)

    def _attend(self, attention, dropout, memory, mask, padding, causal) -> Branch:
        """Attention to the layer's own sequence, or to memory, whose gradient then comes second."""

        def branch(x):
            keys = x if memory is None else memory
            (y, _), pull = vjp_of(attention)(
                x, keys, keys, attn_mask=mask, key_padding_mask=padding, need_weights=False, is_causal=causal
            )
            y, pull_dropout = vjp_of(dropout)(y)

            def pullback(dy, needs=None):
                dq, dk, dv, *_ = pull((pull_dropout(dy)[0], None))
                return (dq + dk + dv,) if memory is None else (dq, dk + dv)

            return y, made_of(pullback, pull, pull_dropout)

        return branch


class TransformerEncoderLayer(Layer, torch.nn.TransformerEncoderLayer):
    r"""Self-attention, then a feed-forward map, each beside a shortcut: $y = \mathrm{norm}(x + f(x))$, with norm_first
    $y = x + f(\mathrm{norm}(x))$, f the one, then the other.

    Shapes as in `TransformerEncoder`; arguments and errors of torch's. Vaswani et al. 2017, arXiv:1706.03762, section 3.1;
    norm_first: Xiong et al. 2020, arXiv:2002.04745.
    """

    def forward(self, src, src_mask=None, src_key_padding_mask=None, is_causal=False):
        mask, padding = _mask(src_mask, "src_mask", src), _mask(src_key_padding_mask, "src_key_padding_mask", src)
        x = src
        if self.norm_first:
            x = x + self._sa_block(self.norm1(x), mask, padding, is_causal=is_causal)
            return x + self._ff_block(self.norm2(x))
        x = self.norm1(x + self._sa_block(x, mask, padding, is_causal=is_causal))
        return self.norm2(x + self._ff_block(x))

    @by_name
    def explicit(self, src, src_mask=None, src_key_padding_mask=None, is_causal=False):
        mask, padding = _mask(src_mask, "src_mask", src), _mask(src_key_padding_mask, "src_key_padding_mask", src)
        attend = self._attend(self.self_attn, self.dropout1, None, mask, padding, is_causal)
        x, pull_attend = residual(src, self.norm1, attend, self.norm_first)
        x, pull_feed = residual(x, self.norm2, self._feed_forward(self.dropout2), self.norm_first)

        def pullback(dy):
            return {"src": pull_attend(pull_feed(dy)[0])[0]}

        return x, made_of(pullback, pull_attend, pull_feed)


class TransformerDecoderLayer(Layer, torch.nn.TransformerDecoderLayer):
    r"""Self-attention, attention to memory m, a feed-forward map, each f beside a shortcut: $y = \mathrm{norm}(x + f(x, m))$,
    or with norm_first as in the encoder's layer.

    Shapes as in `TransformerDecoder`; arguments and errors of torch's. Vaswani et al. 2017, arXiv:1706.03762, section 3.1.
    """

    forward = torch.nn.TransformerDecoderLayer.forward

    @by_name
    def explicit(self, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None,
                 memory_key_padding_mask=None, tgt_is_causal=False, memory_is_causal=False):  # fmt: skip
        own = self._attend(self.self_attn, self.dropout1, None, tgt_mask, tgt_key_padding_mask, tgt_is_causal)
        cross = self._attend(
            self.multihead_attn, self.dropout2, memory, memory_mask, memory_key_padding_mask, memory_is_causal
        )
        x, pull_own = residual(tgt, self.norm1, own, self.norm_first)
        x, pull_cross = residual(x, self.norm2, cross, self.norm_first)
        x, pull_feed = residual(x, self.norm3, self._feed_forward(self.dropout3), self.norm_first)

        def pullback(dy):
            dx, dmemory = pull_cross(pull_feed(dy)[0])
            return {"tgt": pull_own(dx)[0], "memory": dmemory}

        return x, made_of(pullback, pull_own, pull_cross, pull_feed)


class TransformerEncoder(Adopting, torch.nn.TransformerEncoder):
    r"""The layers one after the other, $y = f_n(\dots f_1(x))$.

    What stands at padded places is computed, in evaluation as in training: there torch's encoder may take its fused path, of
    nested tensors, which writes zeros at them; the other places are the same. Arguments, shapes and errors of
    torch's: x (S, N, E) or (S, E), with batch_first (N, S, E). Vaswani et al. 2017, arXiv:1706.03762, section 3.1.
    """

    def _prepared(self, src, mask, src_key_padding_mask, is_causal):
        padding, mask = _mask(src_key_padding_mask, "src_key_padding_mask", src), _mask(mask, "mask", src)
        causal = detect_is_causal_mask(mask, is_causal, get_seq_len(src, self.layers[0].self_attn.batch_first))
        return {"src_mask": mask, "is_causal": causal, "src_key_padding_mask": padding}

    def forward(self, src, mask=None, src_key_padding_mask=None, is_causal=None):
        options = self._prepared(src, mask, src_key_padding_mask, is_causal)
        for layer in self.layers:
            src = layer(src, **options)
        return src if self.norm is None else self.norm(src)

    @by_name
    def explicit(self, src, mask=None, src_key_padding_mask=None, is_causal=None):
        options = self._prepared(src, mask, src_key_padding_mask, is_causal)
        layers = [functools.partial(vjp_of(layer), **options) for layer in self.layers]
        output, pull = through([*layers, *([] if self.norm is None else [vjp_of(self.norm)])], src)
        return output, made_of(lambda dy: {"src": pull(dy)[0]}, pull)


class TransformerDecoder(Adopting, torch.nn.TransformerDecoder):
    r"""The layers one after the other, $y = f_n(\dots f_1(t, m), m)$; the gradient of memory m is the sum over them.

    Target t (T, N, E) or (T, E), memory m (S, N, E) or (S, E), output as t; with batch_first N comes first. Arguments and
    errors of torch's. Vaswani et al. 2017, arXiv:1706.03762, section 3.1.
    """

    forward = torch.nn.TransformerDecoder.forward

    @by_name
    def explicit(self, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None,
                 memory_key_padding_mask=None, tgt_is_causal=None, memory_is_causal=False):  # fmt: skip
        causal = detect_is_causal_mask(tgt_mask, tgt_is_causal, get_seq_len(tgt, self.layers[0].self_attn.batch_first))
        pulls, pull_norm = [], None
        for layer in self.layers:
            tgt, pull = vjp_of(layer)(
                tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask, tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask, tgt_is_causal=causal, memory_is_causal=memory_is_causal,
            )  # fmt: skip
            pulls.append(pull)
        if self.norm is not None:
            tgt, pull_norm = vjp_of(self.norm)(tgt)

        def pullback(dy):
            dy, dmemory = dy if pull_norm is None else pull_norm(dy)[0], None
            for pull in reversed(pulls):
                dy, d, *_ = pull(dy)
                dmemory = d if dmemory is None else dmemory + d
            return {"tgt": dy, "memory": dmemory}

        return tgt, made_of(pullback, *pulls, *([] if pull_norm is None else [pull_norm]))


class Transformer(Adopting, torch.nn.Transformer):
    r"""Encoder and decoder: $y = \mathrm{decoder}(t, \mathrm{encoder}(s))$ of source s and target t.

    s (S, N, E) or (S, E), t (T, N, E) or (T, E), output as t; with batch_first N comes first. RuntimeError where batches or
    features do not fit. Vaswani et al. 2017, arXiv:1706.03762.
    """

    forward = torch.nn.Transformer.forward

    @by_name
    def explicit(self, src, tgt, src_mask=None, tgt_mask=None, memory_mask=None, src_key_padding_mask=None,
                 tgt_key_padding_mask=None, memory_key_padding_mask=None, src_is_causal=None, tgt_is_causal=None,
                 memory_is_causal=False):  # fmt: skip
        batch = None if src.dim() != 3 else 0 if self.batch_first else 1
        if batch is not None and src.shape[batch] != tgt.shape[batch]:
            raise RuntimeError(f"Transformer(): src and tgt must have one batch, they have {src.shape[batch]} and "
                               f"{tgt.shape[batch]}")  # fmt: skip
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            raise RuntimeError(f"Transformer(): src and tgt must have d_model = {self.d_model} features, they have "
                               f"{src.shape[-1]} and {tgt.shape[-1]}")  # fmt: skip
        memory, pull_encoder = vjp_of(self.encoder)(
            src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal
        )
        output, pull_decoder = vjp_of(self.decoder)(
            tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask, tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask, tgt_is_causal=tgt_is_causal, memory_is_causal=memory_is_causal,
        )  # fmt: skip

        def pullback(dy):
            dtgt, dmemory, *_ = pull_decoder(dy)
            return {"src": pull_encoder(dmemory)[0], "tgt": dtgt}

        return output, pullback

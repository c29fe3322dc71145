"""The head of RT-DETR: chosen cells of the maps become queries, which a decoder turns into boxes. No suppression."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.nn.conv import NORM_EPS, NORM_MOMENTUM
from sightline.nn.deformable import DeformableDecoderLayer, Shapes
from sightline.nn.precision import in_full
from sightline.nn.transformer import MLP, to_tokens
from sightline.ops.boxes import inverse_sigmoid

if TYPE_CHECKING:
    from sightline.structures.denoising import DenoisingQueries

CELL_SIZE = 0.05  # of the image: the first box of a cell of the finest level; twice that on each coarser one
EDGE = 0.01  # cells nearer to the edge of the image are left out: the logit of their place grows without bound
PRIOR = 0.01  # expected score of a class before training


class Decoder(nn.Module):
    """The layers, under the name that published weights have for them."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class RTDETRDecoder(nn.Module):
    """Picks the best cells of all levels as queries and refines their boxes layer by layer.

    In training it gives raw predictions; in eval (decoded, raw). Raw predictions, L layers (in eval the last one only):

    | key | shape | meaning |
    |---|---|---|
    | `boxes` | (L, B, Q, 4) | xywh in [0, 1] |
    | `scores` | (L, B, Q, nc) | logits |
    | `encoder_boxes` | (B, K, 4) | of the chosen cells, xywh in [0, 1] |
    | `encoder_scores` | (B, K, nc) | logits |
    | `denoising` | `DenoisingQueries` or None | those that came in; they are the first N of the Q queries |

    K is `num_queries`, or the number of cells where there are fewer; Q = K, plus N with denoising queries.

    Decoded is (B, P, 6): xywh in [0, 1], score, class; the P best pairs of query and class, best first. P is
    `num_queries`, or the number of pairs where there are fewer.

    Source: Lv et al., RT-DETR, arXiv:2304.08069; decoder: Zhu et al., Deformable DETR, arXiv:2010.04159; gradients
    through two layers and mixed query selection: Zhang et al., DINO, arXiv:2203.03605.
    """

    task = "rtdetr"
    end2end = True  # rows are ready; there is no other form, so nothing to switch

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        nc: int = 80,
        width: int = 256,
        queries: int = 300,
        points: int = 4,
        heads: int = 8,
        layers: int = 6,
        hidden: int = 1024,
        denoising: int = 100,
    ) -> None:
        """
        Args:
            in_channels: width of each level.
            nc: number of classes.
            width: of the tokens and queries.
            queries: how many, at most.
            points: places that a head samples on each level.
            heads: of both attentions.
            layers: of the decoder.
            hidden: width of its feed-forward parts.
            denoising: noisy queries of one kind that a training image may get, at most; 0 for none.

        Raises:
            ValueError: the width cannot be shared out among the heads.
        """
        super().__init__()
        self.nc, self.nl = nc, len(in_channels)
        self.width, self.num_queries, self.num_denoising = width, queries, denoising
        self.stride = torch.zeros(self.nl)  # pixels per cell of each level; set when the network is built
        self._anchors: tuple[Any, Tensor, Tensor] | None = None  # of the last shape

        self.input_proj = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(each, width, 1, bias=False), nn.BatchNorm2d(width, eps=NORM_EPS, momentum=NORM_MOMENTUM)
            )
            for each in in_channels
        )
        self.decoder = Decoder(
            [
                DeformableDecoderLayer(width, levels=self.nl, heads=heads, points=points, hidden=hidden)
                for _ in range(layers)
            ]
        )
        self.denoising_class_embed = nn.Embedding(nc, width)
        self.query_pos_head = MLP(4, 2 * width, width, 2)
        self.enc_output = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.enc_score_head = nn.Linear(width, nc)
        self.enc_bbox_head = MLP(width, width, 4, 3)
        self.dec_score_head = nn.ModuleList(nn.Linear(width, nc) for _ in range(layers))
        self.dec_bbox_head = nn.ModuleList(MLP(width, width, 4, 3) for _ in range(layers))
        self.init_biases()

    @torch.no_grad()
    def init_biases(self) -> None:
        """First boxes are those of the cells, first scores as rare as objects are."""
        score = math.log(PRIOR / (1 - PRIOR))
        for head in (self.enc_score_head, *self.dec_score_head):
            head.bias.fill_(score)
        for head in (self.enc_bbox_head, *self.dec_bbox_head):
            head.layers[-1].weight.zero_()
            head.layers[-1].bias.zero_()
        plain = (self.enc_output[0], *self.query_pos_head.layers, *(each[0] for each in self.input_proj))
        for layer in plain:
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, maps: Sequence[Tensor], denoising: DenoisingQueries | None = None) -> Any:
        """
        Args:
            maps: (B, C_i, H_i, W_i) of each level.
            denoising: extra queries, in training.
        """
        shapes = [(int(each.shape[2]), int(each.shape[3])) for each in maps]
        projected = [project(each) for project, each in zip(self.input_proj, maps, strict=True)]
        tokens = torch.cat([to_tokens(each) for each in projected], 1)  # (B, S, width)
        encoded, logits, references = self.choose(tokens, shapes)
        encoder_boxes = references.sigmoid()
        if self.training:  # the decoder shall not teach the encoder where to look, only the encoder's own loss does
            encoded, references = encoded.detach(), references.detach()
        blocked = None
        if denoising is not None:
            blocked = denoising.blocked(encoded.shape[1])
            noisy = embed_labels(self.denoising_class_embed.weight, denoising.labels).to(encoded.dtype)
            encoded = torch.cat([noisy, encoded], 1)
            references = torch.cat([denoising.boxes.to(references.dtype), references], 1)
        boxes, scores = self.decode_layers(encoded, references, tokens, shapes, blocked)
        if self.training and denoising is None:
            # All parameters take part in every step, also where a batch has no objects: ranks must agree on that.
            scores = scores + 0 * self.denoising_class_embed.weight.sum()
        raw = {
            "boxes": boxes,
            "scores": scores,
            "encoder_boxes": encoder_boxes,
            "encoder_scores": logits,
            "denoising": denoising,
        }
        return raw if self.training else (self.decode(raw), raw)

    def choose(self, tokens: Tensor, shapes: Shapes) -> tuple[Tensor, Tensor, Tensor]:
        """The cells that look most like an object of any class, best first.

        Args:
            tokens: (B, S, width).
            shapes: of the levels.

        Returns:
            (B, K, width) what they hold, (B, K, nc) their logits, (B, K, 4) their boxes, xywh before the sigmoid.
        """
        anchors, valid = self.anchors_for(shapes, _at_least_float32(tokens), tokens.device)
        # Cells at the edge are emptied, not left out: they stay candidates, as they are for published weights.
        encoded = self.enc_output(tokens * valid.to(tokens.dtype))  # (B, S, width)
        logits = in_full(self.enc_score_head, encoded)  # (B, S, nc)
        best = logits.detach().amax(-1).topk(min(self.num_queries, tokens.shape[1]), dim=1).indices  # (B, K)
        encoded, logits = (take(each, best) for each in (encoded, logits))
        anchors = anchors[best]
        return encoded, logits, in_full(self.enc_bbox_head, encoded).to(anchors.dtype) + anchors

    def decode_layers(
        self, x: Tensor, references: Tensor, tokens: Tensor, shapes: Shapes, blocked: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(L, B, Q, 4) boxes and (L, B, Q, nc) logits, of all layers in training, else of the last.

        Boxes are detached between layers. But a layer's box is its change to the box of the layer before, and that one
        is not detached: it gets a gradient from both ("look forward twice").
        """
        boxes, scores = [], []
        seen = before = references.sigmoid()  # (B, Q, 4) where the next layer looks: detached, and not
        last = len(self.decoder.layers) - 1
        for index, layer in enumerate(self.decoder.layers):
            x = layer(x, seen, tokens, shapes, self.query_pos_head(seen.to(x.dtype)), blocked)
            change = in_full(self.dec_bbox_head[index], x).to(seen.dtype)
            refined = (change + inverse_sigmoid(seen)).sigmoid()
            if self.training or index == last:
                twice = self.training and index > 0
                boxes.append((change + inverse_sigmoid(before)).sigmoid() if twice else refined)
                scores.append(in_full(self.dec_score_head[index], x))
            before, seen = refined, refined.detach() if self.training else refined
        return torch.stack(boxes), torch.stack(scores)

    def decode(self, raw: dict[str, Any]) -> Tensor:
        """(B, P, 6): see the class."""
        boxes, scores = raw["boxes"][-1], raw["scores"][-1]
        scores = scores.to(boxes.dtype).sigmoid()
        pairs = min(self.num_queries, scores.shape[1] * scores.shape[2])  # a small image has fewer queries, not results
        score, place = scores.flatten(1).topk(pairs, dim=1)  # (B, P)
        class_ = (place % self.nc).to(boxes.dtype)
        query = torch.div(place, self.nc, rounding_mode="floor")
        return torch.cat([take(boxes, query), score[..., None], class_[..., None]], -1)

    def anchors_for(self, shapes: Shapes, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """(S, 4) first boxes of the cells, xywh before the sigmoid, infinite where too near to the edge; (S, 1) bool,
        where they are not. Kept for the next image of that size."""
        key = (tuple(shapes), dtype, device)
        if self._anchors is None or self._anchors[0] != key:
            with torch.inference_mode(False):  # kept tensors must also serve a later pass with gradients
                self._anchors = (key, *cell_boxes(shapes, dtype, device))
        return self._anchors[1], self._anchors[2]


def cell_boxes(shapes: Shapes, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """See `RTDETRDecoder.anchors_for`."""
    levels = []
    for level, (height, width) in enumerate(shapes):
        y = (torch.arange(height, dtype=dtype, device=device) + 0.5) / height
        x = (torch.arange(width, dtype=dtype, device=device) + 0.5) / width
        centre = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], -1).flatten(0, 1)  # (H · W, 2)
        levels.append(torch.cat([centre, torch.full_like(centre, CELL_SIZE * 2**level)], -1))
    boxes = torch.cat(levels)  # (S, 4)
    valid = ((boxes > EDGE) & (boxes < 1 - EDGE)).all(-1, keepdim=True)
    return torch.where(valid, (boxes / (1 - boxes)).log(), math.inf), valid


def embed_labels(weight: Tensor, labels: Tensor) -> Tensor:
    """(nc, width), (B, N) → (B, N, width); zeros for the label −1."""
    return F.embedding(labels.clamp(min=0), weight) * (labels >= 0)[..., None]


def take(values: Tensor, places: Tensor) -> Tensor:
    """(B, S, C), (B, K) → (B, K, C)."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[-1]))


def _at_least_float32(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)

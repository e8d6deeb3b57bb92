"""MACE's convolution over neighbours on a CPU, leaner in two ways that change the result by rounding only.

MACE forms, for every edge e from j to i, the product R_lc(r_e) h_jc Y_lm(r_e) and sums it over the edges of atom i (Batatia et al.,
NeurIPS 2022, eq. 8). Where the features h are scalars, e3nn stores that product: C (lmax + 1)^2 numbers per edge, forward and backward.
Here the edges of an atom are laid side by side and the sum is a matrix product, A_i = (R h)^T Y, which never stores it. And R, a network
of the distance alone, is read from a table (`radial`).
"""

from __future__ import annotations

import torch
from e3nn import o3
from mace.modules import RealAgnosticInteractionBlock, RealAgnosticResidualInteractionBlock

from ionraman.radial import Distances, RadialTable


class EdgeLayout:
    """Place of every edge in an array (atoms, most neighbours), shared by the layers of a model."""

    def __init__(self) -> None:
        self.edge_index: torch.Tensor | None = None

    def update(self, edge_index: torch.Tensor, atoms: int) -> None:
        """Count the edges (2, n) of each receiving atom; nothing is done for the edges of the last call."""
        if edge_index is self.edge_index and atoms == self.atoms:
            return
        self.edge_index, self.atoms = edge_index, atoms
        self.sender, receiver = edge_index[0], edge_index[1]
        counts = torch.bincount(receiver, minlength=atoms)
        self.most = int(counts.max()) if len(receiver) else 1
        order = torch.argsort(receiver, stable=True)
        ordered = receiver[order]
        slot = torch.arange(len(order), device=order.device) - (torch.cumsum(counts, 0) - counts)[ordered]
        self.place = torch.empty_like(order)
        self.place[order] = ordered * self.most + slot

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """(edges, n) as (atoms, most, n), zero where an atom has fewer edges."""
        places = values.new_zeros(self.atoms * self.most, values.shape[1])
        return places.index_copy_(0, self.place, values).view(self.atoms, self.most, -1)

    def collect(self, values: torch.Tensor) -> torch.Tensor:
        """Inverse of `spread`."""
        return values.reshape(self.atoms * self.most, -1).index_select(0, self.place)


class _Convolution(torch.autograd.Function):
    """Value and gradient in matrix products whose long axis is contiguous: the other forms cost MKL up to five times more."""

    @staticmethod
    def forward(ctx, features, harmonics, weights, layout, blocks):  # noqa: ANN001, ANN205
        edges, channels = len(harmonics), features.shape[1]
        sent = features.index_select(0, layout.sender)
        product = (weights.view(edges, -1, channels) * sent[:, None, :]).view(edges, -1)
        left, right = layout.spread(harmonics), layout.spread(product)
        ctx.save_for_backward(sent, weights, left, right)
        ctx.layout, ctx.blocks = layout, blocks
        sums = torch.bmm(left.transpose(1, 2), right).view(layout.atoms, -1, len(blocks), channels)
        parts = [
            (factor * sums[:, start:end, path]).transpose(1, 2).reshape(layout.atoms, -1)
            for path, (start, end, factor) in enumerate(blocks)
        ]
        return torch.cat(parts, dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):  # noqa: ANN001, ANN205
        sent, weights, left, right = ctx.saved_tensors
        layout, blocks, channels, edges = ctx.layout, ctx.blocks, sent.shape[1], len(sent)
        sums = gradient.new_zeros(layout.atoms, left.shape[2], len(blocks), channels)
        first = 0
        for path, (start, end, factor) in enumerate(blocks):
            width = channels * (end - start)
            part = gradient[:, first : first + width].view(layout.atoms, channels, end - start)
            torch.mul(part.transpose(1, 2), factor, out=sums[:, start:end, path])
            first += width
        sums = sums.view(layout.atoms, left.shape[2], -1)
        product = layout.collect(torch.bmm(left, sums)).view(edges, len(blocks), channels)
        harmonics = layout.collect(torch.bmm(sums, right.transpose(1, 2)).transpose(1, 2))
        received = (product * weights.view(edges, len(blocks), channels)).sum(dim=1)
        features = sent.new_zeros(layout.atoms, channels).index_add_(0, layout.sender, received)
        return features, harmonics, (product * sent[:, None, :]).view(edges, -1), None, None


class ScalarConvolution(torch.nn.Module):
    """Stands for `conv_tp` and the sum over edges of a MACE interaction whose neighbours carry scalars only.

    Args:
        product: the interaction's e3nn TensorProduct; one path for each l, in the order of its output.
        layout: shared between the layers.
    """

    def __init__(self, product: o3.TensorProduct, layout: EdgeLayout) -> None:
        super().__init__()
        self.layout = layout
        slices = product.irreps_in2.slices()
        # A scalar times an irrep is that irrep times a constant: e3nn's path weight and 1/sqrt(2l + 1) of its 3j symbol.
        self.blocks = [
            (
                slices[path.i_in2].start,
                slices[path.i_in2].stop,
                path.path_weight / (slices[path.i_in2].stop - slices[path.i_in2].start) ** 0.5,
            )
            for path in product.instructions
        ]

    def forward(
        self, features: torch.Tensor, harmonics: torch.Tensor, weights: torch.Tensor, edge_index: torch.Tensor
    ) -> torch.Tensor:
        """Sums over edges (atoms, paths of C (2l + 1)) of features (atoms, C), harmonics (edges, (lmax + 1)^2), weights (edges, paths C)."""
        self.layout.update(edge_index, len(features))
        return _Convolution.apply(features, harmonics, weights, self.layout, self.blocks)


def is_scalar_product(product: torch.nn.Module) -> bool:
    """Whether `ScalarConvolution` can stand for this tensor product."""
    if not isinstance(product, o3.TensorProduct) or len(product.irreps_in1) != 1:
        return False
    paths = product.instructions
    return (
        product.irreps_in1[0].ir == o3.Irrep("0e")
        and [path.i_out for path in paths] == list(range(len(product.irreps_out)))
        and all(
            path.connection_mode == "uvu" and path.has_weight and path.path_shape[1] == 1 for path in paths
        )
    )


def fuse(model: torch.nn.Module) -> torch.nn.Module:
    """Replace, in place, what can be replaced in a MACE model: radial networks, and convolutions of scalars. The rest stays."""
    interactions = list(getattr(model, "interactions", []))
    if any(hasattr(interaction, "conv_fusion") for interaction in interactions):
        return model  # another library's kernels
    known = (RealAgnosticInteractionBlock, RealAgnosticResidualInteractionBlock)
    if interactions and all(isinstance(interaction, known) for interaction in interactions):
        if not hasattr(model.radial_embedding, "distance_transform"):
            for interaction in interactions:
                interaction.conv_tp_weights = RadialTable(
                    model.radial_embedding, interaction.conv_tp_weights, float(model.r_max)
                )
            model.radial_embedding = Distances()
    layout = EdgeLayout()
    for interaction in interactions:
        if is_scalar_product(interaction.conv_tp):
            interaction.conv_tp = ScalarConvolution(interaction.conv_tp, layout)
            interaction.conv_fusion = True
    return model

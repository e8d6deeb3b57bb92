"""Radial networks of MACE as tables over the distance, for inference on a CPU.

Where no element enters (no distance transform), the weights of a convolution are a smooth function R(r) of the distance alone: a Bessel
basis, an envelope and a small network, evaluated for every edge at every step. Cubic Hermite tables over 2,048 intervals give R and, for
forces, dR/dr. The derivative has a table of its own, because the slope of the first would lose three digits in single precision; the two
agree to 1e-9, far below its rounding.
"""

from __future__ import annotations

import copy

import torch

INTERVALS = 2048
SHORTEST_A = 0.3
"""Below this distance the first interval is continued; any run is stopped long before."""


def _interpolate(table: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Cubic Hermite interpolation at places in units of the spacing; rows of the table: value and slope of each knot in turn."""
    interval = at.floor().clamp(0, len(table) // 2 - 2)
    t = at - interval
    u = 1 - t
    rows = 2 * interval.long()[:, None] + torch.arange(4)
    weights = torch.stack([(1 + 2 * t) * u * u, t * u * u, (3 - 2 * t) * t * t, -t * t * u], dim=1)
    return torch.nn.functional.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, lengths, table, derivative, first, spacing):  # noqa: ANN001, ANN205
        at = (lengths.squeeze(1) - first) / spacing
        ctx.save_for_backward(at, derivative)
        return _interpolate(table, at)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):  # noqa: ANN001, ANN205
        at, derivative = ctx.saved_tensors
        return (gradient * _interpolate(derivative, at)).sum(dim=1, keepdim=True), None, None, None, None


class RadialTable(torch.nn.Module):
    """Stands for a MACE radial embedding followed by the network of one layer.

    Args:
        embedding: the model's RadialEmbeddingBlock, without a distance transform.
        network: `conv_tp_weights` of an interaction.
        r_max: cutoff, A.
    """

    def __init__(self, embedding: torch.nn.Module, network: torch.nn.Module, r_max: float) -> None:
        super().__init__()
        dtype = next(network.parameters()).dtype
        embedding, network = copy.deepcopy(embedding).double(), copy.deepcopy(network).double()
        self.first, self.spacing = SHORTEST_A, (r_max - SHORTEST_A) / INTERVALS

        def weights(distance: torch.Tensor) -> torch.Tensor:
            features, cutoff = embedding(distance, None, None, None)
            values = network(features)
            return values if cutoff is None else values * cutoff

        def slopes(distance: torch.Tensor) -> torch.Tensor:
            # Rows do not depend on one another: one product with ones is every row's own derivative.
            return torch.autograd.functional.jvp(
                weights, distance, torch.ones_like(distance), create_graph=True
            )[1]

        grid = torch.linspace(SHORTEST_A, r_max, INTERVALS + 1, dtype=torch.float64)[:, None]
        value = weights(grid).detach()
        slope, curvature = torch.autograd.functional.jvp(slopes, grid, torch.ones_like(grid))
        for name, knots, tangents in (("table", value, slope), ("derivative", slope, curvature)):
            rows = torch.stack([knots, tangents * self.spacing], dim=1).reshape(2 * len(grid), -1)
            self.register_buffer(name, rows.detach().to(dtype), persistent=False)

    def forward(self, lengths: torch.Tensor) -> torch.Tensor:
        """Weights (edges, n) at distances (edges, 1) in A."""
        return _Lookup.apply(lengths, self.table, self.derivative, self.first, self.spacing)


class Distances(torch.nn.Module):
    """Stands for a radial embedding: hands the distances on to the tables."""

    def forward(
        self, lengths: torch.Tensor, node_attrs: torch.Tensor, edge_index: torch.Tensor, numbers: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        return lengths, None

"""The hashing network in torch, for training; :meth:`HashTwin.export` gives the numpy network."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from pccodec.hashing.descriptor import CELLS, FREQUENCIES
from pccodec.hashing.network import HashNetwork, turns
from pccodec.hashing.search import BITS


class HashTwin(nn.Module):
    """As :class:`pccodec.hashing.HashNetwork`, with batch normalizations that the export folds away.

    The last one balances the bits: over a batch every value has mean 0 and variance 1.

    Args:
        moduli, turned: number of filters of each kind.
        widths: of the two hidden layers.
        bits: values that come out.
        sized: whether descriptors have the column of the size.
    """

    offset: Tensor
    scale: Tensor
    phases: Tensor

    def __init__(
        self,
        moduli: int = 24,
        turned: int = 64,
        widths: tuple[int, int] = (512, 256),
        bits: int = BITS,
        sized: bool = True,
    ) -> None:
        super().__init__()
        self.moduli = moduli
        shape = (FREQUENCIES, CELLS, moduli + turned)
        self.real = nn.Parameter(torch.randn(shape) / math.sqrt(2 * CELLS))
        self.imag = nn.Parameter(torch.randn(shape) / math.sqrt(2 * CELLS))
        features = FREQUENCIES * moduli + 2 * turned + 2 * FREQUENCIES * sized
        self.normalize = nn.BatchNorm1d(features)
        self.hidden = nn.ModuleList()
        for inputs, outputs in ((features, widths[0]), widths):
            self.hidden.append(nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)))
        self.last = nn.Linear(widths[1], bits)
        self.balance = nn.BatchNorm1d(bits, affine=False)
        self.register_buffer("offset", torch.zeros(FREQUENCIES, CELLS))
        self.register_buffer("scale", torch.ones(FREQUENCIES, CELLS))
        self.register_buffer("phases", torch.from_numpy(turns()))

    def fit(self, descriptors: Tensor) -> None:
        """Take the normalization of spectra from descriptors complex64 (n, F, CELLS + 1).

        The mean of a frequency other than 0 is 0, since shapes stand at any angle. Cells that
        are nearly always empty are not blown up to the size of the others.
        """
        spectra = descriptors[..., :CELLS]
        self.offset.copy_(spectra.mean(0).real)
        self.offset[1:] = 0
        power = (spectra - self.offset).abs().square().mean(0)
        self.scale.copy_((power + 0.01 * power.sqrt().mean(1, keepdim=True).square()).rsqrt())

    def forward(self, descriptors: Tensor) -> Tensor:
        """Values (n, bits) of which the signs are the bits, from descriptors complex64 (n, F, CELLS + 1)."""
        spectra, size = descriptors[..., :CELLS], descriptors[..., CELLS:].flatten(1)
        x = ((spectra - self.offset) * self.scale).transpose(0, 1)
        # Complex products as real ones, which torch trains faster.
        x = torch.cat([x.real, x.imag], dim=2)
        real = x @ torch.cat([self.real, -self.imag], dim=1)
        imag = x @ torch.cat([self.imag, self.real], dim=1)
        k = self.moduli
        modulus = torch.sqrt(real[1:, :, :k].square() + imag[1:, :, :k].square() + 1e-4)
        moduli = torch.cat([real[:1, :, :k], modulus]).transpose(0, 1).flatten(1)
        responses = torch.einsum("fnt,fa->nta", real[..., k:], self.phases.real)
        responses = responses - torch.einsum("fnt,fa->nta", imag[..., k:], self.phases.imag)
        found = [moduli, responses.amax(2), torch.relu(responses).mean(2), size.real, size.imag]
        values = self.normalize(torch.cat(found, dim=1))
        for layer in self.hidden:
            values = torch.relu(layer(values))
        out: Tensor = self.balance(self.last(values))
        return out

    @torch.no_grad()
    def export(self, model_id: bytes = bytes(8)) -> HashNetwork:
        """The numpy network, normalizations folded into the linear layers."""
        k = self.moduli
        filters = torch.complex(self.real, self.imag)
        scale, shift = _affine(self.normalize)
        layers = []
        for linear, norm in [*self.hidden, (self.last, self.balance)]:
            # What normalizes the inputs goes into the weights first, then what normalizes the outputs.
            weight, bias = linear.weight * scale, linear.bias + linear.weight @ shift
            gain, add = _affine(norm)
            layers.append(((gain[:, None] * weight).numpy(), (gain * bias + add).numpy()))
            scale, shift = torch.ones(len(bias)), torch.zeros(len(bias))
        return HashNetwork(
            model_id,
            self.offset.numpy().astype(np.complex64),
            self.scale.numpy().copy(),
            filters[..., :k].numpy(),
            filters[..., k:].numpy(),
            tuple(layers),
        )


def _affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Factor and summand of a batch normalization in evaluation."""
    assert norm.running_mean is not None and norm.running_var is not None
    gain = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        gain = gain * norm.weight
        return gain, norm.bias - gain * norm.running_mean
    return gain, -gain * norm.running_mean

"""The autoencoder with PyTorch's own layers."""

import torch
from torch import nn

CHANNELS, GROUPS, SIDE, CODE = (1, 16, 32), 4, 4, 8


class Autoencoder(nn.Module):
    """Picture to the mean and variance of a code, and from a code drawn with the noise back to a picture."""

    def __init__(self) -> None:
        super().__init__()
        one, few, many = CHANNELS
        self.encoder = nn.Sequential(
            nn.Conv2d(one, few, 3, stride=2, padding=1),
            nn.GroupNorm(GROUPS, few),
            nn.SiLU(),
            nn.Conv2d(few, many, 3, stride=2, padding=1),
            nn.GroupNorm(GROUPS, many),
            nn.SiLU(),
            nn.Flatten(),
        )
        self.mean = nn.Linear(many * SIDE**2, CODE)
        self.log_variance = nn.Linear(many * SIDE**2, CODE)
        self.expand = nn.Linear(CODE, many * SIDE**2)
        self.decoder = nn.Sequential(
            nn.Unflatten(1, (many, SIDE, SIDE)),
            nn.ConvTranspose2d(many, few, 4, stride=2, padding=1),
            nn.GroupNorm(GROUPS, few),
            nn.SiLU(),
            nn.ConvTranspose2d(few, one, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, picture: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Pictures `(batch_size, height, width)` of such pictures and noise `(batch_size, code)`."""
        seen = self.encoder(picture.unsqueeze(1))
        code = self.mean(seen) + torch.exp(0.5 * self.log_variance(seen)) * noise
        return self.decoder(self.expand(code)).squeeze(1)


def build() -> nn.Module:
    return Autoencoder()

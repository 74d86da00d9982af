"""Encoders side by side and mirror images: a cosine is the mean of the parts' cosines."""

from __future__ import annotations

import torch

from verifykit_training.encoders import JoinedEncoders, MirroredViews, build_encoder


def test_mirrored_views_are_the_rows_of_the_mirror_images() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("cnn5", embedding_size=6, weights="none").eval()
    images = torch.randn(3, 3, 40, 48)
    with torch.no_grad():
        rows = MirroredViews(encoder)(images)
        plain = [encoder(images.flip(dims)) for dims in ((), (3,), (2,), (2, 3))]
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(rows, torch.cat(plain, dim=1) / 2, atol=1e-5, rtol=1e-4)
    cosines = torch.stack([part @ part.T for part in plain]).mean(dim=0)
    torch.testing.assert_close(rows @ rows.T, cosines, atol=1e-5, rtol=1e-4)


def test_joined_encoders_have_the_mean_of_the_cosines() -> None:
    torch.manual_seed(0)
    parts = [build_encoder("cnn5", embedding_size=d, weights="none").eval() for d in (6, 9)]
    images = torch.randn(4, 3, 40, 48)
    with torch.no_grad():
        rows = JoinedEncoders(parts)(images)
        alone = [part(images) for part in parts]
    assert rows.shape == (4, 15)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(rows @ rows.T, sum(part @ part.T for part in alone) / 2)

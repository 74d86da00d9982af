"""Cross-batch memory: embeddings of earlier batches as further pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from verifykit_training.losses.batch import check_forgeries


class CrossBatchMemory(nn.Module):
    """A queue of the newest embeddings, and the contrastive loss of a batch against it.

    Wang, Zhang, Huang and Scott, "Cross-batch memory for embedding learning", CVPR 2020: features drift
    slowly after the first steps, so that those of earlier batches serve as pairs. As in the authors' code,
    the batch joins the queue first, and the loss is the sum of ``1 - cosine`` over positive pairs and of the
    cosine over negative pairs above ``margin``, divided by the number of rows of the batch. A row is not
    compared with itself, for which the authors leave out cosines above 1 - 1e-5. A skilled forgery is no
    anchor.

    It is a module, so that checkpoints contain the queue.
    """

    rows: Tensor
    labels: Tensor
    forgeries: Tensor
    seen: Tensor

    def __init__(self, size: int, embedding_size: int, margin: float = 0.5) -> None:
        """Begin with an empty queue of ``size`` rows."""
        super().__init__()
        self.margin = margin
        self.register_buffer("rows", torch.zeros(size, embedding_size))
        self.register_buffer("labels", torch.full((size,), -1))
        self.register_buffer("forgeries", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(
        self, embeddings: Tensor, labels: Tensor, forgeries: Tensor | None = None
    ) -> Tensor:
        """Put (N, D) unit rows into the queue, and return their loss against all of it."""
        forged = check_forgeries(forgeries, labels)
        size, count = len(self.rows), len(embeddings)
        places = (int(self.seen) + torch.arange(count, device=labels.device)) % size
        newest = slice(
            max(0, count - size), count
        )  # of more rows than the queue has, the last stay
        self.rows[places[newest]] = embeddings.detach().to(self.rows.dtype)[newest]
        self.labels[places[newest]] = labels[newest]
        self.forgeries[places[newest]] = forged[newest]
        self.seen += count

        held = min(int(self.seen), size)
        scores = embeddings.to(self.rows.dtype) @ self.rows[:held].clone().T
        same = labels[:, None] == self.labels[None, :held]
        genuine, others = ~forged[:, None], ~self.forgeries[None, :held]
        itself = torch.zeros_like(same)
        index = torch.arange(count, device=labels.device)[newest]
        itself[index, places[newest]] = True
        positive = same & genuine & others & ~itself
        negative = (~same | ~others) & genuine & (scores.detach() > self.margin) & ~itself
        pulled = (1.0 - scores)[positive].sum()
        return (pulled + scores[negative].sum()) / max(count, 1)

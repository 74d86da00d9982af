"""The metrics by which checkpoints are chosen, on subjects that are not trained on."""

from __future__ import annotations

from training.batches import CropDataset
from training.config import Config
from training.embedding import Scores, embed, pair_scores
from training.errors import DataError
from training.learner import Learner

__all__ = ["score_dataset", "validate"]


def validate(learner: Learner, dataset: CropDataset, config: Config) -> dict[str, float]:
    """Error rates of the weights that would be kept now.

    Args:
        learner: Of the run.
        dataset: Held-out subjects.
        config: The run's configuration.

    Returns:
        ``eer``; with imitations in the data ``skilled_eer`` too; and the number of pairs of each kind.

    Raises:
        DataError: The data do not hold the pairs that the metric is measured on.
    """
    scores = score_dataset(learner, dataset, config)
    counts = {
        "mated": float(scores.mated.size),
        "non_mated": float(scores.non_mated.size),
        "skilled": float(scores.skilled.size),
    }
    wanted = "skilled" if config.validation.metric == "skilled_eer" else "non_mated"
    if not counts["mated"] or not counts[wanted]:
        raise DataError(
            f"the validation subjects give {counts['mated']:.0f} mated and {counts[wanted]:.0f} {wanted} "
            "pairs: raise data.validation_share, or set it to 0"
        )
    rates = {}
    if scores.non_mated.size:
        rates["eer"] = scores.equal_error_rate().eer
    if scores.skilled.size:
        rates["skilled_eer"] = scores.equal_error_rate(skilled=True).eer
    return {**rates, **counts}


def score_dataset(learner: Learner, dataset: CropDataset, config: Config) -> Scores:
    """All pairs of a dataset, by the weights that would be kept now.

    Args:
        learner: Of the run.
        dataset: Without augmentation.
        config: The run's configuration.
    """
    embeddings = embed(learner.evaluated, dataset, batch_size=config.run.batch_size)
    forgeries = [record.is_forgery for record in dataset.records]
    return pair_scores(embeddings, dataset.labels, forgeries)

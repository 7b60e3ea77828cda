"""Class imbalance: how much the rows of each label weigh in the loss."""

from dataclasses import dataclass

from finetune.models.classifier.labels import Labels

import numpy as np
import torch
from torch.nn import functional


@dataclass
class Weighting:
    """How much each label's rows count, and the head's first bias: the log-odds of its rows at that weight.

    A label weighs (rows without it / rows with it) ^ power where it is there. At 1 a label of one row in
    200 would count as much as all the others together, and drown them in false alarms.
    """

    task: str
    weights: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def of(cls, actual: np.ndarray, labels: Labels, power: float) -> "Weighting":
        """Return the weighting for training labels of shape (rows, outputs)."""
        # Half a row more: a label that never occurs has a rate too.
        having = torch.from_numpy(actual.sum(axis=0)).float().clamp(min=0.5)
        lacking = (len(actual) - having).clamp(min=0.5)
        weights = (lacking / having) ** power
        if labels.task == "multiclass":
            weights = weights / weights.mean()
            return cls(labels.task, weights, (weights * having / having.sum()).log())
        return cls(labels.task, weights, (weights * having / lacking).log())

    def loss(self, outputs, targets: torch.Tensor, num_items_in_batch=None) -> torch.Tensor:
        """Return the weighted cross-entropy, averaged over all entries of the optimiser step."""
        logits, weights = outputs["logits"].float(), self.weights.to(targets.device)
        if self.task == "multiclass":
            losses = functional.cross_entropy(logits, targets.float(), weights, reduction="none")
            total, count = losses.sum() * targets.shape[1], targets.numel()
        else:
            total = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="sum")
            count = targets.numel()
        return total / (count if num_items_in_batch is None else num_items_in_batch)

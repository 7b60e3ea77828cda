"""Many classifiers trained side by side on one frozen encoder, each as train_classifier.py would train it alone.

A step of so small an encoder waits for its host, however few its rows: twenty adapters in one pass take hardly longer
than one. Each replica has rows, adapter, head, order of rows and gradient norm of its own, so that its steps are those
of a training by itself; only the draws of dropout come from one stream. The base is NF4, dequantised once: what a
4-bit layer multiplies with. For encoders whose layers see (texts, tokens, features), such as BERT's.
"""

import math
from dataclasses import dataclass

from finetune.models.bases.loading import load_encoder
from finetune.models.classifier.encoder import EncoderClassifier
from train_classifier import ClassifierTrainingArguments, Flags

import bitsandbytes as bnb
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import BitsAndBytesConfig
from transformers.trainer_pt_utils import get_length_grouped_indices

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOKENS_AT_A_TIME, EVALUATED_AT_A_TIME, AVERAGED = 32768, 131072, 3
_FLAGS, _ARGS = Flags.__dataclass_fields__, ClassifierTrainingArguments.__dataclass_fields__


@dataclass(frozen=True)
class Settings:
    """What candidates differ in; the defaults are those of the script."""

    epochs: int = int(_ARGS["num_train_epochs"].default)
    learning_rate: float = _ARGS["learning_rate"].default
    warmup: float = _ARGS["warmup_steps"].default
    batch: int = _ARGS["per_device_train_batch_size"].default
    weight_decay: float = 0.0
    rank: int = _FLAGS["lora_r"].default
    alpha: float = _FLAGS["lora_alpha"].default
    dropout: float = _FLAGS["lora_dropout"].default
    targets: tuple = ("all-linear",)
    pooling: str = "mean"
    power: float = _FLAGS["imbalance_power"].default
    loss: str = "weighted"
    nf4: bool = True
    context: int = 0
    bf16: bool = False
    head_rate: float = 1.0


@dataclass
class Texts:
    """All texts on the device: ids and segments (texts, longest), lengths (texts,), targets (texts, labels)."""

    ids: torch.Tensor
    segments: torch.Tensor
    lengths: torch.Tensor
    targets: torch.Tensor

    def batch(self, rows: torch.Tensor, longest: int) -> dict[str, torch.Tensor]:
        """Return the model's inputs for rows, cut to `longest` tokens."""
        seen = torch.arange(longest, device=rows.device) < self.lengths[rows][:, None]
        return {"input_ids": self.ids[rows, :longest], "token_type_ids": self.segments[rows, :longest],
                "attention_mask": seen.long()}  # fmt: skip


class StackedLora(nn.Module):
    """A frozen linear layer with an adapter for each replica; inputs (replicas x texts, tokens, features)."""

    def __init__(self, linear: nn.Linear, seeds: list[int], settings: Settings):
        super().__init__()
        self.register_buffer("weight", dequantised(linear))
        self.register_buffer("bias", linear.bias)
        inputs, outputs = self.weight.shape[1], self.weight.shape[0]
        drawn = [torch.Generator().manual_seed(seed) for seed in seeds]
        bound = 1 / math.sqrt(inputs)  # PEFT's: kaiming_uniform_ with a = sqrt(5)
        first = [torch.empty(settings.rank, inputs).uniform_(-bound, bound, generator=one) for one in drawn]
        self.A = nn.Parameter(torch.stack(first).to(self.weight.device))
        self.B = nn.Parameter(torch.zeros(len(seeds), outputs, settings.rank, device=self.weight.device))
        self.dropout, self.scaling = nn.Dropout(settings.dropout), settings.alpha / settings.rank

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return the layer's output with each replica's update."""
        apart = self.dropout(states).reshape(len(self.A), -1, states.shape[-1])
        update = apart.bmm(self.A.mT).bmm(self.B.mT) * self.scaling
        return functional.linear(states, self.weight, self.bias) + update.view(*states.shape[:-1], -1)


class StackedHead(nn.Module):
    """A linear head for each replica; inputs (replicas x texts, features)."""

    def __init__(self, seeds: list[int], width: int, biases: torch.Tensor):
        super().__init__()
        drawn = [torch.Generator().manual_seed(seed + 10**6) for seed in seeds]
        first = [torch.empty(biases.shape[1], width).normal_(std=0.02, generator=one) for one in drawn]
        self.weight = nn.Parameter(torch.stack(first).to(DEVICE))
        self.bias = nn.Parameter(biases.to(DEVICE).clone())

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (replicas x texts, outputs)."""
        apart = pooled.view(len(self.weight), -1, pooled.shape[-1])
        return (apart.bmm(self.weight.mT) + self.bias[:, None]).flatten(0, 1)


def dequantised(linear: nn.Linear) -> torch.Tensor:
    """Return a layer's weight in float32, as an NF4 layer multiplies with it."""
    if isinstance(linear, bnb.nn.Linear4bit):
        return bnb.functional.dequantize_4bit(linear.weight.data, linear.weight.quant_state).float()
    return linear.weight.data


def build(base_model: str, seeds: list[int], biases: torch.Tensor, settings: Settings) -> EncoderClassifier:
    """Return a classifier with an adapter and a head for each seed.

    Args:
        seeds: of the first weights, one a replica.
        biases: first biases of the heads, shape (replicas, outputs).
    """
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    encoder = load_encoder(base_model, None, nf4 if settings.nf4 else None)
    model = EncoderClassifier(encoder, biases.shape[1], settings.pooling)
    for number, (name, module) in enumerate(list(encoder.named_modules())):
        if not isinstance(module, nn.Linear):
            continue
        parent, _, child = name.rpartition(".")
        if settings.targets == ("all-linear",) or child in settings.targets:
            new: nn.Module = StackedLora(module, [1000 * seed + number for seed in seeds], settings)
        else:
            new = nn.Linear(module.in_features, module.out_features, device=DEVICE).requires_grad_(False)
            new.weight.data, new.bias.data = dequantised(module), module.bias.data
        setattr(encoder.get_submodule(parent), child, new)
    model.classifier = StackedHead(seeds, encoder.config.hidden_size, biases)
    return model.to(DEVICE)


def order(rows: np.ndarray, lengths: np.ndarray, steps: int, batch: int, generator) -> list[np.ndarray]:
    """Return an epoch's batches of row numbers, in the order of the Trainer's sampler, in so many steps."""
    indices = get_length_grouped_indices(lengths[rows].tolist(), batch, generator=generator)
    return np.array_split(rows[np.array(indices)], steps)


def padded(parts: list[np.ndarray], multiple: int = 1) -> np.ndarray:
    """Return the row numbers of each replica as an array (replicas, rows), -1 where one has fewer."""
    width = multiple * math.ceil(max(map(len, parts)) / multiple)
    return np.stack([np.pad(part, (0, width - len(part)), constant_values=-1) for part in parts])


def losses(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, kind: str) -> torch.Tensor:
    """Return the loss of each entry; all of shape (replicas, texts, labels), weights (replicas, 1, labels)."""
    if kind == "weighted":
        return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
    plain = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    right = torch.where(targets > 0, logits.sigmoid(), 1 - logits.sigmoid())
    if kind == "focal":  # Lin et al., arXiv 1708.02002
        return (1 - right) ** 2 * plain * 4  # about as large as the others in the first steps
    # Asymmetric (Ridnik et al., arXiv 2009.14119): negatives below 0.05 are let go, the others weigh p^4.
    kept = (logits.sigmoid() - 0.05).clamp(min=0)
    return torch.where(targets > 0, plain, -(kept**4) * torch.log((1 - kept).clamp(min=1e-8)))


def train(model, texts: Texts, replicas: list[dict], weights: torch.Tensor, settings: Settings) -> list[dict]:
    """Train all replicas; return for each its logits on its `held_out` rows, after each epoch of the
    second half, and of the average of the last three at the end.

    Args:
        replicas: each with `rows` to train on, `held_out` rows and a `seed`.
        weights: of the labels, shape (replicas, labels).
    """
    lengths = texts.lengths.cpu().numpy()
    steps = math.ceil(max(len(one["rows"]) for one in replicas) / settings.batch)
    optimiser, scheduler = optimise(model, steps * settings.epochs, settings)
    trained = [p for p in model.parameters() if p.requires_grad]
    generators = [torch.Generator().manual_seed(one["seed"]) for one in replicas]
    torch.manual_seed(replicas[0]["seed"])
    found: list[dict] = [{} for _ in replicas]
    kept: list[list[torch.Tensor]] = []
    for epoch in range(1, settings.epochs + 1):
        model.train()
        orders = [order(one["rows"], lengths, steps, settings.batch, generator)
                  for one, generator in zip(replicas, generators, strict=True)]  # fmt: skip
        for batches in zip(*orders, strict=True):
            step(model, texts, padded(list(batches)), lengths, weights, settings)
            clip(trained, len(replicas))
            optimiser.step()
            scheduler.step()
            optimiser.zero_grad(set_to_none=True)
        if 2 * epoch >= settings.epochs:  # Earlier ones are never the best.
            record(found, str(epoch), evaluate(model, texts, replicas, lengths, settings))
        kept = [*kept[-AVERAGED + 1 :], [p.detach().clone() for p in trained]]
    with torch.no_grad():
        for parameter, *values in zip(trained, *kept, strict=True):
            parameter.copy_(torch.stack(values).mean(0))
    record(found, "average", evaluate(model, texts, replicas, lengths, settings))
    return found


def optimise(model, steps: int, settings: Settings) -> tuple:
    """Return AdamW and the linear schedule with warm-up, as the Trainer sets them up."""
    head, rest = list(model.classifier.parameters()), []
    rest = [p for n, p in model.named_parameters() if p.requires_grad and not n.startswith("classifier.")]
    rate = settings.learning_rate
    groups = [{"params": rest}, {"params": [head[0]], "lr": rate * settings.head_rate},
              {"params": [head[1]], "lr": rate * settings.head_rate, "weight_decay": 0.0}]  # fmt: skip
    optimiser = torch.optim.AdamW(groups, lr=rate, weight_decay=settings.weight_decay, fused=True)
    warmup = math.ceil(settings.warmup * steps)
    factor = lambda now: now / max(1, warmup) if now < warmup else (steps - now) / max(1, steps - warmup)  # noqa: E731
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def step(model, texts: Texts, rows: np.ndarray, lengths: np.ndarray, weights: torch.Tensor, settings) -> None:
    """Add the gradients of a step; rows of shape (replicas, texts), -1 where a replica has fewer."""
    count = len(rows)
    there = torch.from_numpy(rows >= 0).to(DEVICE)
    share = there.float() / there.sum(1, keepdim=True) / texts.targets.shape[1]  # the mean over a replica's entries
    rows = np.maximum(rows, 0)
    longest = min(texts.ids.shape[1], 8 * math.ceil(lengths[rows].max() / 8))
    at_a_time = max(1, TOKENS_AT_A_TIME // (count * longest))
    for start in range(0, rows.shape[1], at_a_time):
        part = slice(start, start + at_a_time)
        numbers = torch.from_numpy(rows[:, part].reshape(-1)).to(DEVICE)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=settings.bf16):
            logits = model(**texts.batch(numbers, longest)).logits
        shape = (count, -1, texts.targets.shape[1])
        entries = losses(
            logits.float().view(shape), texts.targets[numbers].view(shape), weights[:, None], settings.loss
        )
        (entries * share[:, part, None]).sum().backward()


def clip(parameters: list[nn.Parameter], count: int, most: float = 1.0) -> None:
    """Bound the norm of each replica's gradient, as the Trainer's max_grad_norm does for one."""
    gradients = [p.grad for p in parameters]
    norms = torch.stack([g.view(count, -1).square().sum(1) for g in gradients]).sum(0).sqrt()
    factors = (most / (norms + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))


@torch.inference_mode()
def evaluate(model, texts: Texts, replicas: list[dict], lengths: np.ndarray, settings: Settings) -> list[np.ndarray]:
    """Return each replica's logits on its held-out rows, shape (rows, labels)."""
    model.eval()
    by_length = [one["held_out"][np.argsort(-lengths[one["held_out"]], kind="stable")] for one in replicas]
    rows, outputs, start = padded(by_length), [], 0
    while start < rows.shape[1]:
        longest = min(texts.ids.shape[1], 8 * math.ceil(lengths[np.maximum(rows[:, start], 0)].max() / 8))
        end = start + max(1, EVALUATED_AT_A_TIME // (len(rows) * longest))
        numbers = torch.from_numpy(np.maximum(rows[:, start:end], 0).reshape(-1)).to(DEVICE)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=settings.bf16):
            logits = model(**texts.batch(numbers, longest)).logits
        outputs.append(logits.float().view(len(rows), -1, logits.shape[-1]))
        start = end
    joined = torch.cat(outputs, 1).cpu().numpy()
    found = []
    for one, sorted_rows, logits in zip(replicas, by_length, joined, strict=True):
        place = {row: index for index, row in enumerate(sorted_rows.tolist())}
        found.append(logits[[place[row] for row in one["held_out"].tolist()]])
    return found


def record(found: list[dict], name: str, logits: list[np.ndarray]) -> None:
    """Put each replica's logits under a name."""
    for one, values in zip(found, logits, strict=True):
        one[name] = values

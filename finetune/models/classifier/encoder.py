"""Encoders with a classification head: the quantised encoder below, pooling and a head in full precision above."""

from pathlib import Path

from finetune.models.bases.loading import load_encoder

import safetensors.torch
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

HEAD = "head.safetensors"  # beside the files of a merged encoder


class EncoderClassifier(PreTrainedModel):
    """An encoder of any kind, its token states pooled into one, normalised, and a linear head.

    The classes of transformers differ in head, pooler and their names, and put both inside what is
    quantised. Here the head is one layer outside, in full precision, always called `classifier`: PEFT
    saves it with the adapter of a SEQ_CLS task and leaves it out of "all-linear" by that name.

    Args:
        encoder: from `loading.load_encoder`.
        outputs: number of logits.
        pooling: `mean` over the tokens of the text, or `cls`, the first token.
        bias: first values of the head's bias, shape (outputs,). Start them at the log-odds of the base
            rates: from 0, an encoder whose states are alike learns the rare classes' rate first, by making
            all texts the same, and stays there.
    """

    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    def __init__(self, encoder: PreTrainedModel, outputs: int, pooling: str, bias: torch.Tensor | None = None):
        super().__init__(encoder.config)
        self.encoder, self.pooling = encoder, pooling
        width = encoder.config.hidden_size
        self.normalize = nn.LayerNorm(width, elementwise_affine=False)
        self.dropout = nn.Dropout(getattr(encoder.config, "hidden_dropout_prob", 0.1))
        self.classifier = nn.Linear(width, outputs, device=encoder.device)
        nn.init.normal_(self.classifier.weight, std=0.02)
        with torch.no_grad():
            self.classifier.bias.copy_(torch.zeros(outputs) if bias is None else bias)

    @property
    def is_loaded_in_4bit(self) -> bool:
        """PEFT asks the outermost model whether its layers are quantised."""
        return getattr(self.encoder, "is_loaded_in_4bit", False)

    def get_input_embeddings(self):
        """Return the encoder's."""
        return self.encoder.get_input_embeddings()

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, labels=None, **options):
        """Return logits of shape (texts, outputs), float32, and no loss: the training script chooses that."""
        for name in ("return_dict", "output_attentions", "output_hidden_states", "inputs_embeds"):  # PEFT's
            options.pop(name, None)
        if token_type_ids is not None:  # Some encoders do not know them.
            options["token_type_ids"] = token_type_ids
        states = self.encoder(input_ids, attention_mask=attention_mask, **options).last_hidden_state
        if self.pooling == "mean":
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * mask).sum(1) / mask.sum(1)
        else:
            pooled = states[:, 0]
        pooled = self.dropout(self.normalize(pooled.float()))
        return SequenceClassifierOutput(logits=self.classifier(pooled))


def load_merged(folder: Path, outputs: int, pooling: str) -> EncoderClassifier:
    """Return a classifier whose adapter was merged into its encoder: a folder with the encoder and the file `HEAD`."""
    model = EncoderClassifier(load_encoder(str(folder), None, None), outputs, pooling)
    model.classifier.load_state_dict(safetensors.torch.load_file(folder / HEAD))
    return model.eval()

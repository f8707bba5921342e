"""The tokenizer of a checkpoint folder, whose token ids are those of its ``tokenizer.json``.

transformers 5 chooses a class by the name of the model or of the tokenizer, and many classes build the
tokenizer anew, from the vocabulary alone. Where such a class gives other ids than ``tokenizer.json``, the
file is used as it is. It is read as transformers 4 read it: settings that ``tokenizer_config.json`` names,
and that also stand in the file, come from ``tokenizer_config.json``.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer, Prepend, Replace
from tokenizers.normalizers import Sequence as NormalizerSequence
from tokenizers.pre_tokenizers import ByteLevel, Metaspace
from tokenizers.processors import TemplateProcessing

from llara_eval.checkpoints import libraries
from llara_eval.checkpoints.settings import read_settings
from llara_eval.core.decode import decode
from llara_eval.core.errors import DataError
from llara_eval.core.files import read_json
from llara_eval.core.reading import is_present
from llara_eval.encoding.templates import Cut, special_tokens

logger = logging.getLogger(__name__)

TOKENIZER_FILE = "tokenizer.json"

_TEXTS = (
    "Hello  World, a naïve café; it's 12,345.67 metres\n\tdef f(x_1): return [x**2]  # don't…",
    "ÅNGSTRÖM straße İstanbul e\u0301\u200b ﬁn 東京タワー 한국어 русский عربي हिन्दी 🌘🏳️‍🌈 ½ ①",
    " leading and trailing ",
    "a",
    "",
)
"""Texts of many scripts, cases and spacings: tokenizers that differ give other ids for one of them."""

_BERT = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
"""Settings of ``tokenizer_config.json`` → attributes of the normalizer that BERT and its kin have."""

_GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Tokenizer classes that take everything from ``tokenizer.json``; settings of BERT's are void for them."""

_SPACE = "▁"
"""The character that SentencePiece writes for a space."""

_FLAGS = ("add_bos_token", "add_eos_token")
"""Settings of ``tokenizer_config.json`` that ask for a token before and after a text."""

_KEPT = ("model_max_length", "padding_side", "clean_up_tokenization_spaces", "chat_template")
"""Attributes that a tokenizer has from ``tokenizer_config.json`` and that do not change token ids."""


@dataclass(frozen=True, slots=True)
class _File:
    """``tokenizer.json``, without the keys that are not used."""

    truncation: dict[str, Any] | None = None


def read_tokenizer(folder: Path, config: Any, *, trusted: bool) -> Any:
    """Read the tokenizer of a folder.

    It truncates texts at their end; templates cut them where :func:`read_cut` says.

    Args:
        folder: The folder of the tokenizer's files.
        config: The model's configuration; None if the folder has none of its own.
        trusted: Whether a tokenizer class in the folder may be run.

    Raises:
        DataError: The folder has no tokenizer, or its files cannot be read, or transformers reads them by a
            class that is not theirs; or its class is written in Python
            and disagrees with ``tokenizer.json``; or ``tokenizer_config.json`` asks for a token at the
            beginning or the end of texts, and ``tokenizer.json`` puts other tokens there.
        MissingPartError: The tokenizer's class needs a package that is not installed.
    """
    file, settings = folder / TOKENIZER_FILE, _settings(folder)
    try:
        tokenizer = libraries.read_tokenizer(folder, config, trusted=trusted)
    except DataError:  # a class that is not that of the file fails in many ways
        if not is_present(file):
            raise
        tokenizer = None
    if not is_present(file):
        names = tokenizer.vocab_files_names.values()  # empty for a tokenizer of bytes
        if names and not any(is_present(folder / name) for name in names):
            needed = " or ".join(sorted({*names, TOKENIZER_FILE}))  # transformers has invented a tokenizer
            raise DataError(f"{folder} holds no tokenizer ({needed}); save it in that folder")
        if type(tokenizer).__name__ in _GENERIC:
            raise DataError(
                f"{folder} has no {TOKENIZER_FILE}, and transformers 5 does not read its other files as they "
                "were meant; load its tokenizer with the transformers that saved it, and save it again"
            )
        if type(tokenizer).__name__ == "LlamaTokenizer" and settings.get("legacy") is not False:
            _keep_leading_spaces(tokenizer)
        return tokenizer
    expected = _as_saved(file, settings)
    if tokenizer is None or not _agree(tokenizer, expected):
        if tokenizer is not None and _runs_python(tokenizer):
            raise DataError(
                f"{folder}: {type(tokenizer).__name__} gives other token ids than {TOKENIZER_FILE}; remove "
                "the one that is not meant"
            )
        logger.info("%s: transformers would not follow %s, which is used as it is", folder, TOKENIZER_FILE)
        tokenizer = _generic(folder, tokenizer, expected)
    _honour_flags(tokenizer, settings, folder)
    return tokenizer


def _keep_leading_spaces(tokenizer: Any) -> None:
    """Let a Llama tokenizer put a space before a text that begins with one, too, in place.

    So do SentencePiece and transformers 4, unless ``legacy`` is false; transformers 5 does not.
    """
    backend = tokenizer.backend_tokenizer
    if isinstance(backend.pre_tokenizer, Metaspace):
        prefix = [] if backend.pre_tokenizer.prepend_scheme == "never" else [Prepend(_SPACE)]
        backend.normalizer = NormalizerSequence([*prefix, Replace(" ", _SPACE)])
        backend.pre_tokenizer = None


def read_cut(folder: Path) -> Cut:
    """Return the part of a long text that the tokenizer of a folder is meant to cut off.

    As in transformers, ``truncation_side`` of ``tokenizer_config.json`` says it, or else the truncation that
    ``tokenizer.json`` was saved with.
    """
    side = _settings(folder).get("truncation_side")
    if side is None and is_present(file := folder / TOKENIZER_FILE):
        truncation = decode(read_json(file), _File, file).truncation or {}
        side = str(truncation.get("direction", "right")).lower()
    return "start" if side == "left" else "end"


def overruling(folder: Path, config: Any) -> str | None:
    """Return the class by which transformers overrules ``tokenizer.json``; None if it does not."""
    tokenizer = libraries.read_tokenizer(folder, config, trusted=False)
    expected = _as_saved(folder / TOKENIZER_FILE, _settings(folder))
    return None if _agree(tokenizer, expected) else type(tokenizer).__name__


def _runs_python(tokenizer: Any) -> bool:
    """Return whether a part of a tokenizer is written in Python, which no ``tokenizer.json`` can hold."""
    try:
        tokenizer.backend_tokenizer.to_str()
    except Exception:  # tokenizers raises nothing more exact for a part in Python
        return True
    return False


def _settings(folder: Path) -> dict[str, Any]:
    """Return the content of ``tokenizer_config.json``; empty if there is no such file."""
    path = folder / "tokenizer_config.json"
    settings = read_settings(path)
    for name, value in settings.items():
        if name.endswith("_file") and isinstance(value, str) and value and _is_elsewhere(Path(value), folder):
            raise DataError(f"{path}: {name} {value!r} is a file outside of that folder; remove the setting")
    return settings


def _is_elsewhere(file: Path, folder: Path) -> bool:
    """Return whether there is such a file, and it is not in a folder."""
    try:
        return file.is_file() and not file.resolve().is_relative_to(folder.resolve())
    except OSError:  # a name that is too long
        return False


def _as_saved(file: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer in ``tokenizer.json``, with what ``tokenizer_config.json`` says of it."""
    with libraries.reading(file, "cannot be read"):
        saved = Tokenizer.from_file(str(file))
    saved.no_truncation()
    saved.no_padding()
    saved.encode_special_tokens = bool(settings.get("split_special_tokens"))
    normalizer, pre_tokenizer = saved.normalizer, saved.pre_tokenizer
    name = str(settings.get("tokenizer_class", ""))
    if isinstance(normalizer, BertNormalizer) and name not in _GENERIC:
        for setting, attribute in _BERT.items():
            if setting in settings:
                with libraries.reading(file.parent / "tokenizer_config.json", f"{setting} is of no use"):
                    setattr(normalizer, attribute, settings[setting])
        saved.normalizer = normalizer
    if isinstance(pre_tokenizer, ByteLevel) and isinstance(settings.get("add_prefix_space"), bool):
        pre_tokenizer.add_prefix_space = settings["add_prefix_space"]
        saved.pre_tokenizer = pre_tokenizer
    return saved


def _agree(tokenizer: Any, expected: Tokenizer) -> bool:
    """Return whether two tokenizers give the same ids, without special tokens and with them."""
    added = sorted(token.content for token in expected.get_added_tokens_decoder().values())
    texts = [*_TEXTS, "said " + " and ".join(added)]
    for special in (False, True):
        try:
            input_ids = tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"]
        except Exception:  # a class for words with their places on a page
            return False
        if input_ids != [
            encoding.ids for encoding in expected.encode_batch(texts, add_special_tokens=special)
        ]:
            return False
    return True


def _generic(folder: Path, tokenizer: Any, expected: Tokenizer) -> Any:
    """Return the tokenizer of a folder in transformers' generic class, with the named tokens of another one.

    Raises:
        DataError: Even the generic class gives other ids.
    """
    from transformers import PreTrainedTokenizerFast

    if tokenizer is None:
        tokenizer = libraries.read_generic_tokenizer(folder)
    with libraries.reading(folder, "its tokenizer cannot be read"):
        generic = PreTrainedTokenizerFast(
            tokenizer_object=expected,
            truncation_side="right",
            split_special_tokens=expected.encode_special_tokens,
            **{name: getattr(tokenizer, name) for name in _KEPT},
            **tokenizer.special_tokens_map,
        )
    if not _agree(generic, expected):
        raise DataError(f"{folder}: transformers cannot be made to follow {TOKENIZER_FILE}; save it again")
    return generic


def _honour_flags(tokenizer: Any, settings: Mapping[str, Any], folder: Path) -> None:
    """Let texts begin and end with the tokens that ``tokenizer_config.json`` asks for by flags, in place.

    transformers 5 ignores the flags where there is a ``tokenizer.json``. A flag that is not there asks for
    nothing.

    Raises:
        DataError: Other tokens stand where a flag asks for one or for none.
    """
    if not any(isinstance(settings.get(flag), bool) for flag in _FLAGS):
        return
    ends: list[Sequence[str]] = []
    for flag, token, present in zip(
        _FLAGS,
        (tokenizer.bos_token, tokenizer.eos_token),
        special_tokens(tokenizer),
        strict=True,
    ):
        wanted = settings.get(flag)
        ends.append(present)
        if token is None or not isinstance(wanted, bool) or wanted == (token in present):
            continue
        if present not in ((), (token,)):
            raise DataError(
                f"{folder / 'tokenizer_config.json'}: {flag} is {wanted}, but {TOKENIZER_FILE} puts "
                f"{' '.join(present)} there; correct the one that is wrong"
            )
        ends[-1] = (token,) if wanted else ()
        logger.info("%s: %s is %s, which %s ignores", folder, flag, wanted, TOKENIZER_FILE)
    before, after = ends
    if (before, after) == special_tokens(tokenizer):
        return
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[*before, "$A", *after, *before, "$B:1", *after],
        special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in {*before, *after}],
    )

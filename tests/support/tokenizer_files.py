"""Small tokenizers of the four algorithms, written as tokenizer.json with a tokenizer_config.json."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

TEXTS = [
    "",
    "a",
    "Hello  World,\n\t12,345 naïve CAFÉ é's",
    "日本 🌘 don't </s> stop",
]

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]

_LETTERS = "abcdefghijklmnopqrstuvwxyzHWCAF12345,'é日"


def _with_specials(tokenizer: Tokenizer, single: str) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(token, tokenizer.token_to_id(token)) for token in SPECIAL]
    )
    return tokenizer


def unigram() -> Tokenizer:
    """Return a tokenizer as XLM-RoBERTa has it."""
    pieces = ["▁", *("▁" + letter for letter in _LETTERS), *_LETTERS, "▁Hello", "▁World", "on", "st"]
    vocabulary = [(token, 0.0) for token in SPECIAL] + [(piece, -2.0 - len(piece)) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return _with_specials(tokenizer, "<s> $A </s>")


def byte_level() -> Tokenizer:
    """Return a tokenizer as DeepSeek has it: digits stand alone, then bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("l", "l"), ("1", "2"), ("Ġ", "d"), ("o", "n")]
    vocabulary = [*SPECIAL, *alphabet, *(a + b for a, b in merges)]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, merges))
    digits = pre_tokenizers.Split(Regex(r"\d"), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    return _with_specials(tokenizer, "<s> $A")


def word_piece() -> Tokenizer:
    """Return a tokenizer as BERT has it, which lowers the case."""
    words = [*_LETTERS.lower(), *("##" + letter for letter in _LETTERS.lower()), "hello", "##llo", "."]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*SPECIAL, *words]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return _with_specials(tokenizer, "<s> $A </s>")


def byte_fallback() -> Tokenizer:
    """Return a tokenizer as Llama 2 has it: pairs of pieces, and bytes for what is unknown."""
    merges = [("▁", "d"), ("o", "n"), ("l", "l")]
    pieces = ["▁", *_LETTERS, *(a + b for a, b in merges)]
    vocabulary = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    model = models.BPE(
        {token: i for i, token in enumerate(vocabulary)},
        merges,
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    return _with_specials(tokenizer, "$A </s>")


FILES = {
    "unigram": unigram,
    "byte level": byte_level,
    "word piece": word_piece,
    "byte fallback": byte_fallback,
}

NAMED = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def write(folder: Path, kind: str, **settings: Any) -> Tokenizer:
    """Write a tokenizer and its settings; return it as tokenizers reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    FILES[kind]().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**NAMED, **settings}))
    return Tokenizer.from_file(str(folder / "tokenizer.json"))

"""Token ids are those of tokenizer.json, whatever class transformers reads it with."""

import io
import json
from functools import partial

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizer_files import FILES, TEXTS, write
from tokenizers import Tokenizer
from transformers import (
    AutoTokenizer,
    BertConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen3Config,
    RobertaConfig,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

from llara_eval.checkpoints.tokenizer import read_tokenizer
from llara_eval.core.errors import DataError, MissingPartError
from llara_eval.encoding.templates import special_tokens

FAMILIES = sorted({name for name in TOKENIZER_MAPPING_NAMES.values() if name is not None})
"""The classes of tokenizers that transformers has."""

WITHOUT_FILES = {"ByT5Tokenizer", "CanineTokenizer", "DiaTokenizer", "PerceiverTokenizer"}
"""Classes in Python that need no file: a tokenizer.json beside them contradicts them."""

read = partial(read_tokenizer, trusted=False)


def ids(tokenizer: Tokenizer, *, special: bool) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch(TEXTS, add_special_tokens=special)]


@pytest.mark.parity
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_tokenizers_follows_tokenizer_json_or_is_refused(tmp_path, name) -> None:
    for number, kind in enumerate(FILES):
        folder = tmp_path / str(number)
        expected = write(folder, kind, tokenizer_class=name)
        try:
            tokenizer = read(folder, LlamaConfig())
        except MissingPartError as error:
            assert "pip" in str(error) or "pypi" in str(error)
            return
        except DataError as error:
            assert name in WITHOUT_FILES
            assert f"{name} gives other token ids than tokenizer.json" in str(error)
            return
        assert name not in WITHOUT_FILES
        for special in (False, True):
            found = tokenizer(TEXTS, add_special_tokens=special)["input_ids"]
            assert found == ids(expected, special=special), kind


@pytest.mark.parametrize(
    ("config", "kind", "settings"),
    [
        (BertConfig(), "unigram", {"do_lower_case": True}),
        (BertConfig(), "unigram", {"do_lower_case": True, "tokenizer_class": "PreTrainedTokenizerFast"}),
        (RobertaConfig(), "unigram", {"tokenizer_class": "RobertaTokenizer"}),
        (LlamaConfig(), "byte level", {"tokenizer_class": "LlamaTokenizerFast"}),
        (Qwen3Config(), "byte level", {"tokenizer_class": "LlamaTokenizerFast"}),
        (LlamaConfig(), "byte level", {"tokenizer_class": "GPT2Tokenizer"}),
        (LlamaConfig(), "unigram", {"tokenizer_class": "LlamaTokenizer"}),
    ],
    ids=[
        "MiniLM",
        "MiniLM's class",
        "unigram as RoBERTa",
        "Llama",
        "DeepSeek",
        "Granite",
        "unigram as Llama",
    ],
)
def test_a_class_that_transformers_guesses_does_not_overrule_tokenizer_json(
    tmp_path, config, kind, settings
) -> None:
    expected = write(tmp_path, kind, **settings)
    tokenizer = read(tmp_path, config)
    assert tokenizer(TEXTS)["input_ids"] == ids(expected, special=True)
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.truncation_side) == ("<pad>", "</s>", "right")
    tokenizer.save_pretrained(tmp_path / "again")
    config.save_pretrained(tmp_path / "again")
    assert read(tmp_path / "again", config)(TEXTS)["input_ids"] == ids(expected, special=True)


@pytest.mark.parametrize(
    ("kind", "flags", "expected"),
    [
        ("byte level", {"add_bos_token": True, "add_eos_token": True}, (("<s>",), ("</s>",))),
        ("byte level", {"add_eos_token": True}, (("<s>",), ("</s>",))),
        ("byte level", {"add_bos_token": False}, ((), ())),
        ("byte level", {}, (("<s>",), ())),
        ("byte fallback", {"add_bos_token": False}, ((), ("</s>",))),
        ("byte fallback", {"add_bos_token": True, "add_eos_token": False}, (("<s>",), ())),
        ("byte fallback", {"add_bos_token": None, "bos_token": None}, ((), ("</s>",))),
        ("byte fallback", {"add_bos_token": True, "bos_token": None}, ((), ("</s>",))),
    ],
)
def test_flags_of_tokens_at_the_ends_are_honoured(tmp_path, kind, flags, expected) -> None:
    write(tmp_path, kind, tokenizer_class="LlamaTokenizer", **flags)
    tokenizer = read(tmp_path, MistralConfig())
    assert special_tokens(tokenizer) == expected
    for text in TEXTS:
        bare = tokenizer(text, add_special_tokens=False)["input_ids"]
        before, after = map(tokenizer.convert_tokens_to_ids, map(list, expected))
        assert tokenizer(text)["input_ids"] == [*before, *bare, *after]


def test_a_flag_that_contradicts_other_tokens_is_refused(tmp_path) -> None:
    write(tmp_path, "unigram", eos_token="<mask>", add_eos_token=True)
    with pytest.raises(DataError, match=r"add_eos_token is True, but tokenizer\.json puts </s> there"):
        read(tmp_path, LlamaConfig())


@pytest.mark.parametrize("lowercase", [True, False])
def test_the_case_is_lowered_as_tokenizer_config_says(tmp_path, lowercase) -> None:
    write(tmp_path, "word piece", tokenizer_class="BertTokenizer", do_lower_case=lowercase)
    tokenizer = read(tmp_path, BertConfig())
    assert (tokenizer("HELLO")["input_ids"] == tokenizer("hello")["input_ids"]) == lowercase


def test_a_space_is_put_before_a_text_as_tokenizer_config_says(tmp_path) -> None:
    expected = write(tmp_path, "byte level", tokenizer_class="RobertaTokenizer", add_prefix_space=True)
    file = json.loads((tmp_path / "tokenizer.json").read_text())
    file["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    found = read(tmp_path, RobertaConfig())("on", add_special_tokens=False)["input_ids"]
    assert found == [expected.token_to_id(token) for token in ("Ġ", "on")]


@pytest.mark.parity
def test_a_sentencepiece_model_alone_gives_its_own_ids_or_is_refused(tmp_path) -> None:
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS[1:] * 9 + ["the moon passes between the sun and the earth"]),
        model_writer=model,
        model_type="bpe",
        vocab_size=310,
        byte_fallback=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    texts = [text.replace("</s>", "") for text in TEXTS]
    texts += [" on", "  on  off ", "\n on", "▁on", " "]
    expected = SentencePieceProcessor(model_proto=model.getvalue()).encode(texts)
    tokenizer = read(tmp_path, LlamaConfig())
    assert tokenizer(texts, add_special_tokens=False)["input_ids"] == expected
    tokenizer.save_pretrained(tmp_path / "again")
    again = read(tmp_path / "again", LlamaConfig())
    assert again(texts, add_special_tokens=False)["input_ids"] == expected
    with pytest.raises(DataError, match=r"has no tokenizer\.json, and transformers 5 does not read"):
        read(tmp_path, MistralConfig())


@pytest.mark.parametrize("name", ["ByT5Tokenizer", "CanineTokenizer", "EsmTokenizer"])
def test_tokenizers_in_python_are_read_by_their_class(tmp_path, name) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    (tmp_path / "vocab.txt").write_text("<cls>\n<pad>\n<eos>\n<unk>\na\nb\nc\n")
    expected = tokenizer_class_from_name(name).from_pretrained(tmp_path)
    assert read(tmp_path, BertConfig())(TEXTS)["input_ids"] == expected(TEXTS)["input_ids"]


def test_a_tokenizer_json_that_is_damaged_is_named(tmp_path) -> None:
    write(tmp_path, "unigram")
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(DataError, match=r"tokenizer\.json: cannot be read"):
        read(tmp_path, LlamaConfig())


def test_transformers_overrules_tokenizer_json_in_these_cases(tmp_path) -> None:
    """Without this, nothing here would be needed."""
    expected = write(tmp_path, "unigram", do_lower_case=True)
    BertConfig().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert tokenizer(TEXTS)["input_ids"] != ids(expected, special=True)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["unigram", "byte level"])
def test_every_model_type_follows_tokenizer_json_or_is_refused(tmp_path, kind) -> None:
    expected = write(tmp_path, kind)
    followed = 0
    for model_type in TOKENIZER_MAPPING_NAMES:
        if model_type in CONFIG_MAPPING_NAMES:
            config = PreTrainedConfig()
            config.model_type = model_type
            try:
                tokenizer = read(tmp_path, config)
            except (MissingPartError, DataError):
                continue
            assert tokenizer(TEXTS)["input_ids"] == ids(expected, special=True), model_type
            followed += 1
    assert followed > 150

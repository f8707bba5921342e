from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TEXTS, make_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PhobertTokenizer, PreTrainedTokenizerFast

from llara_eval.encoding import templates
from llara_eval.encoding.templates import Template
from llara_eval.vectors import shards
from llara_eval.vectors.store_folder import StoreFolder
from llara_eval.vectors.token_store import TokenStore

TEMPLATE = Template(prefix=("<s>",), suffix=("</s>",), max_length=32)
ITEMS = [(f"d{i}", f"{TEXTS[i % len(TEXTS)]} {i}") for i in range(100)]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_SIZE", 16)


class CountingTemplate(Template):
    texts: list[str] = []  # noqa: RUF012

    def token_ids(self, tokenizer, texts):
        self.texts.extend(texts)
        return super().token_ids(tokenizer, texts)


@pytest.fixture
def template() -> CountingTemplate:
    CountingTemplate.texts.clear()
    return CountingTemplate(prefix=("<s>",), suffix=("</s>",), max_length=32)


def prepare(root, template, items=ITEMS, name="x"):
    store = TokenStore(StoreFolder(root), make_tokenizer(), template)
    return store, store.prepare(name, iter(items), total=len(items))


def test_the_sequences_are_those_of_the_template(tmp_path) -> None:
    store, listing = prepare(tmp_path, TEMPLATE)
    rows = [row for shard in listing.shards for row in store.read(shard.content)]
    assert list(map(list, rows)) == TEMPLATE.token_ids(make_tokenizer(), [text for _, text in ITEMS])
    assert {row.dtype for shard in listing.shards for row in store.read(shard.content)} == {
        np.dtype("uint16")
    }


def folder_of(tokenizer, template=TEMPLATE):
    return TokenStore(StoreFolder(Path("tokens")), tokenizer, template).folder.path


def test_the_token_of_an_empty_text_is_part_of_the_key_if_the_template_adds_none() -> None:
    usual, other = make_tokenizer(), make_tokenizer()
    other.eos_token = other.convert_ids_to_tokens(4)
    assert folder_of(usual, Template()) != folder_of(other, Template())
    assert folder_of(usual) == folder_of(other)


def test_a_large_vocabulary_takes_four_bytes(tmp_path) -> None:
    class Large(Template):
        def token_ids(self, tokenizer, texts):
            return [[70_000, 1] for _ in texts]

    store, listing = prepare(tmp_path, Large())
    assert list(store.read(listing.shards[0].content)[0]) == [70_000, 1]


def test_nothing_is_tokenised_twice(tmp_path, template) -> None:
    prepare(tmp_path, template)
    assert len(template.texts) == len(ITEMS)
    prepare(tmp_path, template)
    prepare(tmp_path, template, [(f"other {i}", text) for i, (_, text) in enumerate(ITEMS)], "y")
    assert len(template.texts) == len(ITEMS)
    prepare(tmp_path, template, [*ITEMS[:50], ("new", "one more"), *ITEMS[50:]], "z")
    assert len(template.texts) <= len(ITEMS) + 2 * 32


def test_another_tokenizer_or_template_is_another_store() -> None:
    usual = folder_of(make_tokenizer())
    tokenizer = make_tokenizer()
    tokenizer(["a b", "c"], truncation=True, max_length=1, padding=True)  # leaves its settings behind
    assert folder_of(tokenizer) == usual
    tokenizer.add_tokens(["eclipse"])
    assert folder_of(tokenizer) != usual
    for change in ({"suffix": ()}, {"prompt": "query: "}, {"max_length": 31}):
        assert folder_of(make_tokenizer(), replace(TEMPLATE, **change)) != usual
    whole = make_tokenizer()
    whole.split_special_tokens = True
    assert folder_of(whole) != usual
    assert folder_of(make_tokenizer(), replace(TEMPLATE, pooling="last", slots=2)) == usual


@pytest.mark.parametrize("percent", range(0, 100, 3))
def test_a_bit_that_flips_anywhere_is_noticed_or_harmless(tmp_path, percent: int) -> None:
    store, listing = prepare(tmp_path, TEMPLATE)
    content = listing.shards[1].content
    before = [list(row) for row in store.read(content)]
    path = store.folder.path / f"{content}.npz"
    data = bytearray(path.read_bytes())
    data[percent * len(data) // 100] ^= 4
    path.write_bytes(data)
    after = store.read(content)
    assert after is None or [list(row) for row in after] == before


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damaged_shards_are_made_again_and_the_others_are_kept(tmp_path, template, damage: str) -> None:
    store, listing = prepare(tmp_path, template)
    before = {path.name: path.read_bytes() for path in store.folder.path.glob("*.*")}
    path = store.folder.path / f"{listing.shards[2].content}.npz"
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        half = len(data) // 2
        path.write_bytes(
            data[:half] if damage == "truncate" else data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
        )
    template.texts.clear()
    prepare(tmp_path, template)
    assert len(template.texts) == listing.shards[2].rows
    assert {path.name: path.read_bytes() for path in store.folder.path.glob("*.*")} == before


def word_pieces() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator([text for _, text in ITEMS], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def byte_pairs() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=sorted(alphabet), show_progress=False)
    tokenizer.train_from_iterator([text for _, text in ITEMS], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def sentence_pieces() -> PreTrainedTokenizerFast:
    """Return a tokenizer like that of Llama 2: it merges pairs across the whole text, without words."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    alphabet = sorted({char for _, text in ITEMS for char in text.replace(" ", "▁")})
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text for _, text in ITEMS], trainer)
    tokenizer.pre_tokenizer = None
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


TOKENIZERS = [word_pieces(), byte_pairs(), sentence_pieces()]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["wordpiece", "byte-level", "sentencepiece"])
@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                ["moon", "  ", " ", "\n", "violin;", "é" * 9, "x" * 300, "\u00a0", "Σ", "1234567"]
            ),
            st.text(max_size=6),
        ),
        max_size=120,
    ),
    st.sampled_from(["", " "]),
    st.integers(1, 12),
)
def test_cutting_a_long_text_first_leaves_its_ids_as_they_are(tokenizer, words, glue, room) -> None:
    text = glue.join(words)
    whole = tokenizer(text, add_special_tokens=False)["input_ids"][:room]
    assert templates._first_ids(tokenizer, [text, "moon"], room)[0] == whole


def test_a_long_text_is_not_tokenised_to_its_end() -> None:
    tokenizer, seen = TOKENIZERS[0], []

    def watching(texts, **options):
        seen.extend(texts)
        return tokenizer(texts, **options)

    assert templates._first_ids(watching, ["the moon passes " * 10_000], 16) == [
        tokenizer("the moon passes " * 8, add_special_tokens=False)["input_ids"][:16]
    ]
    assert max(map(len, seen)) <= 10 * (16 + 8)


def test_tokenizers_written_in_python_are_told_apart_by_their_files(tmp_path) -> None:
    stores = []
    for name, merges in (("one", "t h 1\n"), ("other", "h e</w> 1\n")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "vocab.txt").write_text("th@@ 1\nhe 1\nt@@ 1\nh@@ 1\ne 1\n")
        (folder / "bpe.codes").write_text(merges)
        tokenizer = PhobertTokenizer.from_pretrained(folder)
        stores.append((folder_of(tokenizer), tokenizer("the")["input_ids"]))
    (one, ids), (other, other_ids) = stores
    assert ids != other_ids
    assert one != other

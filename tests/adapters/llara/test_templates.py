"""The prompts around a text, token by token, and the targets of its embeddings."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import make_model, make_tokenizer
from tiny_training import make_base, make_rows
from tokenizers import Tokenizer, processors
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from adapters import repllama
from adapters.llara import recipes
from adapters.llara.batches import Reader
from adapters.llara.config import USUAL_LENGTH, Adaptation
from adapters.llara.joint import Frame
from adapters.llara.objective import Adapt, AdaptationModel
from adapters.llara.templates import (
    PAPER,
    PAPER_ACL,
    RELEASED,
    Prompts,
    add_tokens,
    fit_embeddings,
    recognise,
    symmetric,
    templates,
)
from adapters.training import with_options
from llara_eval.core.errors import DataError, UsageError
from llara_eval.encoding.templates import Templates
from llara_eval.training.config import LoRA

SLOTS = [f"<s{number}>" for number in range(1, 17)]


def with_bos() -> PreTrainedTokenizerFast:
    """Return the tokenizer as LLaMA's is: it puts BOS before a text and nothing after it."""
    tokenizer = Tokenizer.from_str(make_tokenizer().backend_tokenizer.to_str())
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def without(tokens: list[str]) -> PreTrainedTokenizerFast:
    """Return the tokenizer without some of its tokens; ids stay dense."""
    source = json.loads(make_tokenizer().backend_tokenizer.to_str())
    kept = [token for token in source["model"]["vocab"] if token not in tokens]
    source["model"]["vocab"] = {token: number for number, token in enumerate(kept)}
    source["added_tokens"] = [
        {**token, "id": kept.index(token["content"])}
        for token in source["added_tokens"]
        if token["content"] in kept
    ]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(source)), pad_token="<pad>", eos_token="</s>"
    )


def shown(both: Templates, side: Any, tokenizer: Any, text: str = "sea") -> tuple[str, list[str]]:
    """Return the sequence of a text as one string, and the tokens that are pooled."""
    template = both.of(side)
    (ids,) = template.token_ids(tokenizer, [text])
    start, end = template.pooled_span(len(ids))
    return tokenizer.decode(ids), tokenizer.convert_ids_to_tokens(ids[start:end])


def test_the_released_prompts() -> None:
    tokenizer = with_bos()
    both = templates(tokenizer)
    assert shown(both, "document", tokenizer) == (
        '<s>"sea", summarize the above passage within eight words: ' + "".join(SLOTS[:8]),
        SLOTS[:8],
    )
    assert shown(both, "query", tokenizer) == (
        '<s>"sea", predict the following passage within eight words: ' + "".join(SLOTS[8:]),
        SLOTS[8:],
    )


@pytest.mark.parametrize(
    ("prompts", "self_prompt", "next_prompt"),
    [
        (PAPER, "The original sentence: ", "The next sentence: "),
        (PAPER_ACL, "The input sentence is: ", "The next sentence is: "),
    ],
)
def test_the_prompts_of_the_paper(prompts: Prompts, self_prompt: str, next_prompt: str) -> None:
    tokenizer = with_bos()
    both = templates(tokenizer, prompts)
    assert shown(both, "document", tokenizer) == (f"<s>sea{self_prompt}</s>", ["</s>"])
    assert shown(both, "query", tokenizer) == (f"<s>sea{next_prompt}</s>", ["</s>"])


def test_repllamas_prompts() -> None:
    tokenizer = with_bos()
    both = repllama.templates(tokenizer)
    assert shown(both, "query", tokenizer) == ("<s>query: sea</s>", ["</s>"])
    assert shown(both, "document", tokenizer) == ("<s>passage: sea</s>", ["</s>"])
    short = both.cut_to(12, 12)
    assert shown(short, "query", tokenizer, "sea " * 9) == ("<s>query: sea</s>", ["</s>"])


def test_a_prompt_that_ends_with_eos_needs_one() -> None:
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    for make in (lambda: templates(tokenizer, PAPER), lambda: repllama.templates(tokenizer)):
        with pytest.raises(UsageError, match="end-of-sequence token"):
            make()


def test_slot_tokens_keep_the_ids_of_the_checkpoint_whatever_their_order() -> None:
    tokenizer = without(SLOTS)
    shuffled = SLOTS[::-1]
    tokenizer.add_special_tokens({"additional_special_tokens": shuffled})
    both = recognise(tokenizer)
    assert both is not None
    assert shown(both, "document", tokenizer)[1] == SLOTS[:8]
    assert both.document.suffix_ids(tokenizer)[-8:] == tokenizer.convert_tokens_to_ids(SLOTS[:8])


def test_a_vocabulary_without_all_slots_is_not_ours() -> None:
    assert recognise(without(["<s7>"])) is None
    with pytest.raises(UsageError, match=r"lacks the slot tokens <s7>.*llara-eval adapt adds them"):
        templates(without(["<s7>"]))


def test_tokens_are_added_once_and_the_embedding_matrix_grows_to_hold_them() -> None:
    tokenizer, model = without(SLOTS), make_model("llama")
    size = len(tokenizer)
    assert add_tokens(tokenizer, SLOTS) == list(range(size, size + 16))
    assert add_tokens(tokenizer, SLOTS) == []
    assert tokenizer("<s3>", add_special_tokens=False)["input_ids"] == [size + 2]
    before = model.get_input_embeddings().weight.clone()
    fit_embeddings(model, [5, 299])
    assert model.get_input_embeddings().num_embeddings == 300  # spare rows are used
    fit_embeddings(model, [310])
    assert model.get_input_embeddings().num_embeddings == 311
    assert torch.equal(model.get_input_embeddings().weight[:300], before)


def test_prompts_can_have_fewer_slots() -> None:
    one = RELEASED.with_slots(1)
    assert one.slot_tokens == ("<s1>", "<s9>")
    tokenizer = make_tokenizer()
    both = templates(tokenizer, one)
    assert shown(both, "document", tokenizer)[1] == ["<s1>"]
    assert shown(both, "query", tokenizer)[0].endswith("words: <s9>")
    assert RELEASED.with_slots(8) == RELEASED
    for prompts, slots in ((RELEASED, 9), (RELEASED, 0), (PAPER, 1)):
        with pytest.raises(UsageError, match=f"slots {slots}"):
            prompts.with_slots(slots)


def test_prompts_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    fields = {"prefix": "[", "self_suffix": "] it:<s1>", "next_suffix": "] next:<s2>", "slots": 1}
    path.write_text(json.dumps(fields), encoding="utf-8")
    tokenizer = make_tokenizer()
    both = templates(tokenizer, Prompts.from_file(path))
    assert shown(both, "query", tokenizer) == ("[sea] next:<s2>", ["<s2>"])
    for wrong in (
        {**fields, "more": 1},
        {key: value for key, value in fields.items() if key != "slots"},
        {**fields, "slots": "one"},
        {**fields, "prefix": 3},
        [],
    ):
        path.write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(DataError, match=r"prompts\.json"):
            Prompts.from_file(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"prompts\.json"):
        Prompts.from_file(path)


def test_a_suffix_has_at_least_as_many_tokens_as_slots() -> None:
    prompts = Prompts(prefix="", self_suffix="ab", next_suffix="cde", slots=3)
    with pytest.raises(UsageError, match="fewer tokens than its 3 slots"):
        templates(make_tokenizer(), prompts)


def test_the_symmetric_system_asks_for_the_passage_on_both_sides() -> None:
    usual, both = templates(make_tokenizer()), symmetric(make_tokenizer())
    assert both.query == both.document == usual.document != usual.query


@pytest.mark.parametrize("side", ["self_suffix", "next_suffix"])
def test_several_slots_are_tokens_that_were_added(side: str) -> None:
    fields = {"prefix": "", "self_suffix": " it: <s1><s2>", "next_suffix": " next: <s3></s>", "slots": 2}
    assert templates(make_tokenizer(), Prompts(**fields)).query.slots == 2
    wrong = Prompts(**{**fields, side: " in two words: one two"})
    with pytest.raises(UsageError, match=r"makes w o of its end, not 2 added tokens, such as <s1>"):
        templates(make_tokenizer(), wrong)


def test_the_recipes_are_those_of_paper_and_released_code() -> None:
    task, schedule = recipes.ours()
    assert (task.prompts, task.language_model, task.distinct) == (RELEASED, True, True)
    assert (task.scale, task.averaged) == (0.1, True)
    assert (schedule.steps, schedule.batch_size) == (10_000, 256)
    assert (task.max_length, USUAL_LENGTH) == (None, 1024)
    assert (schedule.learning_rate, schedule.warmup, schedule.lora) == (1e-5, 0.1, None)
    task, _ = recipes.paper()
    assert (task.prompts, task.language_model, task.distinct) == (PAPER, False, False)
    assert (task.scale, task.averaged, task.token_mean) == (1.0, False, False)
    contrast, schedule = recipes.contrastive()
    assert (contrast.temperature, contrast.group_size) == (0.01, 16)
    assert (contrast.query_length, contrast.passage_length) == (64, 160)
    targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert schedule.lora == LoRA(rank=64, alpha=16, dropout=0.1, targets=targets)
    assert (schedule.learning_rate, schedule.epochs, schedule.warmup) == (3e-4, 1.0, 0.1)
    contrast, schedule = repllama.recipe()
    assert (contrast.query_length, contrast.passage_length, contrast.group_size) == (32, 196, 16)
    assert (schedule.learning_rate, schedule.warmup, schedule.batch_size) == (1e-4, 100, 128)
    assert schedule.lora is not None
    assert (schedule.lora.rank, schedule.lora.alpha, "k_proj" in schedule.lora.targets) == (32, 64, False)


def test_the_released_recipes_have_the_values_that_ours_change() -> None:
    task, schedule = recipes.released()
    assert (task.lm_mean, task.device_batch, task.whole_targets, task.stop_words) == (
        "device",
        1,
        True,
        "nltk",
    )
    assert (schedule.warmup_shape, schedule.drop_last) == ("log", True)
    contrast, schedule = recipes.released_contrastive()
    assert contrast.block(schedule.batch_size) * contrast.group_size == 128, "candidates of a query"
    assert (contrast.negatives, contrast.devices, contrast.mask_known) == ("gathered", 8, False)
    assert (schedule.warmup_shape, schedule.drop_last, schedule.warmup) == ("log", True, 0.1)
    contrast, schedule = repllama.released_recipe()
    assert contrast.block(schedule.batch_size) * contrast.group_size == 128
    assert (contrast.negatives, contrast.mask_known) == ("device", False)
    assert (contrast.query_length, contrast.passage_length) == (31, 195)
    assert (schedule.warmup_shape, schedule.drop_last, schedule.warmup) == ("log", True, 100)
    changed, _ = with_options(contrast, schedule, {"negatives": "batch", "mask_known": "true"})
    assert (changed.negatives, changed.mask_known) == ("batch", True)
    with pytest.raises(UsageError, match="negatives=all: expected one of batch, gathered, device, group"):
        with_options(contrast, schedule, {"negatives": "all"})


TEXT = "The moon and the sea, the tides"
ROW = {"input": TEXT, "output_summarize": TEXT, "output_predict": "A violin"}


def reader_of(**settings: Any) -> tuple[Reader, Any]:
    tokenizer = make_tokenizer()
    frame = Frame.of(templates(tokenizer), tokenizer)
    return Reader(tokenizer, frame, Adaptation(**settings)), tokenizer


def targets_of(**settings: Any) -> list[str]:
    """Return the two targets of ROW as text."""
    reader, tokenizer = reader_of(**settings)
    (batch,) = reader.batches(reader.read([ROW]), torch.ones(1, 3), 10_000)
    rows = (batch.self_targets[0], batch.next_targets[0])
    return [tokenizer.decode([token for token in row.tolist() if token >= 0]) for row in rows]


def test_targets_lose_stop_words_or_not() -> None:
    assert targets_of() == ["moon sea tides", "violin"]
    assert targets_of(stop_words="none") == [TEXT, "A violin"]


def test_a_target_is_cut_with_its_text_unless_all_of_it_is_asked_for() -> None:
    around = 1024 - reader_of()[0].room
    short = around + len("The moon and")
    assert targets_of(max_length=short)[0] == "moon"
    assert targets_of(max_length=short, whole_targets=True)[0] == "moon sea tides"


def test_special_tokens_are_no_targets() -> None:
    reader, tokenizer = reader_of(stop_words="none")
    assert tokenizer.decode(reader.targets(["sun</s> moon<s1>"])[0]) == "sun moon"


def test_a_text_without_words_has_no_target_and_does_no_harm() -> None:
    reader, _ = reader_of()
    read = reader.read([{**ROW, "output_predict": "and the"}, ROW])
    assert read.counts(1).tolist() == [[len(TEXT), 1, 0], [len(TEXT), 1, 1]]
    assert read.counts(0).tolist() == [[len(TEXT) - 1, 1, 0], [len(TEXT) - 1, 1, 1]], "nothing before it"


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({}, {"language_model", "ebae", "ebar"}),
        ({"ebar": False}, {"language_model", "ebae"}),
        ({"ebae": False}, {"language_model", "ebar"}),
        ({"language_model": False}, {"ebae", "ebar"}),
        ({"language_model": False, "ebae": False}, {"ebar"}),
    ],
)
def test_each_term_can_be_left_out(tmp_path: Path, settings: dict[str, bool], terms: set[str]) -> None:
    model = AutoModelForCausalLM.from_pretrained(make_base(tmp_path / "base"))
    rows = [json.loads(line) for line in make_rows(tmp_path / "rows.jsonl", 4).read_text().splitlines()]
    tokenizer = make_tokenizer()
    objective = Adapt(
        AdaptationModel(model, Adaptation(**settings)),
        tokenizer,
        templates(tokenizer),
        micro_tokens=400,
        precision=torch.float32,
    )
    values = objective.step(objective.read(list(enumerate(rows)), 0)).terms
    assert {name for name in ("language_model", "ebae", "ebar") if values[name]} == terms
    assert values["loss"] == pytest.approx(sum(values[name] for name in terms))

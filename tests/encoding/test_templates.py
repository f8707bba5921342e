import json

import pytest
from tiny_models import make_tokenizer

from llara_eval.core.errors import DataError, UsageError
from llara_eval.encoding.templates import Template, Templates, special_tokens

TOKENIZER = make_tokenizer()
SLOTS = "".join(f"<s{i}>" for i in range(1, 9))
LLARA = Template(
    prefix=("<s>", '"'), suffix=(f'", in a word:{SLOTS}',), pooling="last", slots=8, max_length=64
)


def ids(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def test_sequence_is_prefix_text_suffix_each_tokenised_alone() -> None:
    (sequence,) = LLARA.token_ids(TOKENIZER, ["moon"])
    assert sequence == ids("<s>") + ids('"') + ids("moon") + ids(f'", in a word:{SLOTS}')


def test_the_limit_truncates_the_text_and_never_the_slots() -> None:
    (sequence,) = LLARA.token_ids(TOKENIZER, ["long " * 100])
    assert len(sequence) == 64
    assert sequence[-8:] == [TOKENIZER.convert_tokens_to_ids(f"<s{i}>") for i in range(1, 9)]


def test_prompt_is_tokenised_together_with_the_text_and_truncated_with_it() -> None:
    template = Template(prompt="query: ", suffix=("</s>",), max_length=10)
    (sequence,) = template.token_ids(TOKENIZER, ["moon"])
    assert sequence == [*ids("query: moon")[:9], TOKENIZER.eos_token_id]


def test_an_empty_text_still_has_a_token_to_pool() -> None:
    assert Template().token_ids(TOKENIZER, [""]) == [[TOKENIZER.eos_token_id]]
    assert Template(prefix=("<s>",)).token_ids(TOKENIZER, [""]) == [[TOKENIZER.bos_token_id]]


def test_no_room_for_text_is_refused() -> None:
    with pytest.raises(UsageError, match="leaves no room"):
        Template(prefix=("<s>",), suffix=("</s>",), max_length=2).token_ids(TOKENIZER, ["moon"])


@pytest.mark.parametrize(
    ("template", "length", "span"),
    [
        (Template(pooling="mean"), 5, (0, 5)),
        (Template(pooling="first"), 5, (0, 1)),
        (Template(pooling="last"), 5, (4, 5)),
        (Template(pooling="last", slots=8), 20, (12, 20)),
        (Template(pooling="last", slots=8), 3, (0, 3)),
    ],
)
def test_pooled_positions(template: Template, length: int, span: tuple[int, int]) -> None:
    assert template.pooled_span(length) == span


@pytest.mark.parametrize("change", [{"pooling": "max"}, {"slots": 0}, {"max_length": 0}])
def test_impossible_values_are_refused(change: dict) -> None:
    with pytest.raises(UsageError):
        Template(**change)


def test_templates_travel_as_json(tmp_path) -> None:
    templates = Templates(query=Template(prompt="query: "), document=LLARA)
    templates.save(tmp_path)
    assert Templates.load(tmp_path) == templates


@pytest.mark.parametrize(
    ("side", "field", "content", "message"),
    [
        ("query", "max_length", '"many"', r"Expected `int`, got `str` - at `\$\.query\.max_length`"),
        ("query", "max_length", "NaN", r"Expected `int`, got `float` - at `\$\.query\.max_length`"),
        ("query", "max_length", "0", r"slots and max_length must be at least 1, found 8, 0"),
        ("query", "slots", "true", r"Expected `int`, got `bool` - at `\$\.query\.slots`"),
        ("query", "normalize", '"false"', r"Expected `bool`, got `str` - at `\$\.query\.normalize`"),
        ("document", "prompt", "null", r"Expected `str`, got `null` - at `\$\.document\.prompt`"),
        ("document", "prefix", '"<s>"', r"Expected `array`, got `str` - at `\$\.document\.prefix`"),
        ("document", "suffix", "[1]", r"Expected `str`, got `int` - at `\$\.document\.suffix\[0\]`"),
        ("document", "pooling", '"max"', r"Invalid enum value 'max' - at `\$\.document\.pooling`"),
        ("document", "colour", '"blue"', r"Object contains unknown field `colour` - at `\$\.document`"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_file_and_side(tmp_path, side, field, content, message) -> None:
    value = Templates(LLARA, LLARA).as_json()
    value[side][field] = "PLACE"
    (tmp_path / "template.json").write_text(json.dumps(value).replace('"PLACE"', content))
    with pytest.raises(DataError, match=rf"template\.json: {message}"):
        Templates.load(tmp_path)


def test_fields_that_are_left_out_have_their_usual_values(tmp_path) -> None:
    (tmp_path / "template.json").write_text('{"version": 1, "query": {}, "document": {"slots": 2}}')
    assert Templates.load(tmp_path) == Templates(Template(), Template(slots=2))
    assert Templates.load(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "content",
    ["[]", "null", "{", "1", '{"version": 1, "query": {}}', '{"version": 99, "query": {}, "document": {}}'],
)
def test_a_file_of_something_else_is_a_data_error(tmp_path, content) -> None:
    (tmp_path / "template.json").write_text(content)
    with pytest.raises(DataError, match=r"template\.json: "):
        Templates.load(tmp_path)


def test_special_tokens_a_tokenizer_adds_become_prefix_and_suffix() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")],
    )
    assert special_tokens(tokenizer) == (("[CLS]",), ("[SEP]",))
    assert special_tokens(make_tokenizer()) == ((), ())


def test_a_text_may_be_cut_at_its_start_and_the_usual_cut_is_not_stored(tmp_path) -> None:
    tokenizer = make_tokenizer()
    template = Template(prefix=("<s>",), prompt="p: ", suffix=("</s>",), max_length=6, cut="start")
    (ids,) = template.token_ids(tokenizer, ["abcdefgh"])
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", *"efgh", "</s>"]
    assert len(template.token_ids(tokenizer, [""])[0]) == 5, "the prompt is whole where it fits"
    Templates(template, Template()).save(tmp_path)
    assert Templates.load(tmp_path) == Templates(template, Template())
    stored = Templates(template, Template()).as_json()
    assert stored["query"]["cut"] == "start"
    assert "cut" not in stored["document"]


@pytest.mark.parametrize("field", ["prompt", "prefix", "suffix"])
def test_half_a_character_is_refused(field) -> None:
    text = "a\ud800"
    with pytest.raises(UsageError, match="half a character"):
        Template(**{field: text if field == "prompt" else (text,)})

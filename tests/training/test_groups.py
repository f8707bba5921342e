"""Training groups: the prompt of a row stands in place of the template's."""

import pytest
from tiny_models import make_tokenizer

from llara_eval.core.errors import DataError
from llara_eval.encoding.templates import Template
from llara_eval.training.groups import draw, query_ids, with_prompt

TOKENIZER = make_tokenizer()
TEMPLATE = Template(prompt="Instruct: Web\nQuery: ", suffix=("</s>",), pooling="last")


def test_each_query_has_the_prompt_of_its_row_or_of_the_template() -> None:
    prompts = [None, "Find it", "query: ", None, "Find it", ""]
    rows = [{"query": f"q{number}", "pos": ["p"], "prompt": text} for number, text in enumerate(prompts)]
    rows[3].pop("prompt")
    groups = [draw(row, 1, seed=0, epoch=0, index=0) for row in rows]
    assert [TOKENIZER.decode(ids) for ids in query_ids(groups, TEMPLATE, TOKENIZER)] == [
        "Instruct: Web\nQuery: q0</s>",
        "Instruct: Find it\nQuery: q1</s>",
        "query: q2</s>",
        "Instruct: Web\nQuery: q3</s>",
        "Instruct: Find it\nQuery: q4</s>",
        "q5</s>",
    ]


def test_an_instruction_without_a_format_is_refused() -> None:
    with pytest.raises(DataError, match="the prompt 'Find it' of a row is an instruction"):
        with_prompt(Template(prompt="query: "), "Find it")

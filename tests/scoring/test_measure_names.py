import ir_measures
import pytest

from llara_eval.scoring.measure_names import standard_name
from llara_eval.scoring.measures import parse_measures


@pytest.mark.parametrize(
    ("standard", "names"),
    [
        ("nDCG@10", ["ndcg@10", "NDCG@10", "ndcg_cut_10", "ndcg_cut.10", " nDCG@10 "]),
        ("nDCG", ["ndcg"]),
        ("RR@10", ["mrr@10", "MRR@10", "rr@10"]),
        ("RR", ["recip_rank", "MRR"]),
        ("AP", ["map", "MAP"]),
        ("AP@100", ["map@100", "map_cut_100"]),
        ("R@100", ["recall@100", "recall_100", "Recall@100", "r@100"]),
        ("P@5", ["p_5", "precision@5"]),
        ("Success@5", ["hit_rate@5", "success_5", "hit@5"]),
        ("Judged@10", ["judged@10"]),
        ("RR(rel=2)@10", ["mrr(rel=2)@10"]),
        ("nDCG(dcg='exp-log2')@10", ["ndcg(dcg='exp-log2')@10"]),
    ],
)
def test_usual_names_are_the_measure_they_mean(standard, names):
    assert parse_measures(names) == [standard]


def test_every_measure_of_ir_measures_keeps_its_name():
    for name in ir_measures.measures.registry:
        for text in (name, f"{name}@10"):
            assert ir_measures.parse_measure(standard_name(text)) == ir_measures.parse_measure(text)


def test_unknown_names_are_left_for_the_error():
    assert standard_name("nGCD@10") == "nGCD@10"
    assert standard_name("ndcg at 10") == "ndcg at 10"

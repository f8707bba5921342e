"""Two examples of each command, which its ``--help`` shows."""

from collections.abc import Mapping
from types import MappingProxyType

EXAMPLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "beir": (
            "llara-eval beir -m path/to/checkpoint -d scifact,arguana",
            "llara-eval beir -m path/to/checkpoint -d beir-13 --workers 4",
        ),
        "msmarco": (
            "llara-eval msmarco -m path/to/checkpoint -t passage",
            "llara-eval msmarco -m path/to/checkpoint -t document --documents maxp",
        ),
        "evaluate": (
            "llara-eval evaluate -m bm25,path/to/checkpoint -d demo",
            "llara-eval evaluate -m bm25 -o k1=0.82 -d scifact --measures nDCG@10,R@100",
        ),
        "encode": (
            "llara-eval encode -m path/to/checkpoint -d scifact --workers 2",
            "llara-eval encode -m path/to/checkpoint -d nq --launcher slurm --workers 8",
        ),
        "score": (
            "llara-eval score --run run.trec --qrels qrels.tsv",
            "llara-eval score --run run.trec.gz --qrels qrels.tsv --measures nDCG@10,AP",
        ),
        "compare": (
            "llara-eval compare bm25 checkpoint -d scifact",
            "llara-eval compare bm25 checkpoint -d scifact --measure RR@10 --json",
        ),
        "leaderboard": ("llara-eval leaderboard", "llara-eval leaderboard --check"),
        "repro": ("llara-eval repro --list", "llara-eval repro --system bm25 -d scifact"),
        "adapt": (
            "llara-eval adapt -m path/to/llm --data texts.jsonl.gz --output adapted",
            "llara-eval adapt -m path/to/llm --data texts.txt --output adapted --dry-run",
        ),
        "finetune": (
            "llara-eval finetune -m adapted --data mined.jsonl --output retriever",
            "llara-eval finetune -m path/to/llm --data mined.jsonl --output out --dry-run",
        ),
        "mine": (
            "llara-eval mine -m bm25 --data pairs.jsonl --corpus self --output mined.jsonl",
            "llara-eval mine -m bm25 --data pairs.jsonl --corpus nq --output mined.jsonl",
        ),
        "overlap": (
            "llara-eval overlap --train mined.jsonl -d scifact",
            "llara-eval overlap --train mined.jsonl -d beir-13 --fail-over 0",
        ),
        "verify-joint": (
            "llara-eval verify-joint -m path/to/llm --text-file texts.txt",
            "llara-eval verify-joint -m path/to/llm --text-file texts.txt --variant paper",
        ),
        "plan": (
            "llara-eval plan -m path/to/checkpoint",
            "llara-eval plan -m path/to/checkpoint -d nq,fiqa --no-probe",
        ),
        "check": (
            "llara-eval check -m path/to/checkpoint",
            "llara-eval check -m path/to/checkpoint --text-file texts.txt",
        ),
        "export": (
            "llara-eval export -m retriever --output for-others",
            "llara-eval export -m path/to/checkpoint --output for-others --overwrite",
        ),
        "systems": ("llara-eval systems", "llara-eval systems --json"),
        "doctor": ("llara-eval doctor", "llara-eval doctor --json"),
        "datasets": ("llara-eval datasets", "llara-eval datasets --json"),
        "datasets list": ("llara-eval datasets list", "llara-eval datasets list --json"),
        "datasets fetch": ("llara-eval datasets fetch scifact", "llara-eval datasets fetch beir-13"),
        "datasets verify": ("llara-eval datasets verify", "llara-eval datasets verify scifact"),
        "datasets show": ("llara-eval datasets show scifact", "llara-eval datasets show beir-13"),
    }
)
"""Words of a command → command lines."""

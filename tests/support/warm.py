"""Imports for processes that fork a child for each command, so that the children do not import."""


def warm() -> None:
    """Import our modules and what they use; none of it starts a thread, which a fork would lose."""
    import pandas  # noqa: F401
    import peft  # noqa: F401
    import torch
    import transformers
    from rooms import import_all
    from tiny_models import make_model, make_tokenizer

    import_all()
    torch.set_num_threads(1)
    for architecture in ("llama", "bert"):
        make_model(architecture)
    make_tokenizer()("a")
    for name in ("AutoModelForCausalLM", "GgufConfig", "AutoTokenizer", "AutoConfig"):
        getattr(transformers, name)

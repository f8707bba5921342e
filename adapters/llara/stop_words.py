"""English stop words, which the targets of the bag-of-words losses leave out.

The released code (FlagOpen/FlagEmbedding, research/LLARA/pretrain) uses NLTK's list, which is read from NLTK
where it is asked for. The list of this module was made of the same word classes.
"""

import re
from functools import cache
from typing import Literal

from llara_eval.core.errors import MissingPartError

_NOT_WORD = re.compile(r"[\W_]+")

_CLASSES = {
    "articles, determiners, quantifiers": """
        a an the this that these those each every either neither any some all both few more most several
        such other another no same own
    """,
    "pronouns": """
        i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself
        she her hers herself it its itself they them their theirs themselves one who whom whose which what
        whatever whoever
    """,
    "auxiliaries": """
        am is are was were be been being have has had having do does did doing done will would shall should
        can could may might must ought cannot
    """,
    "prepositions": """
        about above across after against along among around at before behind below beneath beside between
        beyond by down during for from in inside into near of off on onto out outside over past since
        through throughout to toward towards under until up upon via with within without
    """,
    "conjunctions and question words": """
        and but or nor so yet if because as although though while whereas unless than then when where why
        how whether
    """,
    "adverbs and particles": """
        not only very too just also again further once here there now ever never still
    """,
    "parts of contractions": """
        s t d ll m re ve o y ain aren couldn didn doesn don hadn hasn haven isn mightn mustn needn shan
        shouldn wasn weren won wouldn
    """,
}

STOP_WORDS = frozenset(word for words in _CLASSES.values() for word in words.split())
"""Our stop words, in lower case."""

StopWords = Literal["own", "nltk", "none"]


@cache
def words_of(name: StopWords) -> frozenset[str]:
    """Return a list of stop words, in lower case.

    Raises:
        MissingPartError: NLTK or its list is not installed.
    """
    if name != "nltk":
        return STOP_WORDS if name == "own" else frozenset()
    try:
        from nltk.corpus import stopwords

        return frozenset(stopwords.words("english"))
    except (ImportError, LookupError) as error:
        raise MissingPartError(
            "stop_words=nltk needs: pip install 'llara-eval[nltk]' && python -m nltk.downloader stopwords "
            "(stop_words=own has a list of its own)"
        ) from error


def without_stop_words(text: str, stop_words: frozenset[str]) -> str:
    """Return the words of a text without punctuation and stop words, joined by single spaces.

    The rule is that of the released code: every run of underscores and of characters outside words becomes a
    space, and then each word whose lower-case form is a stop word is dropped.
    """
    words = _NOT_WORD.sub(" ", text).split()
    return " ".join(word for word in words if word.lower() not in stop_words)

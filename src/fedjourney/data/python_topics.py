"""The manual that every Python brings along."""

import hashlib
import json
import sys
from typing import Annotated

from annotated_types import Ge, Lt

from fedjourney.data import Dataset, Source
from fedjourney.data._cache import cached
from fedjourney.data._common import Characters, SequenceLength, texts


def python_topics(
    source: Source,
    /,
    *,
    sequence_length: SequenceLength = 80,
    characters: Characters = "found",
    validation: Annotated[float, Ge(0), Lt(0.5)] = 0.1,
    test: Annotated[float, Ge(0), Lt(0.5)] = 0.1,
) -> Dataset:
    """The topics of Python's own manual (`pydoc_data.topics`), as next-character text; column "topic".

    Its text differs between Python versions, and so does the fingerprint.

    Args:
        source: cache; the splits follow the text's order.
        sequence_length: characters per example.
        characters: "found" numbers those in the text; "bytes" are all 256 and two markers, known beforehand.
        validation: share of each topic's windows, from before the test part.
        test: share of each topic's windows, the last ones.
    """
    from pydoc_data.topics import topics

    name = f"python_topics {sys.version_info.major}.{sys.version_info.minor}"
    found = dict(topics)
    text = hashlib.sha256(json.dumps(found).encode()).hexdigest()  # tells Pythons apart by what they say
    key = [name, text, sequence_length, characters, validation, test]
    return cached(
        source.cache_dir, key, lambda: texts(name, found, "topic", sequence_length, validation, test, characters)
    )

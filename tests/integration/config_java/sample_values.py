"""Texts to try as configuration values: the edges of each type and validator, and seeded random ones."""
from __future__ import annotations

import random

from broker.config.key_table import Key
from broker.config.values import INTEGER_RANGES, ConfigType, format_value

_NASTY = [
    "", " ", "\t", "null", "true", "TRUE", " False ", "fal\u017fe", "yes", "1", "0", "-1", "+1", "-0", "+", "-",
    "007", "1_000", "1 000", "1,000", "1.0", "1.", ".5", "1e3", "1E-2", "0.1f", "5d", "0x10", "0x1p3", "0x.8P-1",
    "NaN", "-Infinity", "infinity", "inf", "nan", "1e400", "-1e400", "\u0663", "\uff15", "\U0001d7d7", "\u00a05",
    "99999999999999999999", "0" * 30 + "7", "2147483647", "2147483648", "-2147483649", "32767", "32768",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
    "a,b", ",", " , ", "a ,\tb,", "*", "* ", "0:1", "0:1,1:2", "0:1,*", "x:y", ":", "h:9", "1@h:9", "1@h:9@", "a@b@c",
    "1@:9", "1@h", "1@h:99999", "h:65536", "[::1]:9", "PLAINTEXT", "plaintext", "SSL", "3.9", "3.9.1", "3.9-IV0", "4.0",
    "4.0-IV1", "0.8", "0.8.2", "0.8.2.2", "0.10.0", "0.10.0-IV0", "0.11.0", "2.1", "3.", "3.9.", "producer", "gzip",
    "uncompressed", "none", "delete", "compact", "compact,delete", "delete,", "Delete", "CreateTime", "createtime",
    "classic", "consumer", "classic,consumer", "broker,controller", "bidirectional", "DOWNGRADE", "required",
    "java.lang.String", "no.such.Class", "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder",
    "\u00e9t\u00e9", "a\u0000b", "PLAINTEXT://:9092", "/tmp/a,/tmp/b", "${file:/etc/x:y}", "https", "-131072", "-131073",
]
_ALPHABET = "0123456789+-._,:@*eExXpPfdNaIiyT \t=/[]%"


def sample_texts(key: Key, rng: random.Random, random_count: int) -> list[str]:
    """Without repetitions, in a fixed order for a fixed seed."""
    texts = [*_NASTY, format_value(key.type, key.default) or "", *_edges(key)]
    for _ in range(random_count):
        texts.append(_random_text(key, rng))
    return list(dict.fromkeys(texts))


def _edges(key: Key) -> list[str]:
    """Around every number that the key's own sentence mentions, and every word of it."""
    if key.validator is None:
        return []
    words = key.validator.allowed.replace(",", " ").split()
    edges = []
    for word in words:
        try:
            number = float(word)
        except ValueError:
            edges += [word, word.upper(), f" {word} ", f"{word},{word}"]
            continue
        edges += [word, str(int(number) - 1), str(int(number)), str(int(number) + 1), repr(number + 1e-9)]
        edges += [repr(number - 1e-9), repr(number)]
    return edges


def _random_text(key: Key, rng: random.Random) -> str:
    if key.type in INTEGER_RANGES and rng.random() < 0.6:
        low, high = INTEGER_RANGES[key.type]
        span = rng.choice([10, 100, 5000, 200_000, high])
        return str(rng.randint(max(low, -span), span) + rng.choice([0, 0, 0, 1]))
    if key.type is ConfigType.DOUBLE and rng.random() < 0.6:
        return repr(rng.choice([rng.uniform(-2, 2), rng.uniform(-1e12, 1e12), rng.gauss(0, 1e-6)]))
    return "".join(rng.choices(_ALPHABET, k=rng.randint(1, 12)))

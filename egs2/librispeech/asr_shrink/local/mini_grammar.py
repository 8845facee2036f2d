"""A small generative grammar of everyday English sentences, about 240 words of vocabulary."""

from __future__ import annotations

import re

import numpy as np

# A slot {name} is filled by one of RULES[name], which may hold slots in turn.
RULES: dict[str, list[str]] = {
    "sentence": [
        # commands and reminders
        "set an alarm for {time} on {day}",
        "please remind {person} to {task}",
        "turn {onoff} the {device} in the {room}",
        "call {person} {when}",
        "send a message to {person}",
        "play some music in the {room}",
        "set the {room} to {teens} degrees",
        # dates, times and places
        "what is the weather in {place} {when}",
        "it will be {weather} in {place}",
        "the {transport} to {place} leaves at {time}",
        "{person} was born in {month}",
        "my meeting with {person} is on {day}",
        "book a table for {digit} on {day}",
        "the {building} opens at {time}",
        # shopping and amounts
        "buy {digit} {unit} of {food}",
        "add {food} and {food} to my list",
        "the {colour} {object} costs {amount}",
        "we need more {food} and {food}",
        # people and things
        "{person} {saw} a {colour} {animal} near the {building}",
        "the {animal} {moved} {where} the {garden}",
        "{person} {made} the {object} for {person}",
        "my {relative} is a {job} in {place}",
        "the {job} {saw} {digit} {animals}",
        "where did {person} put the {object}",
    ],
    "time": ["{hour} {tens}", "{hour} o'clock", "half past {hour}", "quarter to {hour}", "noon"],
    "hour": "one two three four five six seven eight nine ten eleven twelve".split(),
    "tens": "ten twenty thirty forty fifty".split(),
    "digit": "two three four five six seven eight nine".split(),
    "teens": "fifteen sixteen seventeen eighteen nineteen twenty".split(),
    "amount": ["{digit} hundred euros", "{tens} {digit} euros", "{teens} dollars", "{tens} euros"],
    "day": "monday tuesday wednesday thursday friday saturday sunday".split(),
    "month": (
        "january february march april may june july august september october november december"
    ).split(),
    "when": ["today", "tomorrow", "tonight", "on {day}", "next week", "after dinner"],
    "person": "alice peter maria david susan robert linda thomas emma george victor laura".split(),
    "place": "london paris boston madrid chicago dublin vienna lisbon tokyo cairo".split(),
    "task": [
        "water the plants",
        "wash the car",
        "clean the {room}",
        "feed the {animals}",
        "read the newspaper",
        "bake some bread",
    ],
    "onoff": "on off".split(),
    "device": "lamp radio heater television computer".split(),
    "room": "kitchen bedroom bathroom office garage cellar".split(),
    "weather": "sunny cloudy rainy windy foggy".split(),
    "transport": "train bus flight ferry".split(),
    "building": "library museum bakery hospital school station market hotel".split(),
    "unit": "pounds bags boxes bottles".split(),
    "food": "apples butter cheese rice sugar tomatoes potatoes oranges coffee honey".split(),
    "object": "table chair jacket umbrella guitar mirror blanket basket hammer picture".split(),
    "colour": "yellow green purple brown black orange silver".split(),
    "animal": "horse rabbit tiger monkey spider turtle eagle".split(),
    "animals": "dogs birds cows chickens ducks horses".split(),
    "moved": "jumped walked slept waited".split(),
    "where": "under behind across beside".split(),
    "garden": "garden river forest village mountain island".split(),
    "saw": "found painted followed counted".split(),
    "made": "brought ordered carried finished".split(),
    "relative": "brother sister mother father uncle neighbour".split(),
    "job": "doctor teacher farmer singer soldier engineer".split(),
}
_SLOT = re.compile(r"\{(\w+)\}")


class Grammar:
    """Deals the choices of each rule from a shuffled deck, so that no word stays rare by chance."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._decks: dict[str, list[str]] = {rule: [] for rule in RULES}

    def expand(self, rule: str) -> str:
        """Return one sentence (or phrase) that `rule` generates."""
        deck = self._decks[rule]
        if not deck:
            deck.extend(RULES[rule][index] for index in self._rng.permutation(len(RULES[rule])))
        return _SLOT.sub(lambda slot: self.expand(slot.group(1)), deck.pop())


def distinct_sentences(count: int, rng: np.random.Generator) -> list[str]:
    """Return `count` sentences, all different, in uppercase as LibriSpeech's."""
    grammar = Grammar(rng)
    sentences: dict[str, None] = {}
    while len(sentences) < count:
        sentences[grammar.expand("sentence").upper()] = None
    return list(sentences)


def vocabulary() -> set[str]:
    """Return every word that the grammar can say, in uppercase."""
    phrases = " ".join(choice for choices in RULES.values() for choice in choices)
    return set(_SLOT.sub(" ", phrases).upper().split())

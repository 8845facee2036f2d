"""A small generative grammar of everyday English sentences, about 370 words of vocabulary."""

from __future__ import annotations

import re

import numpy as np

# A slot {name} is filled by one of RULES[name], which may hold slots in turn.
RULES: dict[str, list[str]] = {
    "sentence": [
        # commands and reminders
        "set an alarm for {time} in the {daypart}",
        "wake me up at {time} on {day}",
        "please remind {person} to {task} {when}",
        "turn {onoff} the {device} in the {room}",
        "call {person} {when}",
        "send a message to {person} and {person}",
        "play some {music} in the {room}",
        "please open the {opening} in the {room}",
        "set the {room} to {teens} degrees",
        # dates, times and places
        "what is the weather in {place} {when}",
        "it will be {weather} in {place} {when}",
        "the {transport} to {place} leaves at {time}",
        "our {transport} arrives in {place} at {time}",
        "how far is {place} from {place}",
        "{person} was born on {month} {ordinal}",
        "we go to {place} on the {ordinal} of {month}",
        "my meeting with {person} is on {day} at {time}",
        "book a table for {count} on {day} {daypart}",
        "the {building} is closed on {day}",
        "the {building} opens at {time}",
        "meet me near the {building} at {time}",
        # shopping and amounts
        "buy {count} {unit} of {food}",
        "add {food} and {food} to my list",
        "the {adjective} {object} costs {amount}",
        "{person} paid {amount} for the {colour} {object}",
        "do you have {food} or {food} today",
        "we need {count} more {unit} of {food}",
        # people and things
        "{person} {saw} a {adjective} {animal} near the {building}",
        "the {colour} {animal} {moved} {where} the {garden}",
        "{person} {made} the {colour} {object} for {person}",
        "my {relative} is a {job} in {place}",
        "the {job} {saw} {count} {animals}",
        "{person} works as a {job} near {place}",
        "where did {person} put the {colour} {object}",
        "my {relative} lives in a {adjective} house",
        "the {adjective} {job} {made} {food} {when}",
        "the {animals} {moved} {where} the {adjective} {garden}",
        "{person} wants to {task} with my {relative}",
    ],
    "time": ["{hour} {minute}", "{hour} o'clock", "half past {hour}", "quarter to {hour}", "noon"],
    "hour": "one two three four five six seven eight nine ten eleven twelve".split(),
    "minute": ["ten", "fifteen", "{tens}", "{tens} {digit}"],
    "tens": "twenty thirty forty fifty".split(),
    "digit": "one two three four five six seven eight nine".split(),
    "count": "two three four five six seven eight nine ten twelve".split(),
    "teens": "thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty".split(),
    "amount": [
        "{digit} hundred dollars",
        "{big} dollars",
        "{big} {digit} pounds",
        "{teens} euros",
        "{digit} thousand pounds",
    ],
    "big": "twenty thirty forty fifty sixty seventy eighty ninety".split(),
    "ordinal": "first second third fourth fifth sixth seventh eighth ninth tenth".split(),
    "daypart": "morning afternoon evening".split(),
    "day": "monday tuesday wednesday thursday friday saturday sunday".split(),
    "month": (
        "january february march april may june july august september october november december"
    ).split(),
    "when": [
        "today",
        "tomorrow",
        "tonight",
        "on {day}",
        "this {daypart}",
        "next week",
        "in {month}",
        "before lunch",
        "after dinner",
    ],
    "person": (
        "alice peter maria david susan robert linda thomas emma george helen martin sarah victor "
        "laura daniel anna frank julia oscar nancy henry rachel walter"
    ).split(),
    "place": (
        "london paris boston berlin madrid chicago dublin vienna lisbon oslo texas geneva tokyo "
        "cairo moscow athens denver toronto sydney bombay"
    ).split(),
    "task": [
        "water the plants",
        "wash the car",
        "clean the {room}",
        "feed the {animals}",
        "read the newspaper",
        "visit the {job}",
        "fix the {device}",
        "learn french",
        "bake some bread",
    ],
    "onoff": "on off".split(),
    "device": "lamp radio heater television computer fan".split(),
    "room": ["kitchen", "bedroom", "bathroom", "office", "garage", "hall", "cellar", "living room"],
    "opening": "window door curtain drawer".split(),
    "music": ["jazz", "rock music", "piano music", "folk songs", "old songs"],
    "weather": "sunny cloudy rainy windy cold foggy".split(),
    "transport": "train bus flight ferry tram".split(),
    "building": (
        "library museum bakery hospital school station church theatre market hotel bridge castle"
    ).split(),
    "unit": "pounds bags boxes bottles cups kilos".split(),
    "food": (
        "apples bread butter cheese rice milk sugar tomatoes potatoes onions oranges chicken "
        "coffee honey carrots soup lemons pepper salad chocolate"
    ).split(),
    "object": (
        "table chair jacket umbrella guitar mirror blanket basket hammer bottle picture shirt "
        "wallet ticket ladder carpet"
    ).split(),
    "colour": "yellow green purple brown black white orange silver".split(),
    "adjective": (
        "small large heavy quiet broken beautiful empty happy famous young strange clever lazy "
        "gentle"
    ).split(),
    "animal": "horse rabbit tiger monkey spider turtle eagle donkey".split(),
    "animals": "dogs birds cows chickens cats ducks sheep horses".split(),
    "moved": "jumped walked slept waited landed played".split(),
    "where": "under behind across beside inside".split(),
    "garden": "garden river forest village mountain island farm valley".split(),
    "saw": "found painted followed watched heard counted".split(),
    "made": "brought ordered carried finished wanted sold".split(),
    "relative": "brother sister mother father uncle cousin grandmother neighbour".split(),
    "job": "doctor teacher farmer lawyer singer soldier baker engineer painter driver".split(),
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

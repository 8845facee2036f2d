#!/usr/bin/env python3
"""Score hypotheses with jiwer, in tables like sclite's: FOLDER/score_{wer,cer,ter}/result.txt.

Texts are cut into words, characters and (with a BPE model) pieces by ESPnet's own tokenizers. Every
error counts once; rates are percentages of the reference's tokens. An utterance with an empty
reference counts its hypothesis as insertions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import jiwer
from data_dir import evenly_spaced, fail, read_table, require_same_keys, write_atomically
from espnet2.text.abs_tokenizer import AbsTokenizer
from espnet2.text.char_tokenizer import CharTokenizer
from espnet2.text.sentencepiece_tokenizer import SentencepiecesTokenizer
from espnet2.text.word_tokenizer import WordTokenizer

TOKENS_APART = jiwer.Compose([jiwer.ReduceToListOfListOfWords(word_delimiter="\n")])


@dataclass
class Counts:
    """Numbers of sentences, reference tokens, and tokens right and wrong."""

    sentences: int = 0
    tokens: int = 0
    correct: int = 0
    substituted: int = 0
    deleted: int = 0
    inserted: int = 0
    wrong_sentences: int = 0

    @property
    def errors(self) -> int:
        return self.substituted + self.deleted + self.inserted

    def add(self, other: Counts) -> None:
        sums = [a + b for a, b in zip(astuple(self), astuple(other), strict=True)]
        self.__init__(*sums)  # type: ignore[misc]

    def numbers(self) -> list[int]:
        """Return correct, substituted, deleted, inserted, errors, wrong sentences."""
        wrong = [self.substituted, self.deleted, self.inserted, self.errors]
        return [self.correct, *wrong, self.wrong_sentences]

    def percentages(self) -> list[float]:
        """Return the same, but in percent of the tokens and of the sentences."""
        of_tokens = [100 * number / max(1, self.tokens) for number in self.numbers()[:-1]]
        return [*of_tokens, 100 * self.wrong_sentences / max(1, self.sentences)]


def compare(reference: list[str], hypothesis: list[str]) -> tuple[Counts, str]:
    """Return the counts of one utterance and its alignment in sclite's manner."""
    if reference:
        # A token may be white space itself, such as an ideographic space.
        result = jiwer.process_words(
            "\n".join(reference), "\n".join(hypothesis), TOKENS_APART, TOKENS_APART
        )
        chunks = [
            (c.type, c.ref_start_idx, c.ref_end_idx, c.hyp_start_idx, c.hyp_end_idx)
            for c in result.alignments[0]
        ]
    else:
        chunks = [("insert", 0, 0, 0, len(hypothesis))] if hypothesis else []
    counts = Counts(sentences=1, tokens=len(reference))
    columns: list[tuple[str, str, str]] = []
    for kind, ref_start, ref_end, hyp_start, hyp_end in chunks:
        ref, hyp = reference[ref_start:ref_end], hypothesis[hyp_start:hyp_end]
        if kind == "equal":
            counts.correct += len(ref)
            columns += [(token, token, "") for token in ref]
        elif kind == "substitute":
            counts.substituted += len(ref)
            columns += [(a, b, "S") for a, b in zip(ref, hyp, strict=True)]
        elif kind == "delete":
            counts.deleted += len(ref)
            columns += [(token, "*" * len(token), "D") for token in ref]
        else:
            counts.inserted += len(hyp)
            columns += [("*" * len(token), token, "I") for token in hyp]
    counts.wrong_sentences = int(counts.errors > 0)
    widths = [max(len(text) for text in column) for column in columns]
    lines = []
    for label, row in zip(("REF: ", "HYP: ", "Eval:"), zip(*columns, strict=True), strict=False):
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        lines.append(f"{label} {' '.join(padded)}".rstrip())
    return counts, "\n".join(lines)


def table(speakers: dict[str, Counts], total: Counts) -> str:
    """Return sclite's two tables: percentages ("Sum/Avg" sums up) and numbers ("Sum")."""
    width = max(7, *(len(speaker) for speaker in speakers))

    def row(name: str, counts: Counts, percent: bool) -> str:
        if percent:
            values = " ".join(f"{value:6.1f}" for value in counts.percentages())
        else:
            values = " ".join(f"{value:6d}" for value in counts.numbers())
        return f"| {name:<{width}} | {counts.sentences:6d} {counts.tokens:7d} | {values} |"

    head = f"| {'SPKR':<{width}} | {'# Snt':>6} {'# Wrd':>7} |"
    head += "".join(f" {name:>6}" for name in ("Corr", "Sub", "Del", "Ins", "Err", "S.Err")) + " |"
    line = "-" * len(head)
    parts = []
    for percent, last in ((True, "Sum/Avg"), (False, "Sum")):
        rows = [row(name, counts, percent) for name, counts in sorted(speakers.items())]
        if percent:
            parts += [line, head, line, *rows, line, row(last, total, True), line, ""]
        else:
            parts += ["Numbers", line, *rows, line, row(last, total, False), line, ""]
    return "\n".join(parts)


def score(
    references: dict[str, list[str]],
    hypotheses: dict[str, list[str]],
    utt2spk: dict[str, str],
    folder: Path,
) -> Counts:
    """Write ref.trn, hyp.trn and result.txt to `folder`; return the counts of all utterances."""
    total, speakers, alignments = Counts(), dict[str, Counts](), []
    for utterance in sorted(references):
        counts, alignment = compare(references[utterance], hypotheses[utterance])
        total.add(counts)
        speakers.setdefault(utt2spk[utterance], Counts()).add(counts)
        numbers = f"{counts.correct} {counts.substituted} {counts.deleted} {counts.inserted}"
        alignments.append(f"id: ({utterance})\nScores: (#C #S #D #I) {numbers}\n{alignment}\n")
    for name, texts in (("ref", references), ("hyp", hypotheses)):
        with write_atomically(folder / f"{name}.trn") as beside:
            lines = [
                f"{' '.join(texts[utterance])}\t({utt2spk[utterance]}-{utterance})\n"
                for utterance in sorted(references)
            ]
            beside.write_text("".join(lines), encoding="utf-8")
    with write_atomically(folder / "result.txt") as beside:
        beside.write_text(table(speakers, total) + "\n" + "\n".join(alignments), encoding="utf-8")
    return total


def cut(tokenizer: AbsTokenizer, text: str) -> list[str]:
    """Return the tokens of `text`; spacing is no token."""
    return [token for token in tokenizer.text2tokens(evenly_spaced(text)) if token]


def load_cleaner(name: str) -> Callable[[str], str]:
    """Return ESPnet's text cleaner of this name; "none" changes nothing."""
    if name == "none":
        return str
    from espnet2.text.cleaner import TextCleaner  # takes seconds

    return TextCleaner(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ref", type=Path, required=True)
    parser.add_argument("--hyp", type=Path, required=True)
    parser.add_argument("--utt2spk", type=Path, required=True)
    parser.add_argument("--bpemodel", default="none")
    parser.add_argument("--non-linguistic-symbols", default="none")
    parser.add_argument("--cleaner", default="none")
    parser.add_argument("--hyp-cleaner", default="none")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()

    references = read_table(args.ref, allow_no_value=True)
    hypotheses = read_table(args.hyp, allow_no_value=True)
    utt2spk = read_table(args.utt2spk)
    require_same_keys(args.ref, set(references), args.hyp, set(hypotheses))
    if lost := set(references) - set(utt2spk):
        fail(f"{args.utt2spk} lacks {min(lost)}, which is in {args.ref}")

    symbols = None if args.non_linguistic_symbols == "none" else args.non_linguistic_symbols
    tokenizers: dict[str, AbsTokenizer] = {
        "wer": WordTokenizer(
            delimiter=" ",  # no other white space parts words, as in the report
            non_linguistic_symbols=symbols,
            remove_non_linguistic_symbols=symbols is not None,
        ),
        "cer": CharTokenizer(
            non_linguistic_symbols=symbols, remove_non_linguistic_symbols=symbols is not None
        ),
    }
    if Path(args.bpemodel).is_file():
        tokenizers["ter"] = SentencepiecesTokenizer(args.bpemodel)
    ref_cleaner, hyp_cleaner = load_cleaner(args.cleaner), load_cleaner(args.hyp_cleaner)
    for kind, tokenizer in tokenizers.items():
        ref_tokens, hyp_tokens = (
            {key: cut(tokenizer, cleaner(value)) for key, value in texts.items()}
            for cleaner, texts in ((ref_cleaner, references), (hyp_cleaner, hypotheses))
        )
        counts = score(ref_tokens, hyp_tokens, utt2spk, args.folder / f"score_{kind}")
        percent = 100 * counts.errors / max(1, counts.tokens)
        print(f"{args.folder}/score_{kind}/result.txt: {kind.upper()} {percent:.2f} %")


if __name__ == "__main__":
    main()

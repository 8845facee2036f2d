#!/usr/bin/env python3
"""Train a sentencepiece model on FOLDER/train.txt: bpe.model, bpe.vocab and ESPnet's tokens.txt.

tokens.txt holds CTC's blank, the unknown symbol, the pieces, and the sentence end, in this order.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import sentencepiece
from data_dir import fail, write_atomically


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab-size", type=int, required=True)
    parser.add_argument("--mode", choices=["unigram", "bpe"], required=True)
    parser.add_argument("--character-coverage", type=float, required=True)
    parser.add_argument("--sentences", type=int, required=True, help="sentences to train on")
    parser.add_argument("--keep", default="", help="symbols kept whole: a,b or a file of them")
    parser.add_argument("--blank", required=True)
    parser.add_argument("--oov", required=True)
    parser.add_argument("--sos-eos", required=True)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()

    keep = [symbol for symbol in args.keep.split(",") if symbol]
    if Path(args.keep).is_file():
        lines = Path(args.keep).read_text(encoding="utf-8").splitlines()
        keep = [line.split()[0] for line in lines if line.strip()]
    beside = args.folder / ".part"
    try:
        sentencepiece.SentencePieceTrainer.train(
            input=str(args.folder / "train.txt"),
            model_prefix=str(beside),
            vocab_size=args.vocab_size,
            model_type=args.mode,
            character_coverage=args.character_coverage,
            input_sentence_size=args.sentences,
            user_defined_symbols=keep,
            minloglevel=1,
        )
    except RuntimeError as error:
        limit = re.search(r"value <= (\d+)", str(error))
        if limit:
            fail(f"--nbpe {args.vocab_size} is too much for this text: at most {limit[1]}")
        reason = str(error).strip().splitlines()[-1]
        fail(f"no BPE model with --nbpe {args.vocab_size} from {args.folder}/train.txt: {reason}")
    os.replace(f"{beside}.model", args.folder / "bpe.model")
    os.replace(f"{beside}.vocab", args.folder / "bpe.vocab")
    # The first three lines are sentencepiece's own <unk>, <s> and </s>.
    vocabulary = (args.folder / "bpe.vocab").read_text(encoding="utf-8").splitlines()[3:]
    pieces = [line.split("\t")[0] for line in vocabulary]
    with write_atomically(args.folder / "tokens.txt") as part:
        tokens = [args.blank, args.oov, *pieces, args.sos_eos]
        part.write_text("\n".join(tokens) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

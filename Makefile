PYTHON ?= python3
VENV ?= .venv

# ESPnet's imports take half a minute when nothing may be kept compiled, and every stage pays it.
unexport PYTHONDONTWRITEBYTECODE

# Every command runs with the environment's programs first.
RUN = PATH="$(abspath $(VENV))/bin:$$PATH"

# Programs of the shell; what they source is checked with them.
SCRIPTS = .ci/run egs2/TEMPLATE/asr1/asr.sh egs2/TEMPLATE/asr1/utils/once.sh \
    $(addprefix egs2/librispeech/asr_shrink/,run.sh local/data.sh local/shrink.sh)

# The demo's model, in the recipe's folder.
DEMO = exp/asr_mini_train_asr_rnn

.PHONY: help demo test test-slow lint bench install

help:
	@echo "make demo     train, compress and report on a small built-in corpus (20 to 30 minutes on 2 cores)"
	@echo "make test     run the tests"
	@echo "make test-slow  run those that train and decode with ESPnet's programs several times"
	@echo "make lint     check style and types"
	@echo "make bench    time LSTM layers against torch's, and the demo's model against ESPnet (15 minutes)"
	@echo "make install  only make the environment; the other targets do so when it is missing"
	@echo "Settings: PYTHON=python3.12 chooses the Python (3.11 to 3.13; now $(PYTHON)),"
	@echo "          VENV=DIR the environment's folder (now $(VENV))"

install:
	@$(PYTHON) tools/install.py "$(VENV)"

demo: install
	cd egs2/librispeech/asr_shrink && $(RUN) ./run.sh

PYTEST = $(RUN) OMP_NUM_THREADS=1 python -m pytest -q -n logical --maxprocesses 4 --dist worksteal

test: install
	$(PYTEST) -m "not slow"

test-slow: install
	$(PYTEST) -m slow

lint: install
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) shellcheck --check-sourced $(SCRIPTS)

bench: install
	$(RUN) python benchmarks/lstm_training.py
	$(RUN) python benchmarks/lstm.py
	cd egs2/librispeech/asr_shrink && \
	    if [ -e $(DEMO)_shrink/round2/config.yaml ]; then \
	        small=$(DEMO)_shrink/round2 bench=../../../benchmarks; \
	        $(RUN) python $$bench/decode.py --exp $(DEMO) --small $$small --data dump/raw/test_mini && \
	        $(RUN) python $$bench/train.py --exp $(DEMO) --small $$small --turns 1 && \
	        $(RUN) python $$bench/search.py --exp $(DEMO) --proxy $(DEMO)_shrink/proxy; \
	    else echo "decoding, training and search are timed after \`make demo\`: it trains their model"; fi

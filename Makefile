PYTHON ?= python3
VENV ?= .venv

# ESPnet's imports take half a minute when nothing may be kept compiled, and every stage pays it.
unexport PYTHONDONTWRITEBYTECODE

# Every command runs with the environment's programs first.
RUN = PATH="$(abspath $(VENV))/bin:$$PATH"

.PHONY: help demo test lint bench install

help:
	@echo "make demo     train, compress and report on a small built-in corpus (20 minutes on 2 cores)"
	@echo "make test     run the tests"
	@echo "make lint     check style and types"
	@echo "make bench    time LSTM training and inference against torch's LSTM (10 minutes)"
	@echo "make install  only make the environment; the other targets do so when it is missing"
	@echo "Settings: PYTHON=python3.12 chooses the Python (3.11 to 3.13; now $(PYTHON)),"
	@echo "          VENV=DIR the environment's folder (now $(VENV))"

install:
	@$(PYTHON) tools/install.py "$(VENV)"

demo: install
	cd egs2/librispeech/asr_shrink && $(RUN) ./run.sh

test: install
	$(RUN) OMP_NUM_THREADS=1 python -m pytest -q -n logical --maxprocesses 4 --dist worksteal

lint: install
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

bench: install
	$(RUN) python benchmarks/lstm_training.py
	$(RUN) python benchmarks/lstm.py

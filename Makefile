# Everything a developer types. `make test` and `make demo` install what they need into .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ptune-installed

.PHONY: demo demo-zh compare-demo serve-demo test check bench wheel-check install clean

install: $(STAMP)

# torch first, from constraints.txt, so that nothing pulls a CUDA build.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,parquet,sklearn]'
	touch $(STAMP)

demo: install
	$(BIN)/ptune models pull smollm2-135m-q4
	rm -rf runs/demo
	$(BIN)/ptune train examples/reviews_en.yaml --out runs/demo
	$(BIN)/ptune predict runs/demo/bundle "The hinge broke in a week and nobody answers." "Best film I have seen this year." "I expected worse, and was pleasantly surprised."

demo-zh: install
	$(BIN)/ptune models pull gemma-3-270m-q4
	rm -rf runs/demo-zh
	$(BIN)/ptune train examples/reviews_zh.yaml --out runs/demo-zh
	$(BIN)/ptune predict runs/demo-zh/bundle "质量太差了，用了两天就坏了。" "物流很快，包装也很用心，非常满意！" "本来没抱希望，没想到这么好用。"

# Two tasks on one model: trained once, then served until Ctrl-C.
serve-demo: install
	$(BIN)/ptune models pull smollm2-135m-q4
	test -d runs/serve-demo/reviews/bundle || { rm -rf runs/serve-demo/reviews && $(BIN)/ptune train examples/reviews_en.yaml --out runs/serve-demo/reviews; }
	test -d runs/serve-demo/support/bundle || { rm -rf runs/serve-demo/support && $(BIN)/ptune train examples/support_en.yaml --out runs/serve-demo/support; }
	@cat examples/serve_demo.sh
	$(BIN)/ptune serve runs/serve-demo

# Under ten minutes: cells that would not end within the budget are left out, with the reason.
compare-demo: install
	$(BIN)/ptune models pull smollm2-135m-q4
	$(BIN)/ptune compare examples/reviews_en.yaml --method majority --method tfidf-svm --method tfidf-logistic --method zero-shot-prior --method linear-probe --method p-tuning --budget 8m --out runs/compare-demo

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest --cov --cov-report=term

# The short form of the engine benchmark (minutes; run it with nothing else on the machine). DATA is the folder of public data sets.
DATA ?= ../shared/data
bench: install
	$(BIN)/ptune models pull smollm2-135m-q4
	rm -rf runs/bench
	$(BIN)/python bench/engine.py bench/specs/engine.yaml --data $(DATA) --out runs/bench --short

# Builds the wheel, installs it into an empty venv in a folder of its own, and trains the demo there for a few steps.
wheel-check: install
	rm -rf build dist /tmp/ptune-wheel && mkdir -p /tmp/ptune-wheel
	$(BIN)/python -m build --wheel --outdir dist
	$(PYTHON) -m venv /tmp/ptune-wheel/venv
	/tmp/ptune-wheel/venv/bin/python -m pip install --quiet -c constraints.txt torch
	/tmp/ptune-wheel/venv/bin/python -m pip install --quiet -c constraints.txt dist/*.whl
	cp -r examples /tmp/ptune-wheel/examples
	cd /tmp/ptune-wheel && venv/bin/ptune train examples/reviews_en.yaml --set steps=10 --set test=null && venv/bin/ptune predict runs/reviews_en/bundle "A joy from start to end."

clean:
	rm -rf $(VENV) build dist runs

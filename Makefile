# `make demo` and `make test` are all that a fresh clone needs.

PYTHON ?= python3
BIN := .venv/bin
DEMO := output/demo
TRAIN_DEMO := output/train-demo
# Two processes: most of a test is tracing and Python, which one core does.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile
# What runs with both kinds of TensorFlow's kernels: its own, and oneDNN's, which it uses by itself
# on some processors only.
BOTH_KERNELS := tests/layers tests/inference/test_fold.py tests/ops/kernels/test_native.py \
    $(addprefix tests/ops/test_,conv_gradients.py deform_conv.py fixed_shapes.py packed_conv.py roi_align.py) \
    $(addprefix tests/modeling/test_,batch_statistics.py no_proposals.py federated_weights.py replicas.py) \
    $(addprefix tests/modeling/test_,rpn_locations.py semantic_loss.py) \
    $(addprefix tests/modeling/test_training_losses.py::test_,mixed_precision no_objects_at_all) \
    tests/modeling/test_training_losses.py::test_everything_that_trains_has_a_gradient \
    $(addprefix tests/training/test_,trainer.py precise_bn.py) tests/parity/test_training_steps.py \
    tests/parity/test_tiny.py::test_batches_of_eight_sizes_as_alone \
    tests/parity/test_tiny.py::test_detections_and_average_precision \
    $(addprefix tests/ops/test_quantized_conv.py::test_,portable no_image_and_no_pixel) \
    tests/inference/test_graph.py tests/parity/test_zoo_narrow.py::test_nothing_found

.PHONY: install demo train-demo test test-full test-versions parity docs zoo bench bench-serve clean

install: .venv/.installed

.venv/.installed: pyproject.toml entry_points.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else "Python %d.%d is not supported: TensorFlow 2.21 needs 3.10 to 3.13; run make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/tfdetect build-operators --optional
	@touch $@

demo: install
	$(BIN)/python convert_d2.py --config-file demo/joint_rcnn/config.yaml \
	    --weights demo/joint_rcnn/model_final.pkl --metadata demo/annotations.json \
	    --output $(DEMO)/model
	$(BIN)/python predict.py --model $(DEMO)/model --input demo/images \
	    --output $(DEMO)/pictures --json $(DEMO)/detections.json
	@echo "Pictures: $(DEMO)/pictures    Detections: $(DEMO)/detections.json"

# Train on shapes that are drawn here, evaluate, and look at what the model finds.
train-demo: install
	$(BIN)/python -m tfdetect.data.shapes $(TRAIN_DEMO)/train 400 1
	$(BIN)/python -m tfdetect.data.shapes $(TRAIN_DEMO)/val 40 2
	$(BIN)/python train.py --config-file demo/train.yaml --resume \
	    --register shapes_train $(TRAIN_DEMO)/train/annotations.json $(TRAIN_DEMO)/train/images \
	    --register shapes_val $(TRAIN_DEMO)/val/annotations.json $(TRAIN_DEMO)/val/images \
	    SOLVER.MAX_ITER 300 SOLVER.STEPS "(210, 270)" OUTPUT_DIR $(TRAIN_DEMO)/run
	$(BIN)/python predict.py --model $(TRAIN_DEMO)/run/model_final \
	    --input $(TRAIN_DEMO)/val/images --output $(TRAIN_DEMO)/pictures
	@echo "Pictures: $(TRAIN_DEMO)/pictures    Metrics: $(TRAIN_DEMO)/run/metrics.json"

test: install
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(PYTEST) -m 'not full'
	kernels=$$($(BIN)/python tests/support/other_kernels.py 2>/dev/null) && \
	    TF_ENABLE_ONEDNN_OPTS=$$kernels $(PYTEST) -m 'not full' $(BOTH_KERNELS)

# What takes longer than `make test` should: every full-size model of the records.
test-full: install
	$(PYTEST)

# Operators, parity and SavedModels with older versions of TensorFlow, each in an environment of its
# own (of Python 3.10 to 3.12: PYTHON=python3.11), and what this one's SavedModel gives in them.
VERSIONS := 2.16.2 2.18.1
test-versions: install
	for version in $(VERSIONS); do \
	    $(PYTHON) -m venv .venv-versions/$$version && \
	    .venv-versions/$$version/bin/python -m pip install --quiet --disable-pip-version-check \
	        --editable '.[dev]' tensorflow==$$version && \
	    .venv-versions/$$version/bin/python -m pytest -m 'not full' tests/ops tests/parity tests/export \
	    || exit 1; \
	done
	TFDETECT_PYTHONS=$$(echo $(patsubst %,$(CURDIR)/.venv-versions/%/bin/python,$(VERSIONS)) | tr ' ' :) \
	    $(BIN)/python -m pytest tests/export/test_other_versions.py

# Measure the differences to Detectron2 again and write docs/parity.md; with SECTIONS="transformers
# tta" only these parts of it (see tests/parity/report.py).
parity: install
	$(BIN)/python -m tests.parity.report docs/parity.md $(SECTIONS)

# The site of docs/, in output/site; any warning is an error.
docs: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Site: output/site/index.html"

# The table of the zoo: needs docs/parity.md, and half an hour.
zoo: install
	$(BIN)/python benchmarks/zoo.py docs/zoo.md

# The table of speeds. TFDETECT_REFERENCE=PYTHON names the Python that has PyTorch and Detectron2,
# TFDETECT_RIVALS=PYTHON the one that has ONNX Runtime and OpenVINO.
bench: install
	$(BIN)/python benchmarks/report.py docs/performance.md

# A SavedModel under load.
bench-serve: install
	$(BIN)/python benchmarks/serve.py

clean:
	rm -rf .venv .venv-versions output build *.egg-info .mypy_cache .ruff_cache .pytest_cache

# Both commands of the README work from a clean clone; what is done already is skipped.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# What a user gives is text: make reads no $ in it, and `quoted` makes one word of the shell's of it, whatever is in it.
GIVEN := UNLABELED LABELED TEST OUTPUT CONFIG SET FROM TO PARALLEL IMAGE CRON TIMEZONE FILES NAME RUN_KEY WAIT RUNNER HOST \
	OFFLINE NO_PREFLIGHT VERSION IMAGES TARGETS PRECISION PRESET BATCH MISSING_KERNEL ONLY ROUNDS KILLS SEED SHORT OSV STACK
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name))))
define newline


endef
quoted = $$'$(subst $(newline),\n,$(subst ',\',$(subst \,\\,$(1))))'
option = $(if $($(2)),$(1) $(call quoted,$($(2))))
options = $(foreach item,$($(2)),$(1) $(call quoted,$(item)))
flag = $(if $($(2)),$(1))

PYTHON := .venv/bin/python
UV := .tools/bin/uv
# STACK=1.16 or 1.21 asks for one of the two stacks. Without it what is installed stays, also when its versions change, and where
# nothing is, the newer that the machine can run is taken.
READY := .venv/.ready$(addprefix -,$(STACK))
WANTED = $(or $(STACK),$(patsubst .venv/.ready-%,%,$(wildcard .venv/.ready-*)))
TPU_PYTHON := .venv-tpu/bin/python
TPU_READY := .venv-tpu/.ready
BENCH_PYTHON := .venv-bench/bin/python
BENCH_READY := .venv-bench/.ready
# "1.16 PATH-OF-PYTHON why", or "refused: why not"; asked for once, and only where something is to be installed.
CHOSEN = $(eval CHOSEN := $$(shell $(SHELL) infra/stack.sh choose $$(call quoted,$$(WANTED))))$(CHOSEN)
CHOSEN_PYTHON = $(word 2,$(CHOSEN))
require_stack = test -n "$(filter 1.%,$(firstword $(CHOSEN)))" || { echo $(call quoted,$(wordlist 2,99,$(CHOSEN))); exit 1; }
python_of = $(shell $(SHELL) infra/stack.sh python $(1))
PYTHON312 = $(call python_of,3.12)
PYTHON311 = $(firstword $(foreach version,3.11 3.12 3.13,$(call python_of,$(version))))
# uv audit takes a Python from the PATH alone, and would fetch one where no environment is installed.
audit_uv = PATH="$(dir $(abspath $(or $(wildcard $(PYTHON)),$(CHOSEN_PYTHON)))):$$PATH" UV_PYTHON_DOWNLOADS=never $(UV)
require_tpu_host = test "$$(uname -sm)" = "Linux x86_64" || { echo "the TPU compiler exists for Linux on x86_64 only; \
	this is $$(uname -sm)"; exit 1; }; test -n "$(PYTHON312)" || { echo "Python 3.12 is needed for the TPU compiler: \
	'pyenv install 3.12', or put python3.12 on the PATH"; exit 1; }
require_python311 = test -n "$(PYTHON311)" || { echo "Python 3.11, 3.12 or 3.13 is needed for lightly: \
	'pyenv install 3.12', or put python3.12 on the PATH"; exit 1; }

config_arguments = $(call option,--config,CONFIG) $(call options,--set,SET)
compile_arguments = $(config_arguments) $(call option,--output,OUTPUT)
run_arguments = $(call option,--unlabeled,UNLABELED) $(call option,--labeled,LABELED) $(call option,--test,TEST) \
	$(compile_arguments) $(call option,--from,FROM) $(call option,--to,TO)
watch_arguments = $(run_arguments) $(call option,--cron,CRON) $(call option,--timezone,TIMEZONE) $(call flag,--files,FILES)
rehearse_arguments = $(compile_arguments) $(call option,--parallel,PARALLEL) $(call options,--image,IMAGE)
preflight_arguments = $(config_arguments) $(call flag,--offline,OFFLINE)
deploy_arguments = $(compile_arguments) $(call flag,--no-preflight,NO_PREFLIGHT)
submit_arguments = $(deploy_arguments) $(call option,--run-key,RUN_KEY) $(call flag,--wait,WAIT) \
	$(call option,--runner,RUNNER) $(call option,--host,HOST)
schedule_arguments = $(deploy_arguments) --cron $(call quoted,$(CRON)) $(call option,--timezone,TIMEZONE) \
	$(call option,--name,NAME)
champion_arguments = $(config_arguments) $(if $(OUTPUT),--pushed $(call quoted,$(OUTPUT)/pushed))
embeddings_arguments = $(config_arguments) --images $(call quoted,$(IMAGES)) --output $(call quoted,$(OUTPUT)) \
	$(call option,--version,VERSION) $(call flag,--wait,WAIT)
tpu_arguments = $(call options,--target,TARGETS) $(call options,--precision,PRECISION) $(call option,--preset,PRESET) \
	$(call option,--batch,BATCH) $(call flag,--missing-kernel,MISSING_KERNEL)
bench_arguments = $(call options,--only,ONLY) $(call option,--rounds,ROUNDS)

# Imports, the graph and what it compiles to, what is trained, served and kept on a store, and a whole tiny run.
SHORT_TESTS := make environment && .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/architecture \
	tests/pipeline/test_pipeline_graph.py tests/pipeline/test_kubeflow.py tests/trainer/test_pretrain_trace.py tests/gcs \
	tests/components/test_serving_parity.py tests/e2e/test_tiny_run.py::test_whole_run_leaves_metrics_report_and_pushed_model

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

.PHONY: local-run
local-run: $(READY)  ## the whole pipeline here: [UNLABELED= LABELED= TEST= OUTPUT= CONFIG= SET="field=value ..." FROM= TO=]
	@$(PYTHON) -m pipeline run $(run_arguments)

.PHONY: retrain
retrain: $(READY)  ## one cycle over a source that grows: ingest what is new, train if that is enough: CONFIG= [as local-run], with retrain.store
	@$(PYTHON) -m pipeline retrain $(run_arguments)

.PHONY: watch
watch: $(READY)  ## make retrain over and over: when files appear, or CRON="0 3 * * 1", or both: CONFIG= [TIMEZONE= FILES=1, as local-run]
	@$(PYTHON) -m pipeline watch $(watch_arguments)

.PHONY: history
history: $(READY)  ## write history.html anew, records that were lost from the reports: [OUTPUT= CONFIG= SET=]
	@$(PYTHON) -m pipeline history $(compile_arguments)

.PHONY: compile
compile: $(READY)  ## the pipeline for Vertex AI (JSON) and Kubeflow (YAML): CONFIG= [SET="field=value ..." OUTPUT=]
	@$(PYTHON) -m pipeline compile $(compile_arguments)

.PHONY: rehearse
rehearse: $(READY)  ## what Vertex AI would get, compiled and run here without Docker: [CONFIG= SET="field=value ..." OUTPUT= PARALLEL= IMAGE="name=python ..."]
	@$(PYTHON) -m pipeline rehearse $(rehearse_arguments)

.PHONY: preflight
preflight: $(READY)  ## what a run on Vertex AI would fail at, needs and costs, before it is started: CONFIG= [SET= OFFLINE=1]
	@$(PYTHON) -m pipeline preflight $(preflight_arguments)

.PHONY: submit
submit: $(READY)  ## preflight, compile, start on Vertex AI: CONFIG= [SET= WAIT=1 RUN_KEY=date NO_PREFLIGHT=1, experimental: RUNNER=kubeflow HOST=]
	@$(PYTHON) -m pipeline submit $(submit_arguments)

.PHONY: deploy
deploy: $(READY)  ## preflight, compile, leave it for the service that starts runs on new data: CONFIG= [SET= NO_PREFLIGHT=1]
	@$(PYTHON) -m pipeline deploy $(deploy_arguments)

.PHONY: schedule
schedule: $(READY)  ## run on Vertex AI by the clock, one run at a time: CRON="0 3 * * 1" CONFIG= [SET= TIMEZONE= NAME= NO_PREFLIGHT=1]
	@$(PYTHON) -m pipeline schedule $(schedule_arguments)

.PHONY: unschedule
unschedule: $(READY)  ## delete a schedule: CONFIG= [NAME=]
	@$(PYTHON) -m pipeline unschedule $(config_arguments) $(call option,--name,NAME)

.PHONY: schedules
schedules: $(READY)  ## list the schedules: CONFIG=
	@$(PYTHON) -m pipeline schedules $(config_arguments)

.PHONY: promote
promote: $(READY)  ## make a version the champion: CONFIG= [VERSION=candidate|number SET=] on Vertex AI, OUTPUT= VERSION=number here
	@$(PYTHON) -m pipeline promote $(champion_arguments) $(call option,--version,VERSION)

.PHONY: rollback
rollback: $(READY)  ## make the champion before this one the champion again: CONFIG= [SET=] on Vertex AI, [OUTPUT=] here
	@$(PYTHON) -m pipeline rollback $(champion_arguments)

.PHONY: embeddings
embeddings: $(READY)  ## h of a folder of images by a registered version, on Vertex AI: CONFIG= IMAGES=gs:// OUTPUT=gs:// [VERSION=champion|number SET= WAIT=1]
	@$(PYTHON) -m pipeline embeddings $(embeddings_arguments)

.PHONY: test
test: $(READY) lint  ## lint and all tests, the browser's too
	@command -v chromium chromium-browser google-chrome >/dev/null || bash tests/install_chromium.sh
	@$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: test-long
test-long: $(READY)  ## what `make test` leaves out: the whole pipeline on gs:// paths, weeks of new images rehearsed, eight replicas, more of the bench
	@$(PYTHON) -m pytest -m slow

.PHONY: chaos
chaos: $(READY)  ## kill whole runs at random moments, starve and break them, feed the readers anything, and see what is left: [KILLS=300 SEED=1]
	@$(PYTHON) -m pytest tests/faults tests/gcs/test_gcs_faults.py -m "chaos or not chaos" \
		--kills $(call quoted,$(or $(KILLS),300)) --chaos-seed $(call quoted,$(or $(SEED),1)) \
		--hypothesis-profile chaos --hypothesis-seed $(call quoted,$(or $(SEED),1))

.PHONY: test-next
test-next:  ## TFX 1.21 on a Linux too old for it, in a Debian 13 below build/, as root: all tests and a local run [SHORT=1: what tells the stacks apart]
	@$(SHELL) tests/debian13.sh build/debian13 "$(if $(SHORT),$(SHORT_TESTS),make test && make local-run)"

STACKS := .venv/bin/python -m pytest -m stacks tests/stacks

.PHONY: test-stacks
test-stacks: $(READY)  ## what TFX 1.21 leaves, in that Debian 13, is read by the stack installed here, and the other way about
	@test -e .venv/.ready-1.16 || { echo "TFX 1.16 has to be installed here to read what TFX 1.21 left, and to leave what it reads:" \
		"'make environment STACK=1.16'"; exit 1; }
	@rm -rf build/stacks && mkdir -p build/stacks
	@$(SHELL) tests/debian13.sh build/debian13 'make environment && $(STACKS) -k leaves --shared "$$SHARED"' build/stacks
	@test -z "$$(ls build/stacks)" || { $(STACKS) -k leaves --shared build/stacks && $(STACKS) -k "not leaves" --shared build/stacks \
		&& $(SHELL) tests/debian13.sh build/debian13 '$(STACKS) -k "not leaves" --shared "$$SHARED"' build/stacks; }

.PHONY: lint
lint: $(READY)  ## style, formatting, generated documentation
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --quiet --check . || { echo "formatting differs: run make format"; exit 1; }
	@$(PYTHON) -m pipeline config --markdown | diff -q - docs/configuration.md >/dev/null \
		|| { echo "docs/configuration.md is out of date: run make docs"; exit 1; }

.PHONY: format
format: $(READY)  ## format the code
	@.venv/bin/ruff check --quiet --fix . ; .venv/bin/ruff format .

.PHONY: docs
docs: $(READY)  ## write what the documentation takes from the code
	@$(PYTHON) -m pipeline config --markdown > docs/configuration.md

.PHONY: golden
golden: $(READY)  ## write anew what the tests compare the compiled pipeline and requests with; look at the difference
	@for module in golden_job golden_requests golden_http golden_registration; do \
		TF_USE_LEGACY_KERAS=1 TF_CPP_MIN_LOG_LEVEL=3 PYTHONPATH=.:tests/pipeline $(PYTHON) -W ignore -m $$module || exit 1; done

.PHONY: bench
bench: $(READY) $(BENCH_READY)  ## the trainer's speed beside lightly's: [ONLY=augmentation|step|input|loss|memory ROUNDS=]
	@PYTHONPATH=.:tests $(PYTHON) -m benchmarks $(bench_arguments)

.PHONY: bench-ingestion
bench-ingestion: $(READY)  ## images ingested a second, beside a bare decoding loop
	@$(PYTHON) tests/benchmarks/ingestion.py

.PHONY: bench-scale
bench-scale: $(READY)  ## seconds that ledger, label split, near duplicates, settling and ingestion take for a thousand to a million images
	@PYTHONPATH=.:tests $(PYTHON) -m benchmarks.scale

.PHONY: tpu-check
tpu-check: $(READY) $(TPU_READY)  ## compile the pretraining step for TPUs, without one: [TARGETS="v3 v4 v5e" PRECISION= PRESET= BATCH=]
	@$(PYTHON) -m infra.tpu.check $(tpu_arguments)

.PHONY: audit
audit: $(UV)  ## known vulnerabilities of all in uv.lock, and its bill of materials in sbom.cdx.json: [OSV=service]
	@$(if $(wildcard $(PYTHON)),,$(require_stack))
	@$(audit_uv) export --quiet --preview-features sbom-export --locked --all-extras --all-groups --format cyclonedx1.5 \
		--output-file sbom.cdx.json >/dev/null
	@$(audit_uv) audit --preview-features audit-command --locked $(call option,--service-url,OSV)

.PHONY: environment
environment: $(READY)  ## the locked dependencies, compiled to bytecode: [STACK=1.21 (Python 3.11-3.13) or 1.16 (Python 3.10)]

# Bytecode is compiled once here: it halves the import time of each run.
$(READY): pyproject.toml uv.lock | $(UV)
	@$(require_stack)
	@echo "installing the locked environment of TFX $(firstword $(CHOSEN)) into .venv (3.5 GB, a minute or two):" \
		"$(wordlist 3,99,$(CHOSEN))"
	@UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never $(UV) sync --quiet --locked --extra pipeline --python "$(CHOSEN_PYTHON)" \
		|| { echo "not installed; if it was pyfarmhash or crcmod that did not build: 'apt-get install g++ $(notdir $(CHOSEN_PYTHON))-dev'"; exit 1; }
	@rm -f .venv/.ready-* && touch .venv/.ready .venv/.ready-$(firstword $(CHOSEN))

# Of its own, since its NumPy cannot live with TensorFlow 2.16.
$(TPU_READY): infra/tpu/requirements.txt | $(UV)
	@$(require_tpu_host)
	@echo "installing the TPU compiler into .venv-tpu (1.2 GB) ..."
	@$(UV) venv --quiet --clear --no-python-downloads --python "$(PYTHON312)" .venv-tpu
	@$(UV) pip sync --quiet --require-hashes --python $(TPU_PYTHON) infra/tpu/requirements.txt
	@touch $@

# Of its own too: what is measured against brings another NumPy, and nothing of it is a dependency of the trainer.
$(BENCH_READY): tests/benchmarks/requirements.txt | $(UV)
	@$(require_python311)
	@echo "installing lightly and PyTorch into .venv-bench (5.3 GB on Linux, whose PyTorch brings CUDA) ..."
	@$(UV) venv --quiet --clear --no-python-downloads --python "$(PYTHON311)" .venv-bench
	@$(UV) pip sync --quiet --require-hashes --python $(BENCH_PYTHON) tests/benchmarks/requirements.txt
	@touch $@

$(UV):
	@$(require_stack)
	@echo "installing uv into .tools ..."
	@{ python3 -m venv .tools || "$(CHOSEN_PYTHON)" -m venv --clear .tools; } >/dev/null 2>&1 \
		|| { echo "a Python 3 with venv is needed to install uv: 'apt-get install python3-venv', or pyenv"; exit 1; }
	@.tools/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement infra/docker/uv.txt

.PHONY: clean
clean:  ## remove the environments; runs stay
	@rm -rf .venv .venv-tpu .venv-bench .tools

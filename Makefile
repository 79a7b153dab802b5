# Thin front to CMake.
BUILD ?= build
PREFIX ?= /usr/local
MAKEFLAGS += --no-print-directory
MLXN = $(BUILD)/cli/mlxn
all: $(BUILD)/CMakeCache.txt
	@cmake --build $(BUILD) --parallel
$(BUILD)/CMakeCache.txt:
	@cmake -S . -B $(BUILD) -DCMAKE_BUILD_TYPE=Release
# A real model continues a prompt; it is fetched the first time.
run: all
	@$(MLXN) info gemma3-270m >/dev/null 2>&1 || $(MLXN) pull gemma3-270m
	@$(MLXN) run --temp 0 -n 48 -p "The capital of France is"
test: all
	@tests/run.sh $(BUILD)
test-full: all
	@tests/run.sh $(BUILD) --full
bench: all
	@$(MLXN) bench -p 512,128 -n 64
	@$(MLXN) bench ops
	@python3 bench/peers/llama.py --mlxn $(MLXN) --rounds 3
install: all
	@cmake --install $(BUILD) --prefix "$(PREFIX)"
format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i
.PHONY: all run test test-full bench install format

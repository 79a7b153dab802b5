# Thin front to CMake.
BUILD ?= build
all: $(BUILD)/CMakeCache.txt
	@cmake --build $(BUILD) --parallel
$(BUILD)/CMakeCache.txt:
	@cmake -S . -B $(BUILD) -DCMAKE_BUILD_TYPE=Release
test: all
	@$(BUILD)/tests/mlxn-test
test-full: all
	@$(BUILD)/tests/mlxn-test --full
format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i
.PHONY: all test test-full format

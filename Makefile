# The thin face of the CMake build. `make help` says what there is.

PREFIX ?= /usr/local
DESTDIR ?=
PROMPT ?= Explain in one paragraph why the sky is blue.
MODELS := $(shell scripts/models.sh --dir)
SMOLLM2 := $(MODELS)/SmolLM2-135M-Instruct.Q4_1.gguf

.PHONY: all run test test-all sim bench bench-kernels install npm clean format help packages fuzz

all: build/hearth

help:
	@echo 'make            build build/hearth'
	@echo 'make run        install what is missing, build, fetch a small real model, answer PROMPT="…"'
	@echo 'make test       the tests that every change must pass'
	@echo 'make test-all   these, the sanitizers, and what takes longer'
	@echo 'make sim        the simulator of conversations, seeds SEEDS="1 10000"'
	@echo 'make bench      measure MODEL=… (a made-up one of a billion parameters) beside the limits of this machine'
	@echo 'make bench-kernels  the same for the products of each type, in each tier'
	@echo 'make fuzz       each fuzz target for FUZZ_SECONDS (60)'
	@echo 'make install    into PREFIX (/usr/local), below DESTDIR'
	@echo 'make npm        the npm packages, with an executable for every Linux, into build-npm/'
	@echo 'make format     clang-format over the tree'
	@echo 'make clean      remove the build directories'

packages:
	@scripts/packages.sh

build/build.ninja: | packages
	@cmake --preset release > /dev/null

build/hearth: build/build.ninja FORCE
	@cmake --build --preset release --target hearth

FORCE:

run: build/hearth
	@scripts/models.sh smollm2
	@build/hearth run $(SMOLLM2) "$(PROMPT)" --temp 0

test: packages
	@scripts/test.sh

test-all: packages
	@scripts/test.sh --all

SEEDS ?= 1 10000
sim: build/build.ninja
	@cmake --build --preset release --target sim
	@build/tests/sim/sim $(SEEDS)

bench: build/hearth
	@build/hearth bench $(or $(MODEL),--synthetic llama-1b:Q4_K_M) -p 16,64,512 -d 0,2000 -b 1,4

bench-kernels: build/build.ninja
	@cmake --build --preset release --target bench_kernel
	@build/tests/kernel/bench_kernel

fuzz: packages
	@scripts/fuzz.sh

install: build/build.ninja
	@cmake --build --preset release --target hearth hearth_manual libhearth
	@DESTDIR='$(DESTDIR)' cmake --install build --prefix '$(PREFIX)'

npm: packages
	@scripts/npm-packages.sh

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	rm -rf build build-debug build-asan build-tsan build-fuzz build-arm64 build-npm

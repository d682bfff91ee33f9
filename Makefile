# Everything that is done to this repository by hand or by CI. Each target
# installs or builds what it needs; Go and make must be there.

GO        ?= go
FUZZTIME  ?= 10s
# -race slows tests down and CI machines are small: generous, but not endless.
TESTFLAGS ?= -timeout=40m

TOOLS := bin/tools

.PHONY: all build examples test lint fmt-check vet staticcheck fuzz cover cross quickstart torture failover soak bench-start bench-discovery bench-join bench-sync bench-behaviour bench-balance cgroup2 ci setup clean

all: build examples lint test

## build: the command, as bin/budgie
build:
	$(GO) build -o bin/budgie ./cmd/budgie

## examples: every program below examples/, as bin/examples/NAME
examples:
	@mkdir -p bin/examples
	$(GO) build -o bin/examples/ ./examples/...

## test: everything, under the race detector. Root runs all tests, and a test
## that cannot run fails; for anybody else the tests that need root are skipped.
test: setup
	@GO='$(GO)' bash tools/test.sh $(TESTFLAGS)

## setup: install what the tests need of the machine, or say what to install
setup:
	@bash tools/setup.sh

## lint: gofmt, go vet and staticcheck
lint: fmt-check vet staticcheck

fmt-check:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then \
		echo "not formatted, run gofmt -w on:" >&2; echo "$$out" >&2; exit 1; fi

vet:
	$(GO) vet ./...

staticcheck: $(TOOLS)/staticcheck
	$(TOOLS)/staticcheck ./...

# The tools are built from a module of their own, at the versions it pins.
$(TOOLS)/staticcheck: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	$(GO) -C tools build -o ../$(TOOLS)/ honnef.co/go/tools/cmd/staticcheck

## fuzz: every fuzz target for FUZZTIME
fuzz:
	@GO='$(GO)' bash tools/fuzz.sh $(FUZZTIME)

## cover: the packages that decide must be tested to more than 90 %
cover:
	@GO='$(GO)' bash tools/cover.sh

## torture: copies of volumes that follow while everything fails, for TORTURE
TORTURE ?= 1h
torture: setup
	CGO_ENABLED=1 BUDGIE_REQUIRE_ALL=1 BUDGIE_TORTURE=$(TORTURE) $(GO) test -race -count=1 -timeout=0 -v -run=TestTorture ./replica/torture

## failover: five machines, each fails in every way under a constant load; needs root
failover: setup
	CGO_ENABLED=1 BUDGIE_REQUIRE_ALL=1 BUDGIE_FAILOVER=all $(GO) test -race -count=1 -timeout=20m -v -run='TestFailover$$' ./cmd/budgie

## soak: the same in any order, with upgrades in place, for SOAK, by the choices of SEED
SOAK ?= 1h
soak: setup
	CGO_ENABLED=1 BUDGIE_REQUIRE_ALL=1 BUDGIE_SOAK=$(SOAK) BUDGIE_SOAK_SEED=$(SEED) $(GO) test -race -count=1 -timeout=0 -v -run='TestSoak$$' ./cmd/budgie

## cross: everything is valid for the other systems, and the command builds
cross:
	@GO='$(GO)' bash tools/cross.sh

## quickstart: the main example, as somebody with nothing but Go runs it
quickstart:
	@GO='$(GO)' bash tools/quickstart.sh

## bench-start: start time and memory beside Docker and ctr, into docs/benchmarks.md;
## needs root and installs Docker
bench-start:
	$(GO) run ./bench/start

## bench-discovery: how soon hosts learn of each other, and with how many packets,
## into docs/benchmarks.md; needs root
bench-discovery: setup
	$(GO) run ./bench/discovery

## bench-join: an image from peers beside one from a registry, into
## docs/benchmarks.md; needs root
bench-join:
	$(GO) run ./bench/join

## bench-sync: copies of volumes beside rsync, lsyncd and syncthing, into
## docs/benchmarks.md; needs root, installs these
bench-sync:
	$(GO) run ./bench/sync

## bench-behaviour: what nginx, HAProxy, Caddy and Budgie do with requests, good and
## bad, into docs/behaviour.md; needs root to install these
bench-behaviour:
	$(GO) run ./bench/behaviour

## bench-balance: Budgie's proxy beside HAProxy, nginx and Caddy, into
## docs/benchmarks.md; needs root, installs these
bench-balance:
	$(GO) run ./bench/balance

## ci: what CI runs
ci:
	bash .ci/run

clean:
	rm -rf bin

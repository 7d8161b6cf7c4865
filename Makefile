# The commands of this repository. "make" lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory

GO ?= go
PREFIX ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# How long each fuzz target runs, and how often each benchmark.
FUZZTIME ?= 5s
BENCHTIME ?= 1s

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# The version comes from git describe, not from what the Go command stamps: so a
# checkout that belongs to somebody else can be built too.
export GOFLAGS := $(strip $(filter-out -buildvcs=%,$(GOFLAGS)) -buildvcs=false)

# In CI as root nothing may be missing, so no test may skip for want of it.
ifeq ($(CI)$(shell id -u),true0)
FORBID := -forbid 'needs (root|the program|the package|a test host)'
endif

# Tests of a package with a file testdata/testhost run in a throw-away machine with a
# systemd of its own, where one can be booted: see docs/test-hosts.md.
TESTHOST := -exec '"$(CURDIR)/bin/testhost" exec --if-marked'
HOSTED = $(patsubst %/testdata/testhost,%,$(shell find . -path '*/testdata/testhost'))

# One after the other: each step is parallel in itself.
.NOTPARALLEL:

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/mgmt and bin/mgmt-mesh
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/ ./cmd/mgmt ./cmd/mgmt-mesh

.PHONY: install
install: build ## install the programs under PREFIX (/usr/local)
	install -D -m 0755 bin/mgmt $(DESTDIR)$(PREFIX)/bin/mgmt
	install -D -m 0755 bin/mgmt-mesh $(DESTDIR)$(PREFIX)/libexec/mgmt/mgmt-mesh

.PHONY: packages
packages: ## build dist/mgmt*.deb and dist/mgmt*.rpm, the same for the same commit
	@cmd/mgmt/packaging/build dist

.PHONY: run
run: build ## show the hello graph repairing a file in a scratch directory
	@examples/hello/run.sh bin/mgmt

.PHONY: testhost
testhost: ## build bin/testhost, which boots throw-away machines for tests
	@mkdir -p bin
	@$(GO) build -o bin/testhost ./cmd/internal/testhost

.PHONY: test
test: deps check fuzz bench-once testhost ## everything that CI checks
	@echo "== tests, with the race detector"
	@$(GO) run ./cmd/internal/citest $(FORBID) -race -timeout 10m $(TESTHOST) ./...

.PHONY: test-host
test-host: deps testhost ## the tests that run in a throw-away machine alone (as root)
	$(GO) test -race -timeout 10m $(TESTHOST) $(HOSTED)

.PHONY: deps
deps: ## install what the tests need, where that is missing and allowed
	@.ci/deps

.PHONY: check
check: ## gofmt, go vet, golangci-lint, go.mod, generated pages
	@echo "== gofmt"
	@files=$$(find . -name '*.go' -not -path './.git/*' -print0 | xargs -0 gofmt -l); \
	  if [ -n "$$files" ]; then echo "gofmt would change:"; echo "$$files"; exit 1; fi
	@echo "== go vet"
	@$(GO) vet ./...
	@$(MAKE) lint
	@echo "== go.mod"
	@$(GO) mod tidy -diff
	@$(GO) mod verify
	@if [ -d cmd/internal/gendoc ]; then echo "== generated pages"; $(GO) run ./cmd/internal/gendoc -check; fi

.PHONY: lint
lint: ## golangci-lint, built from the Go module proxy at a pinned version
	@echo "== golangci-lint"
	@$(GO) run $(GOLANGCI_LINT) run --allow-parallel-runners ./...

.PHONY: docs
docs: ## write the generated pages anew
	@if [ -d cmd/internal/gendoc ]; then $(GO) run ./cmd/internal/gendoc; else echo "no page is generated yet"; fi

.PHONY: race
race: testhost ## the tests alone, with the race detector
	$(GO) test -race $(TESTHOST) ./...

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (5s)
	@{ grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . || true; } | while IFS=: read -r file decl; do \
	  echo "== fuzz $${decl#func } of $$(dirname "$$file")"; \
	  out=$$($(GO) test -run '^$$' -fuzz "^$${decl#func }$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" 2>&1) || { echo "$$out"; exit 1; }; \
	  done

.PHONY: bench-once
bench-once: testhost ## every benchmark once, to see that it works
	@echo "== benchmarks, once each"
	@out=$$($(GO) test -short -run '^$$' -bench . -benchtime 1x $(TESTHOST) ./... 2>&1) || { echo "$$out"; exit 1; }

.PHONY: bench
bench: build testhost ## measure, and keep the raw output in docs/benchmarks/latest.txt
	@mkdir -p docs/benchmarks
	@{ \
	  echo "date: $$(date -u +%Y-%m-%d), version: $(VERSION)"; \
	  echo "machine: $$(nproc) cores, $$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $$(sed -n 's/^MemTotal: *//p' /proc/meminfo), Linux $$(uname -r), $$($(GO) env GOVERSION)"; \
	  echo "scratch directory: $${TMPDIR:-/tmp} on $$(stat -f -c %T "$${TMPDIR:-/tmp}")"; \
	  $(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) $(TESTHOST) ./... | grep -v -e 'no test files' -e '^PASS$$'; \
	  $(GO) run ./cmd/internal/figures -mgmt bin/mgmt; \
	} | tee docs/benchmarks/latest.txt

.PHONY: soak
soak: testhost ## the long tests: storms, ten thousand files (MGMT_SOAK=1)
	MGMT_SOAK=1 $(GO) test -race -count 1 -timeout 60m $(TESTHOST) -run Soak ./...
	MGMT_SOAK=1 $(GO) test -race -count 1 -timeout 60m -v ./cmd/internal/survival

.PHONY: soak-clock
soak-clock: ## the test of a mesh on a machine whose clock is stepped, as root: that of this one
	MGMT_STEP_CLOCK=1 $(GO) test -count 1 -v -run Clock ./cmd/internal/survival

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist

# `make help` lists the targets. Everything a target needs beyond Go, Node and make is installed by `make deps` where it can be.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BENCH     ?= .
BENCHTIME ?= 1s
FUZZTIME  ?= 10s
GO_TEST   ?= go test -race -timeout 8m
NODE_TEST ?= node --test --test-concurrency=1

GO_FILES = $(shell find . -name node_modules -prune -o -name '*.go' -print)
BROWSER := tests/browser
MODULES := $(BROWSER)/node_modules/.package-lock.json

.PHONY: help
help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.PHONY: build
build: ## Build bin/rollcall
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/rollcall ./cmd/rollcall

.PHONY: generate
generate: ## Generate code from openapi.yaml
	@go generate ./...

.PHONY: fmt
fmt: ## Format the Go code
	@gofmt -w $(GO_FILES)

.PHONY: lint
lint: lint-fmt lint-vet lint-tidy lint-generated ## Check formatting, vet, go.mod and that generated code is current

.PHONY: lint-fmt lint-vet lint-tidy lint-generated
lint-fmt:
	@unformatted=$$(gofmt -l $(GO_FILES)); \
	if [ -n "$$unformatted" ]; then printf 'Not formatted; run make fmt:\n%s\n' "$$unformatted" >&2; exit 1; fi

lint-vet:
	@go vet ./...

lint-tidy:
	@go mod tidy -diff >/dev/null || { echo 'go.mod or go.sum is not tidy; run go mod tidy.' >&2; exit 1; }

# Generates in a copy, so that work which is not committed is checked too and nothing is changed.
lint-generated:
	@copy=$$(mktemp -d); trap 'rm -rf "$$copy"' EXIT; \
	tar -c --exclude=./.git --exclude=./bin --exclude=node_modules . | tar -x -C "$$copy"; \
	(cd "$$copy" && go generate ./...); \
	for file in $(filter %.gen.go,$(GO_FILES)); do \
		cmp -s "$$file" "$$copy/$$file" || { echo "$$file is stale; run make generate." >&2; exit 1; }; \
	done

.PHONY: test
test: deps lint test-go test-js test-browser ## Run every check and test
	@echo 'All checks and tests passed.'

.PHONY: test-go
test-go: ## Run the Go tests under the race detector
	@$(GO_TEST) ./...

.PHONY: test-js
test-js: build $(MODULES) ## Run the README's commands against the binary
	@cd $(BROWSER) && $(NODE_TEST) readme.test.mjs

.PHONY: test-browser
test-browser: build $(MODULES) ## Run the demo in Chromium, and three readers of the same streams
	@go build -o bin/r3labs-reader ./$(BROWSER)/r3labs-reader
	@cd $(BROWSER) && $(NODE_TEST) demo.test.mjs readers.test.mjs reconnect.test.mjs

.PHONY: bench
bench: ## Run the benchmarks (BENCH=regexp BENCHTIME=1s)
	@go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem ./...

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZTIME=10s
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' "$$package" | grep '^Fuzz' || true); do \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$package"; \
		done; \
	done

.PHONY: deps
deps: ## Install what the tests need and this machine lacks
	@tests/deps.sh
	@$(MAKE) --no-print-directory $(MODULES)

$(MODULES): $(BROWSER)/package.json $(BROWSER)/package-lock.json
	@cd $(BROWSER) && npm ci --loglevel=error --no-audit --no-fund
	@touch $@

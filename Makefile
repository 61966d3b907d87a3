# `make help` lists the targets. What they need beyond Go, Node and make, `make deps` installs where it can.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BENCH     ?= .
BENCHTIME ?= 1s
FUZZTIME  ?= 10s
GO_TEST   ?= go test -race -count 1 -p 1 -timeout 8m
NODE_TEST ?= node --test --test-concurrency=1 --test-reporter=spec

GO_FILES  = $(shell find . -name node_modules -prune -o -name '*.go' -print)
GENERATED = $(filter %.gen.go,$(GO_FILES)) $(wildcard api/pages/rollcall.js)
CLIENT    = clients/js
BROWSER   = tests/browser
MODULES   = $(addsuffix /node_modules/.package-lock.json,$(CLIENT) $(BROWSER))

.PHONY: help
help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.PHONY: build
build: ## Build bin/rollcall
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/rollcall ./cmd/rollcall

.PHONY: generate
generate: $(MODULES) ## Generate code from openapi.yaml, and the browser client that a node serves
	@go generate ./...
	@npm run --silent build --prefix $(CLIENT)

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
lint-generated: $(MODULES)
	@copy=$$(mktemp -d); trap 'rm -rf "$$copy"' EXIT; \
	tar -c --exclude=./.git --exclude=./bin --exclude=node_modules . | tar -x -C "$$copy"; \
	ln -s "$(CURDIR)/$(CLIENT)/node_modules" "$$copy/$(CLIENT)/"; \
	(cd "$$copy" && go generate ./... && npm run --silent build --prefix $(CLIENT)); \
	for file in $(GENERATED); do \
		cmp -s "$$file" "$$copy/$$file" || { echo "$$file is stale; run make generate." >&2; exit 1; }; \
	done

.PHONY: test
test: deps lint test-go test-js test-browser ## Run every check and test
	@echo 'All checks and tests passed.'

# One package at a time, because some measure how long things take; and never from the cache, which does not know that tests of the
# whole program depend on it.
.PHONY: test-go
test-go: ## Run the Go tests under the race detector
	@go build -race ./...
	@$(GO_TEST) ./...

.PHONY: test-js
test-js: build $(MODULES) ## Run the tests of the JavaScript client, and the README's commands
	@npm test --silent --prefix $(CLIENT)
	@cd $(BROWSER) && $(NODE_TEST) readme.test.mjs

.PHONY: test-browser
test-browser: build $(MODULES) ## Run the demo in Chromium, and three readers of the same streams
	@go build -o bin/r3labs-reader ./$(BROWSER)/r3labs-reader
	@cd $(BROWSER) && $(NODE_TEST) $(filter-out readme.test.mjs,$(notdir $(wildcard $(BROWSER)/*.test.mjs)))

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

%/node_modules/.package-lock.json: %/package.json %/package-lock.json
	@cd $* && npm ci --loglevel=error --no-audit --no-fund >/dev/null
	@touch $@

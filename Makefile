# make up     build and run a whole node with a demo site
# make test   install what the tests need, and run them all
# make help   the rest
SHELL := /bin/bash
export CGO_ENABLED ?= 0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOFLAGS_BUILD := -trimpath -ldflags "-s -w -X selvage/node.Version=$(VERSION)"
# Tests whose time goes to SQLite alone, which is Go here, or to much of everything: with the race detector they would take an hour.
SLOW_WITH_RACE := ^(TestMemoryIsBounded|TestLargeResults|TestLargeResultsTogether|TestManyMessagesAndQueues)$$
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: up build engines test test-setup test-go test-clients lint fuzz bench help
.DEFAULT_GOAL := help

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

up: build ## Build, and run a whole node with a demo site (DATA=folder to keep it in)
	@hack/setup-engines || echo "workerd could not be fetched: Workers will not run until make engines succeeds; all else does" >&2
	@exec bin/selvage up --demo $(if $(DATA),--data $(DATA))

build: ## Build bin/selvage, one static file
	@for i in 1 2 3 4; do go mod download && break || sleep $$((i * 2)); done
	@go build $(GOFLAGS_BUILD) -o bin/selvage ./cmd/selvage

engines: ## Fetch workerd, which Workers run in, to bin/workerd
	@hack/setup-engines

test: test-setup lint test-go test-clients ## Install what the tests need and run them all

test-setup: ## Install what the tests need (Debian packages, JavaScript clients, workerd)
	@hack/setup-tests
	@hack/setup-engines

test-go: build ## The module's own tests, with the race detector
	CGO_ENABLED=1 go test -race -timeout 30m -skip '$(SLOW_WITH_RACE)' ./...
	go test -timeout 10m -run '$(SLOW_WITH_RACE)' ./engine/sqlite ./product/d1 ./product/queues/backlog

test-clients: build ## Real clients and servers of other people against the real program
	CGO_ENABLED=1 go build -race -o bin/selvage-race ./cmd/selvage
	SELVAGE_BIN=$(CURDIR)/bin/selvage SELVAGE_RACE_BIN=$(CURDIR)/bin/selvage-race go -C clients test -timeout 40m ./...

lint: ## gofmt, go vet and staticcheck
	@files=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$files" ] || { echo "not gofmt-ed:"; echo "$$files"; exit 1; }
	go vet ./...
	go -C clients vet ./...
	go -C bench vet ./...
	go run $(STATICCHECK) ./...

bench: build ## Measure against peers; results go to bench/results
	bench/run

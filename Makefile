# activityfeed. `make help` lists what there is; tools are pinned here and live
# in .tools/, nothing is installed outside it but the engines' cache and, where
# it may, Debian's redis-server.

GO             ?= go
TOOLS          := $(CURDIR)/.tools
BIN            := $(TOOLS)/bin
BUF            := $(TOOLS)/node_modules/.bin/buf
KAFKA_JARS     := $(TOOLS)/apache-kafka
ACTIVITYFEED   := bin/activityfeed

BUF_VERSION              := 1.75.0
PROTOC_GEN_GO_VERSION    := v1.36.12
PROTOC_GEN_GRPC_VERSION  := v1.6.2
PROTOVALIDATE_VERSION    := v1.2.2
GOLANGCI_LINT_VERSION    := v2.12.2

# Test binaries wait for engines and brokers; a hung one should say where.
TEST_FLAGS ?= -race -timeout 15m

.DEFAULT_GOAL := help
.PHONY: help build run demo test test-kafka lint generate check-generate engines redis browser load-slashdot bench clean ci

help: ## list the targets
	@bold= plain=; if [ -t 1 ]; then bold=$$(printf '\033[1m') plain=$$(printf '\033[0m'); fi; \
	  awk -v bold="$$bold" -v plain="$$plain" 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %s%-16s%s%s\n", bold, $$1, plain, $$2}' $(MAKEFILE_LIST)

build: ## compile the one binary to bin/activityfeed
	@$(GO) build -o $(ACTIVITYFEED) ./cmd/activityfeed

run: build engines redis ## start everything embedded and keep it up
	@$(ACTIVITYFEED) serve

demo: build engines redis ## one photo's way through the whole system, then stop
	@$(ACTIVITYFEED) demo

test: engines redis browser ## all tests, on real Redis, real ClickHouse and a real browser
	$(GO) test $(TEST_FLAGS) ./...

test-kafka: $(KAFKA_JARS)/.done ## conformance and our own suite on a real Apache Kafka
	ACTIVITYFEED_KAFKA_JARS=$(KAFKA_JARS) $(GO) test $(TEST_FLAGS) -count=1 ./internal/kafka/... ./internal/testenv/apachekafka/...

# Its usual cache is one for all checkouts, and reports findings of those that are gone.
lint: $(BIN)/golangci-lint $(BUF) $(TOOLS)/protovalidate/.done ## golangci-lint, buf lint and format
	GOLANGCI_LINT_CACHE=$(TOOLS)/lint-cache $(BIN)/golangci-lint run
	$(BUF) lint
	$(BUF) format -d --exit-code proto

generate: $(BUF) $(BIN)/protoc-gen-go $(BIN)/protoc-gen-go-grpc $(TOOLS)/protovalidate/.done ## Go code from proto/
	$(BUF) generate

check-generate: generate ## fail if the generated code is not what is committed
	@git diff --exit-code -- proto || { echo "proto/: run 'make generate' and commit"; exit 1; }

engines: ## fetch the embedded ClickHouse engine into the cache (178 MB, once)
	@scripts/engines.sh

redis: ## make redis-server available, where that needs no password
	@scripts/redis.sh

browser: ## make a Chromium available for the tests of the web pages, where that needs no password
	@scripts/browser.sh

load-slashdot: build ## replay Slashdot's graph of 2009 into the running server: GRAPH=FILE
	@test -f "$(GRAPH)" || { echo "load-slashdot: give GRAPH=FILE, soc-Slashdot0902.txt.gz of https://snap.stanford.edu/data"; exit 1; }
	@$(ACTIVITYFEED) load --graph "$(GRAPH)" --posts 100000 --deletes 0.05 --unfollows 0.05 --blocks 0.01

bench: build redis ## print the measured ratios beside their ceilings
	@$(ACTIVITYFEED) bench fanout
	@$(ACTIVITYFEED) bench subscriber
	@$(ACTIVITYFEED) bench push

clean: ## remove the binary and the data of `make run`
	rm -rf bin activityfeed-data

ci: ## what runs before anything lands
	.ci/run

$(BUF):
	@mkdir -p $(TOOLS)
	npm install --silent --no-save --no-package-lock --prefix $(TOOLS) @bufbuild/buf@$(BUF_VERSION)

$(BIN)/protoc-gen-go:
	GOBIN=$(BIN) $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO_VERSION)

$(BIN)/protoc-gen-go-grpc:
	GOBIN=$(BIN) $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GRPC_VERSION)

$(BIN)/golangci-lint:
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

# The rules' definitions come from a Go module, so no schema registry is asked.
$(TOOLS)/protovalidate/.done:
	@mkdir -p $(@D)/buf/validate
	@dir=$$($(GO) mod download -json github.com/bufbuild/protovalidate@$(PROTOVALIDATE_VERSION) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p') && \
	  install -m 644 "$$dir/proto/protovalidate/buf/validate/validate.proto" $(@D)/buf/validate/validate.proto
	@touch $@

$(KAFKA_JARS)/.done: internal/testenv/apachekafka/pom.xml
	mvn --batch-mode --quiet -f $< dependency:copy-dependencies -DoutputDirectory=$(KAFKA_JARS)
	@touch $@

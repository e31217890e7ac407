# The index of what there is to do: `make help`.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MODULE := github.com/sofatutor/caddy-llm-proxy
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X github.com/caddyserver/caddy/v2.CustomVersion=caddy-llm-proxy/$(VERSION) -X github.com/caddyserver/caddy/v2.CustomBinaryName=caddy
SITE := $(or $(LLM_PROXY_SITE),localhost:8443)
PKGS ?= ./...
# SQLite is C made Go: all its pointers are unsafe, and checking each takes longer
# than the rest of a test.
RACE := -race -gcflags='modernc.org/...=-d=checkptr=0'
PRICES_PACKAGE := @pydantic/genai-prices
PRICES_VERSION := 0.1.8
PRICES_DATE := 2026-09-23
PRICES_INTEGRITY := sha512-h7CYw6qTyflG2zUndO8tXyL8Xopf+tX9JZu13h0ZFgeyYj+J2gm1edR4+R+mbQ2vPdkFjtTmmmu1cYQPM5/KTA==

.PHONY: help build run demo test fuzz soak bench prices check fmt clean

help: ## Show this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

build: ## Build bin/caddy
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/caddy ./caddymodule/llm-proxy

run: build ## Run bin/caddy with Caddyfile.example: SQLite in ./data, https://localhost:8443
	@mkdir -p data && chmod 700 data && echo 'https://$(SITE)' > data/url
	@echo
	@echo '  API         https://$(SITE)/v1'
	@echo '  Management  https://$(SITE)/manage  (token in data/management-token)'
	@echo '  Root CA     data/caddy/pki/authorities/local/root.crt  (unless LLM_PROXY_SITE is a public name)'
	@echo
	@exec bin/caddy run --config Caddyfile.example --adapter caddyfile

demo: build ## Show the main job with the built-in provider simulator; needs no account
	@deploy/demo.sh

test: ## Run every test, with the race detector, the real binary on both databases
	@.ci/ensure test
	go test $(RACE) -timeout 15m $(PKGS)
	LLM_PROXY_TEST_DATABASE=postgres go test $(RACE) -timeout 15m -skip 'TestCLI|TestCertificate|TestBadConfigs|TestDemo|TestReadme|TestMakeTargets|TestTorture|TestUsedUp|TestClock|TestCacheSuite' ./e2e

fuzz: ## Run each fuzz target for FUZZTIME (default 30s)
	@.ci/fuzz $(or $(FUZZTIME),30s)

soak: ## Run the properties and the torture tests SOAK times as long (default 20)
	@.ci/ensure test
	go test -timeout 6h $$(git grep -l pgregory.net/rapid -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's,^,./,') -rapid.checks=$$((100 * $(or $(SOAK),20)))
	go test $(RACE) -timeout 6h -count $(or $(SOAK),20) -run 'TestTorture|TestUsedUp|TestKilled|TestCache' ./e2e

bench: build ## Measure against plain Caddy and write bench/RESULTS.md
	@.ci/ensure bench
	go run ./bench -out bench/RESULTS.md

prices: ## Make the embedded price table from npm's package of the version above
	@command -v npm >/dev/null || { echo "npm is missing: install Node.js" >&2; exit 1; }
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
		npm pack --silent --pack-destination "$$dir" $(PRICES_PACKAGE)@$(PRICES_VERSION) >/dev/null && \
		go run ./internal/price/generate -integrity '$(PRICES_INTEGRITY)' -date $(PRICES_DATE) "$$dir"/*.tgz

check: ## gofmt, vet, staticcheck, layering, tidiness
	@.ci/ensure check
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt these: $$out" >&2; exit 1; fi
	go vet ./...
	go tool -modfile=.ci/tools/go.mod staticcheck ./...
	go mod tidy -diff
	go test -count=1 ./internal/layering

fmt: ## Format the code
	gofmt -w $$(git ls-files '*.go')

clean: ## Remove what was built; data/ stays
	rm -rf bin

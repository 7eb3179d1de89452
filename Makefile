# The words of this project. `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NODE_MODULES := userscript/node_modules
CLIENTS := .clients
CLIENTS_READY := $(CLIENTS)/openai-2/.ready $(CLIENTS)/aider/.ready tests/clients/node_modules/.ready
BROWSERS := chromium chromium-browser google-chrome microsoft-edge
SERVERS := /usr/sbin/apache2 /usr/lib/apache2/modules/mod_passenger.so /usr/sbin/nginx /usr/bin/caddy /usr/bin/sqlite3
SERVER_PACKAGES := apache2-bin libapache2-mod-passenger nginx caddy sqlite3
SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help setup chromium clients servers run demo test check bench soak userscript dist

help: ## list these words
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## make the virtual environment with everything in it

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make setup PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "Python's venv is missing; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[agent,dev]'
	@touch $@

run: setup ## run a hub on 127.0.0.1:8080 with its data in ./data
	$(BIN)/lmarena-hub serve

demo: setup chromium ## start a hub and a browser tab, ask a question, show the answer (ONCE=1: then stop)
	@$(BIN)/python -m tests.demo $(if $(ONCE),--once)

check: setup ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check chromium clients servers $(NODE_MODULES)/.ready ## everything: lint, types, pytest, node
	@# What takes minutes of waiting runs beside the rest.
	@$(BIN)/python -m pytest -m long > .long.log 2>&1 & long=$$!; \
	$(BIN)/python -m pytest && $(BIN)/node --test tests/userscript/*.test.js; status=$$?; \
	if test $$status != 0; then kill $$long 2>/dev/null; exit $$status; fi; \
	wait $$long; status=$$?; cat .long.log; exit $$status

bench: setup ## measure the hub against the floor
	$(BIN)/python -m benchmarks.relay

soak: setup ## random faults for SECONDS, then proof that nothing was lost
	$(BIN)/python -m tests.soak --seconds $(SECONDS)

userscript: setup $(NODE_MODULES)/.ready ## bundle the userscript into userscript/dist and test its modules
	$(BIN)/node userscript/build.js
	$(BIN)/node --test tests/userscript/*.test.js

$(NODE_MODULES)/.ready: userscript/package-lock.json | $(VENV)/.ready
	$(BIN)/npm ci --prefix userscript
	@touch $@

clients: setup $(CLIENTS_READY) ## install the clients that tests run and that need a place of their own

$(CLIENTS)/%/.ready: tests/clients/%.txt
	@# Apart from .venv: each wants other versions of what the rest needs.
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

tests/clients/node_modules/.ready: tests/clients/package-lock.json | $(VENV)/.ready
	$(BIN)/npm ci --prefix tests/clients
	@touch $@

chromium: ## make sure that there is a browser (as root on Debian: install it)
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit; done; \
	{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
	  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
	|| echo "There is no Chromium here: install it with your system's package manager. Until then browser tests are skipped."

servers: ## make sure that there are Apache with Passenger, nginx and Caddy (as root on Debian: install them)
	@missing=$$(for file in $(SERVERS); do test -e $$file || echo $$file; done); \
	test -z "$$missing" && exit; \
	{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
	  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(SERVER_PACKAGES); } \
	|| echo "Not all servers are here ($$missing): install $(SERVER_PACKAGES). Until then their tests are skipped."

dist: setup ## build the wheel, the source archive and the zip for cPanel into dist/
	$(BIN)/python -m build --outdir dist
	$(BIN)/python deploy/cpanel/pack.py dist/*.whl

# Warren. As root on Debian 12 or 13: `make demo` shows the main job, `make test` runs every test.
VENV := .venv
KEEP ?=

.PHONY: help install install-system uninstall-system image-test trixie-test kernel-test demo test unit check differential bench clean

help:            ## the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

install: $(VENV)/.done  ## Debian packages and .venv

$(VENV)/.done: setup.py scripts/install-debian scripts/install-venv
	scripts/install-debian
	scripts/install-venv $(VENV)
	touch $@

install-system:  ## Warren on this host: /opt/warren, systemd units, /etc/warren/warren.env (WARREN_VTEP, WARREN_ETCD; WARREN_UNDERLAY=cloud)
	scripts/install-system install

uninstall-system: ## removes what install-system has installed
	scripts/install-system remove

demo: install    ## three hosts, two networks with one subnet, packets; KEEP=1 leaves it up
	PATH=$(CURDIR)/$(VENV)/bin:$$PATH $(VENV)/bin/python -m tools.lab.demo $(if $(KEEP),--keep)

demo-sites: install ## three sites of two hosts, WireGuard between them; KEEP=1 leaves it up
	PATH=$(CURDIR)/$(VENV)/bin:$$PATH $(VENV)/bin/python -m tools.lab.demo_sites $(if $(KEEP),--keep)

test: install    ## everything; the last lines say what passed, what failed and what was skipped
	scripts/test $(VENV)

unit: install    ## the inner loop: tests without root and processes, property tests with few examples; under a minute
	HYPOTHESIS_PROFILE=quick $(VENV)/bin/python -m pytest -p no:cacheprovider tests/unit tests/test_architecture.py

check: install   ## format, lint, types, architecture: seconds
	scripts/check $(VENV)

image-test: install ## build the image on a fresh Debian, start the compose stack and the managed plugin (part of `make test`)
	scripts/test-image $(VENV)

trixie-test: install ## a fresh Debian 13: make install, unit tests, the demo (part of `make test`)
	scripts/test-debian

kernel-test: install ## end-to-end tests on the kernel's datapath, in an emulated machine (part of `make test`)
	scripts/test-kernel $(VENV)

pxe-test: install ## an emulated machine boots over a network of Warren
	scripts/test-pxe $(VENV)

differential: install ## Warren's ACLs against FAUCET's own compiler, in a virtual environment of its own
	[ -x .venv-faucet/bin/faucet ] || tests/differential/install
	$(VENV)/bin/python -m pytest -q -s tests/differential

bench: install   ## measure: a table, and benchmarks/results.json
	PATH=$(CURDIR)/$(VENV)/bin:$$PATH $(VENV)/bin/python -m benchmarks

clean:           ## removes build products
	rm -rf $(VENV) .venv-faucet build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

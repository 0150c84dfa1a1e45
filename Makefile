# Warren. As root on Debian 12: `make demo` shows the main job, `make test` runs every test.
VENV := .venv
KEEP ?=

.PHONY: help install demo test check bench clean

help:            ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

install: $(VENV)/.done  ## Debian packages and .venv

$(VENV)/.done: setup.py scripts/install-debian scripts/install-venv
	scripts/install-debian
	scripts/install-venv $(VENV)
	touch $@

demo: install    ## three hosts, two networks with one subnet, packets; KEEP=1 leaves it up
	PATH=$(CURDIR)/$(VENV)/bin:$$PATH $(VENV)/bin/python -m lab.demo $(if $(KEEP),--keep)

test: install check  ## everything
	scripts/test $(VENV)

check: install   ## format, lint, types, architecture: seconds
	scripts/check $(VENV)

bench: install   ## measure: a table, and benchmarks/results.json
	PATH=$(CURDIR)/$(VENV)/bin:$$PATH $(VENV)/bin/python -m benchmarks

clean:           ## what was built
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

PYTHON ?= python3
MASKAL := .venv/bin/maskal
PROCESSES ?= 2
PYTEST := .venv/bin/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: setup demo test test-all check lint format chromium nginx faketime constraints-check clean

setup:  ## build .venv and .venv-labelstudio, or do nothing where they are up to date
	@env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV $(PYTHON) bootstrap.py

demo: setup  ## Label Studio, backend, worker and Redis with a ready project; ARGS="..." are options of `maskal demo`
	@exec $(MASKAL) demo $(ARGS)

test: setup chromium nginx check  ## everything but what takes minutes and proves little more
	$(PYTEST) -m "not slow"

test-all: setup chromium nginx faketime check  ## everything that this machine can run
	$(PYTEST)

check: setup  ## lint, format and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

lint: check

format: setup
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

chromium:  ## a browser for the browser test: there already, or by Debian's package as root; else a hint
	@if command -v chromium google-chrome chromium-browser >/dev/null 2>&1 || ls "$$HOME"/.cache/ms-playwright/chromium*/ >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "installing chromium for the browser test"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } >/dev/null 2>&1 \
			|| echo "chromium could not be installed; the browser test is skipped"; \
	else echo "no browser for the browser test: install chromium, or run .venv/bin/playwright install chromium"; fi

nginx:  ## a proxy for the tests behind one: there already, or Debian's packages unpacked here, not installed; else a hint
	@if PATH="$$PATH:/usr/sbin:.venv/nginx/usr/sbin" command -v nginx >/dev/null 2>&1; then :; \
	elif command -v apt-get >/dev/null 2>&1; then \
		echo "fetching nginx for the tests behind a proxy"; \
		if [ "$$(id -u)" = 0 ]; then apt-get update -qq >/dev/null 2>&1 || :; fi; \
		mkdir -p .venv/nginx && cd .venv/nginx && { apt-get download -qq nginx; apt-get download -qq nginx-core; } >/dev/null 2>&1; \
		for package in *.deb; do dpkg-deb -x "$$package" . 2>/dev/null || :; done; rm -f *.deb; \
		[ -x usr/sbin/nginx ] || echo "nginx could not be fetched; the tests behind a proxy are skipped"; \
	else echo "no nginx for the tests behind a proxy: install nginx"; fi

faketime:  ## a library for the tests of clocks that step: there already, or Debian's package unpacked here; else a hint
	@if ls /usr/lib/*/faketime/libfaketime.so.1 .venv/faketime/usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1; then :; \
	elif command -v apt-get >/dev/null 2>&1; then \
		echo "fetching libfaketime for the tests of clocks that step"; \
		if [ "$$(id -u)" = 0 ]; then apt-get update -qq >/dev/null 2>&1 || :; fi; \
		mkdir -p .venv/faketime && cd .venv/faketime && apt-get download -qq libfaketime >/dev/null 2>&1; \
		for package in *.deb; do dpkg-deb -x "$$package" . 2>/dev/null || :; done; rm -f *.deb; \
		ls usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || echo "libfaketime could not be fetched; its tests are skipped"; \
	else echo "no libfaketime for the tests of clocks that step: install it"; fi

constraints-check: setup  ## do the constraints resolve for every Python that we name?
	.venv/bin/python -m tests.constraints_check

clean:  ## remove the environments and what the demo keeps
	rm -rf .venv .venv-labelstudio .demo

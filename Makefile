.DEFAULT_GOAL := help
.PHONY: help check format lint types test versions chaos demo up lock

help:  ## What there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

check: lint types test  ## Everything that must be green

format:  ## Format the code
	uv run ruff format
	uv run ruff check --fix

lint:  ## Formatting and lint
	uv run ruff format --check
	uv run ruff check

types:  ## Strict types
	uv run mypy

test:  ## The tests, against real Postgres
	uv run pytest

versions:  ## The contract on every PostgreSQL this machine has
	uv run python -m tests.versions

chaos:  ## Twenty minutes of faults, and whether the promise held
	uv run python -m tests.chaos --minutes 20

demo:  ## Six tasks, two slots, and a witness
	uv run lockgate demo

up:  ## Everything on this machine
	uv run lockgate up

lock:  ## Write requirements.lock anew
	uv export --quiet --no-dev --no-emit-project --no-annotate --no-header --format requirements-txt \
	  --output-file requirements.lock

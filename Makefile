.DEFAULT_GOAL := help
.PHONY: help check format lint types test versions quick proof chaos fuzz mutants bench bench-peers soak screenshots demo up all down logs-app logs-worker psql lock

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

quick:  ## The half of the tests that takes under four minutes
	uv run pytest -n 3 tests/schema tests/runner tests/client

versions:  ## The contract on every PostgreSQL this machine has
	uv run python -m tests.versions

proof:  ## Two hours of faults in pieces, whose figures are added up in docs/reliability.md
	uv run python -m tests.proof

chaos:  ## Twenty minutes of faults, and whether the promise held
	uv run python -m tests.faults.chaos --minutes 20

fuzz:  ## Ten minutes of requests that the API allows and that it does not
	uv run python -m tests.fuzz --seconds 600

mutants:  ## Every guard weakened once: does a test notice
	uv run python -m tests.mutants

bench:  ## Half an hour of measurements, into docs/performance.md
	uv run python -m bench --into docs/performance.md

bench-peers:  ## A quarter of an hour beside other task queues, which it installs, into docs/performance.md
	uv run python -m bench.peers --into docs/performance.md

soak:  ## Hours of them: 1.5 million tasks, reads of ten million, each index, who waits, an old transaction, the page
	uv run python -m bench.soak --into docs/performance.md
	uv run python -m bench.reads --into docs/performance.md
	uv run python -m bench.indexes --into docs/performance.md
	uv run python -m bench.waiting --into docs/performance.md
	uv run python -m bench.old_transaction --minutes 10 --into docs/performance.md
	uv run python -m bench.page_load --into docs/performance.md
	uv run python -m bench.page_hour --into docs/performance.md

screenshots:  ## The pictures in docs/screenshots, of a system that lives meanwhile
	uv run python -m tests.page.screenshots

demo:  ## Six tasks, two slots, and a witness
	uv run lockgate demo

up:  ## Everything on this machine
	uv run lockgate up

all:  ## Everything in containers, with the broker
	docker compose --profile amqp up --build --wait

down:  ## Stop the containers; their data stays
	docker compose --profile '*' down

logs-app:  ## What the service says
	docker compose logs --follow service

logs-worker:  ## What the runners say
	docker compose logs --follow runner

psql:  ## The database in its container: select * from queue_overview \watch 1
	docker compose exec db psql -U lockgate_app_operator -d lockgate

EXPORT = uv export --quiet --no-emit-project --no-annotate --no-header --format requirements-txt

lock:  ## Write requirements.lock and requirements-build.lock anew
	$(EXPORT) --no-dev --extra amqp --output-file requirements.lock
	$(EXPORT) --only-group build --output-file requirements-build.lock

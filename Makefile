# make demo   build Selvedge and tell its main story end to end (DATA=journey.csv for a journey of your own,
#             KEEP=1 to leave the network running and its web page open)
# make test   build and run all tests
# make lint   formatting and clippy, as CI runs them
# Each installs what is missing. The first build takes 20 to 30 minutes on two cores (test: 30 to 40): RocksDB is built
# from source.

.PHONY: demo test lint

demo:
	@scripts/demo.sh

test:
	@scripts/test.sh

lint:
	@scripts/lint.sh

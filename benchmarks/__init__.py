"""`python -m benchmarks`: the service against its peers, interleaved in one run, into docs/performance.md."""

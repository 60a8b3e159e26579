"""The service under load over HTTP: `python -m benchmarks.http`."""

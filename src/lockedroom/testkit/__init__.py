"""Fakes and conformance suites for people who write policies, scorers and backends of their own."""

"""The data plane's vocabulary: tables and registers, flows and groups as values."""

"""One pure function per feature: view to flows."""

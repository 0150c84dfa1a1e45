"""The view of one host, updated change by change; intent/views.py is the meaning."""

"""`python -m tools.graph`."""

from tools.graph.main import main

main()

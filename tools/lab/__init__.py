"""A throw-away laboratory: several hosts on one machine, each a network namespace with its own Open vSwitch."""

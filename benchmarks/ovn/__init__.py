"""`python -m benchmarks ovn`: Warren beside OVN, with the same endpoints, rules and Open vSwitch, in turns."""

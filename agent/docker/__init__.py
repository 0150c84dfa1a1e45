"""Docker's network and IPAM driver."""

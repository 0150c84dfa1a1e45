"""Connections of this host, in the datapath and in its netfilter: those that today's specs do not allow end."""

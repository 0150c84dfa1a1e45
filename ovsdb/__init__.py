"""Warren's rows in Open vSwitch's database: the rows as values (pure), and the client that reads and writes them."""

import warnings

# the ovs package imports eventlet wherever it is installed, and newer eventlets warn whoever imports them
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
